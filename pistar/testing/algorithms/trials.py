"""Short trainings, recorded so that two of them can be laid side by side bit for bit."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pistar import configuration, serialization
from pistar.algorithms.algorithm import Algorithm
from pistar.experiment import Experiment, resolve
from pistar.session import Session
from pistar.settings import table_of
from pistar.tasks import TASKS
from pistar.tasks.task import Actions, Task
from pistar.testing.algorithms.rules import violate

KIND = "pistar-check"
PATIENCE = 50  # iterations within which the first parameter must move


@dataclass(frozen=True)
class Trial:
    """One call of ``check_algorithm``: what every training in it has in common."""

    algorithm: Algorithm
    policy: Any  # a policy kind, its name or a table; None: the recipe's
    training: Mapping[str, Any]  # fields of [training] over the recipe's
    actions: Actions
    seed: int

    def experiment(self, task: Task) -> Experiment:
        """The algorithm on a task, with its recipe, the task's and the caller's settings in this order."""
        tables: dict[str, Any] = {"algorithm": table_of("algorithm", self.algorithm)}
        tables["training"] = {"seed": self.seed, **self.training}
        if self.policy is not None:
            tables["policy"] = table_of("policy", self.policy)
        kind = {"kind": TASKS.kind_of(task), **configuration.to_table(task)}
        experiment = resolve(kind, (tables, "check_algorithm"))
        return dataclasses.replace(experiment, algorithm=self.algorithm)


@dataclass
class Record:
    """What a stretch of training did: the metrics of every iteration, and the whole state after the last."""

    first: int  # number of its first iteration
    metrics: list[dict[str, float]] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)  # as a file keeps it


def reread(experiment: Experiment) -> Experiment:
    """The same experiment from its own TOML, with instances that no earlier training has touched."""
    return Experiment.from_table(tomllib.loads(configuration.to_toml(experiment.to_table())), "check_algorithm")


@contextmanager
def session(experiment: Experiment, state: dict[str, Any] | None = None) -> Iterator[Session]:
    """A session that has begun, or one that continues from ``state``; its environment is closed afterwards."""
    opened = Session(experiment, resumed=state is not None)
    try:
        if state is None:
            opened.collector.start(experiment.training.warm_up)
        else:
            opened.restore(state)
        yield opened
    finally:
        opened.close()


def iterate(opened: Session) -> dict[str, float]:
    """One iteration; its metrics must be finite floats."""
    _, metrics = opened.iterate(cut=False)
    if not isinstance(metrics, dict):
        violate("metrics", f"iteration {opened.iteration} returned a {type(metrics).__name__}, expected a dict")
    for name, value in metrics.items():
        if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, float | int):
            violate("metrics", f"{name!r} of iteration {opened.iteration} is a {type(value).__name__}: {value!r:.60}")
        if not math.isfinite(value):
            violate("metrics", f"{name!r} of iteration {opened.iteration} is {value!r}")
    return metrics


def until_it_moves(opened: Session) -> int:
    """Iterate until the first update; the number of iterations that took."""
    start = opened.learner.parameters.clone()
    while torch.equal(opened.learner.parameters, start):
        if opened.iteration == PATIENCE:
            violate("descent", f"no parameter has moved after {PATIENCE} iterations on {opened.environment.name}")
        iterate(opened)
    return opened.iteration


def kept(opened: Session) -> dict[str, Any]:
    """The session's state, written to a file and read again."""
    if not isinstance(opened.state, dict):
        violate("state", f"after {opened.iteration} iterations it is a {type(opened.state).__name__}, expected a dict")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "state.safetensors"
        try:
            serialization.write(path, opened.checkpoint(), KIND)
        except (TypeError, ValueError) as error:
            violate("state", f"after {opened.iteration} iterations, a checkpoint cannot hold it: {error}")
        return serialization.read(path, KIND)[0]


def go_on(opened: Session, iterations: int) -> Record:
    """So many iterations, recorded."""
    record = Record(opened.iteration + 1)
    record.metrics.extend(iterate(opened) for _ in range(iterations))
    record.state = kept(opened)
    return record


def difference(one: Any, two: Any, path: str = "") -> str | None:
    """Where two nested states are not equal bit for bit, in words; None where they are."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        if set(one) != set(two):
            return f"{path or 'it'} holds {sorted(one)} against {sorted(two)}"
        parts = ((str(name), one[name], two[name]) for name in one)
    elif isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        parts = ((str(i), mine, theirs) for i, (mine, theirs) in enumerate(zip(one, two, strict=True)))
    elif isinstance(one, Tensor | np.ndarray) and isinstance(two, Tensor | np.ndarray):
        mine, theirs = np.asarray(one), np.asarray(two)
        same = (mine.dtype, mine.shape, mine.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())
        return None if same else f"{path} differs in {unequal(mine, theirs)}"
    else:
        return None if one == two or (one != one and two != two) else f"{path} is {one!r:.60} against {two!r:.60}"
    found = (difference(mine, theirs, f"{path}/{name}" if path else name) for name, mine, theirs in parts)
    return next((each for each in found if each), None)


def unequal(one: np.ndarray, two: np.ndarray) -> str:
    """How two arrays differ."""
    if one.dtype != two.dtype or one.shape != two.shape:
        return f"type or shape: {one.dtype} {list(one.shape)} against {two.dtype} {list(two.shape)}"
    return f"{int((one != two).sum())} of {one.size} entries"


def first_difference(one: Record, two: Record) -> str | None:
    """Where two records of the same iterations part first, in words; the clock does not count."""
    for number, (mine, theirs) in enumerate(zip(one.metrics, two.metrics, strict=True), start=one.first):
        found = difference(mine, theirs, "metrics")
        if found:
            return f"in iteration {number}, {found}"
    found = difference({**one.state, "seconds": 0.0}, {**two.state, "seconds": 0.0})
    return f"after iteration {one.first + len(one.metrics) - 1}, {found}" if found else None

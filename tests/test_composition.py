"""Every feature of a policy composes with every other, and every algorithm with each pair of them.

A cell is a memory, a mask or none, a kind of observation, a kind of action, and one agent or several as lanes. In each: two
updates, the guard (acting and learning agree on every log-probability), no forbidden action, a policy file that acts alike,
and a run that resumes bit for bit.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from composed_world import ACTIONS, OBSERVATIONS, ComposedWorld, spaces_of

from pistar import artefact
from pistar.algorithms import ALGORITHMS
from pistar.algorithms.algorithm import Algorithm
from pistar.algorithms.ppo import PPO
from pistar.envs.environment import Environment
from pistar.experiment import CheckpointSettings, EvaluationSettings, Experiment, Training
from pistar.policies.mlp import MLP
from pistar.rollout import Rollout
from pistar.session import Session
from pistar.tasks.task import Actions, Execution, Task
from pistar.testing.algorithms import trials
from pistar.tree import leaves, map_leaves

FACTORS: dict[str, list[Any]] = {
    "memory": ["none", "gru", "lstm"],
    "mask": [False, True],
    "observation": list(OBSERVATIONS),
    "action": list(ACTIONS),
    "agents": [1, 2],
}
TINY: dict[str, Any] = {"hidden": (8,), "memory_size": 6, "segment": 4, "image_features": 5}
TINY |= {"filters": (3,), "kernels": (3,), "strides": (2,)}
HORIZON, ENVIRONMENTS = 12, 2


@dataclass(frozen=True)
class Cell(Task):
    """One combination, as a task."""

    summary: ClassVar[str] = "a world of any spaces"

    memory: str = "none"
    mask: bool = False
    observation: str = "box"
    action: str = "discrete"
    agents: int = 1

    @property
    def actions(self) -> Actions:
        return "discrete"

    @property
    def possible(self) -> bool:
        """Masks are for discrete choices."""
        return not (self.mask and self.action == "continuous")

    @property
    def name(self) -> str:
        return f"{self.memory}-{'mask' if self.mask else 'free'}-{self.observation}-{self.action}-{self.agents}"

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        return ComposedWorld(spaces_of(self.observation, self.action, self.mask), lanes // self.agents, self.agents)

    def kind(self) -> MLP:
        return MLP(memory=self.memory, mask="mask" if self.mask else None, **TINY)


def cells() -> list[Cell]:
    every = (Cell(**dict(zip(FACTORS, values, strict=True))) for values in itertools.product(*FACTORS.values()))
    return [cell for cell in every if cell.possible]


def pairs(cell: Cell) -> set[tuple[str, Any, str, Any]]:
    values = [(name, getattr(cell, name)) for name in FACTORS]
    return {(*one, *other) for one, other in itertools.combinations(values, 2)}


def covering() -> list[Cell]:
    """Few cells in which every possible pair of values occurs, found greedily."""
    missing = set().union(*(pairs(cell) for cell in cells()))
    chosen = []
    while missing:
        best = max(cells(), key=lambda cell: len(pairs(cell) & missing))
        missing -= pairs(best)
        chosen.append(best)
    return chosen


def experiment(cell: Cell, algorithm: Algorithm) -> Experiment:
    training = Training(steps=10_000, lanes=ENVIRONMENTS * cell.agents, horizon=HORIZON, warm_up=20, seed=3)
    return Experiment(cell, algorithm, cell.kind(), training, EvaluationSettings(), CheckpointSettings())


def gap(session: Session, rollout: Rollout) -> float:
    """The largest difference between what acting recorded and what learning computes, where it counts."""
    batch = rollout.batch(torch.zeros(rollout.shape), torch.zeros(rollout.shape))
    with torch.no_grad():
        again = session.policy.evaluate(batch.observation, batch.action).log_prob
    heard = torch.ones_like(again) if batch.weight is None else batch.weight
    return float(((again - batch.log_prob).abs() * heard).max())


def observe_gaps(session: Session) -> list[float]:
    """Measure the gap of every rollout between its end and its update."""
    gaps, improve = [], session.improve

    def guarded(experience: Any) -> dict[str, float]:
        if isinstance(experience, Rollout):
            gaps.append(gap(session, experience))
        return improve(experience)

    session.improve = guarded  # type: ignore[method-assign]
    return gaps


def check(cell: Cell, algorithm: Algorithm, path: Path) -> None:
    """Two updates, guarded; resumed after the first; saved and loaded."""
    with trials.session(experiment(cell, algorithm)) as whole:
        gaps, start = observe_gaps(whole), whole.learner.parameters.clone()
        trials.go_on(whole, 1)
        saved = trials.kept(whole)
        record = trials.go_on(whole, 1)
        assert not torch.equal(whole.learner.parameters, start)
        assert len(gaps) == 2
        assert max(gaps) <= 1e-4
        artefact.save(whole.policy, path)
        observation = map_leaves(torch.clone, whole.collector.observation)
        acted = whole.policy.act(as_numpy(observation), whole.collector.memory)
    with trials.session(experiment(cell, algorithm), saved) as resumed:
        again = trials.go_on(resumed, 1)
    assert trials.first_difference(record, again) is None
    loaded = artefact.load(path).act(as_numpy(observation), whole.collector.memory)
    for (_, one), (_, other) in zip(leaves(acted), leaves(loaded), strict=True):
        assert (one == other).all()


def as_numpy(observation: Any) -> Any:
    return map_leaves(lambda x: x.numpy(), observation)


def test_there_are_ninety_cells() -> None:
    assert len(cells()) == 90


@pytest.mark.parametrize("cell", cells(), ids=lambda cell: cell.name)
def test_ppo_learns_in_every_cell(cell: Cell, tmp_path: Path) -> None:
    check(cell, PPO(epochs=2, minibatch=16, max_kl=1.0), tmp_path / "policy.safetensors")


def combinations() -> list[Any]:
    names = [name for name in ALGORITHMS.names() if name != "distillation"]  # needs a teacher: test_distillation.py
    every = itertools.product(names, covering())
    return [pytest.param(name, cell, id=f"{name}-{cell.name}") for name, cell in every]


@pytest.mark.parametrize(("name", "cell"), combinations())
def test_every_algorithm_learns_in_every_pair(name: str, cell: Cell, tmp_path: Path) -> None:
    check(cell, ALGORITHMS.get(name)(), tmp_path / "policy.safetensors")

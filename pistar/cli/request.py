"""What a ``pistar train`` command line asks for, as an Experiment and a place to put it.

The layers, each over the one before: the dataclasses' defaults, the algorithm's recipe for the task's kind of actions,
the task's recipe, ``--config FILE.toml``, flags. All that can be refused is refused here, before torch is imported.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pistar import experiment, settings
from pistar.cli import flags
from pistar.errors import UsageError
from pistar.experiment import KINDS, Experiment
from pistar.run import find_policy, free_place, require_new


@dataclass(frozen=True)
class Options:
    """The flags of ``train`` that are no hyperparameters."""

    algorithm: str | None = None  # reinforce, a2c, ppo, ... or module:Class; none: the task's recipe, else ppo
    policy: str | None = None  # mlp, ... or module:Class; none: the recipe's, else mlp
    config: str | None = None  # a TOML file between the recipes and the flags; any run's experiment.toml will do
    out: str | None = None  # the run directory, which must not exist; none: the next free runs/TASK-ALGORITHM-SEED
    seeds: int = 1  # so many runs with consecutive seeds, in OUT/seed-0, OUT/seed-1, ..., and a summary
    from_: str | None = None  # start with the weights of this policy file or run
    demonstrations: str | None = None  # clone the first policy from this directory of recorded episodes
    time_limit: str | None = None  # end after this much training, as 90s, 10m or 1h30m
    quiet: bool = False  # print nothing but errors
    profile: bool = False  # say where the time went: environment, acting, estimating, updating, reporting, ...

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UsageError(f"--seeds: expected at least 1, received {self.seeds}")


@dataclass(frozen=True)
class Request:
    """A command line, understood."""

    options: Options
    experiment: Experiment
    out: Path


def read(argv: Sequence[str], usage: str) -> Request:
    """The request of a command line; every error is a UsageError."""
    arguments = flags.parse(argv, groups(argv))
    options = arguments.options(Options)
    task = arguments.only_word(usage)
    if options.out is not None:
        require_new(Path(options.out))
    if options.from_ is not None:
        find_policy(Path(options.from_))
    wanted = resolve(task, options, arguments.values)
    last = "seeds" if options.seeds > 1 else wanted.training.seed
    return Request(options, wanted, free_place(wanted, last) if options.out is None else Path(options.out))


def resolve(name: str, options: Options, values: Mapping[str, Mapping[str, Any]]) -> Experiment:
    """The experiment that a task's name, options and flag values (prefix -> field -> value) stand for."""
    flat: dict[str, Any] = {prefix: table for prefix, table in values.items() if prefix}
    flat |= {key: value for key, value in values.get("", {}).items() if key not in ("time_limit", *OWN)}
    if options.time_limit is not None:
        flat["time_limit"] = options.time_limit
    if options.demonstrations is not None:
        flat["demonstrations"] = options.demonstrations
    for sort in ("algorithm", "policy"):
        kind = getattr(options, sort)
        if kind is not None:
            flat[sort] = {**flat.get(sort, {}), "kind": kind}
    config = None if options.config is None else Path(options.config)
    return settings.resolve(experiment.find_task(name), flat, config, "the flags")


# Options that are no settings, or are spelled otherwise there.
OWN = ("algorithm", "policy", "config", "out", "seeds", "from_", "demonstrations", "quiet", "profile")


# ---- flags -----------------------------------------------------------------------------------------------------------


def groups(argv: Sequence[str], defaults: Experiment | None = None) -> list[flags.Group]:
    """Every flag of ``train``; with ``defaults``, only those that apply to it, with its values."""
    result = [flags.Group("", "options", lambda: Options)]
    for name in settings.PLAIN:
        prefix = "" if name == "training" else name
        instance = getattr(defaults, name, None)
        result.append(flags.Group(prefix, name, lambda name=name: settings.PLAIN[name], instance))  # type: ignore[misc]
    for sort, registry in KINDS.items():
        instance = getattr(defaults, sort, None)
        for kind in registry.names():
            if instance is None or registry.kind_of(instance) == kind:
                result.append(flags.Group(kind, f"{sort} {kind}", lambda r=registry, k=kind: r.get(k), instance))  # type: ignore[misc]
        own = own_kind(argv, sort)
        if own is not None and (instance is None or registry.kind_of(instance) == own):
            result.append(flags.Group(sort, f"{sort} {own}", lambda r=registry, k=own: r.get(k), instance))  # type: ignore[misc]
    return result


def own_kind(argv: Sequence[str], sort: str) -> str | None:
    """The ``module:Class`` that a command line chooses for a sort; its settings are --algorithm.X, --task.X, ..."""
    if sort == "task":
        given = [word for word in argv if not word.startswith("-") and re.fullmatch(r"[\w.]+:[A-Za-z_]\w*", word)]
        taken = {own_kind(argv, "algorithm"), own_kind(argv, "policy")}
        found = next((word for word in given if word not in taken), None)
        return found if found is not None and experiment.find_task(found)["kind"] == found else None
    for word, following in itertools.pairwise([*argv, ""]):
        value = following if word == f"--{sort}" else word.removeprefix(f"--{sort}=")
        if ":" in value and value != word:
            return value
    return None

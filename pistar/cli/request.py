"""What a ``pistar train`` command line asks for, as an Experiment and a place to put it.

The layers, each over the one before: the dataclasses' defaults, the algorithm's recipe for the task's kind of actions,
the task's recipe, ``--config FILE.toml``, flags. All that can be refused is refused here, before torch is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pistar import experiment, settings
from pistar.cli import flags
from pistar.errors import UnknownName, UsageError
from pistar.experiment import KINDS, Experiment
from pistar.tasks import TASKS


@dataclass(frozen=True)
class Options:
    """The flags of ``train`` that are no hyperparameters."""

    algorithm: str | None = None  # reinforce, a2c, ppo, ... or module:Class; none: the task's recipe, else ppo
    policy: str | None = None  # mlp, ... or module:Class; none: the recipe's, else mlp
    config: str | None = None  # a TOML file between the recipes and the flags; any run's experiment.toml will do
    out: str | None = None  # the run directory, which must not exist; none: the next free runs/TASK-ALGORITHM-SEED
    seeds: int = 1  # so many runs with consecutive seeds, in OUT/seed-0, OUT/seed-1, ..., and a summary
    from_: str | None = None  # start with the weights of this policy file or run
    time_limit: str | None = None  # end after this much training, as 90s, 10m or 1h30m
    quiet: bool = False  # print nothing but errors

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
    wanted = resolve(arguments.only_word(usage), options, arguments.values)
    if options.from_ is not None:
        policy_path(options.from_)
    return Request(options, wanted, out_path(options, wanted))


def resolve(name: str, options: Options, values: Mapping[str, Mapping[str, Any]]) -> Experiment:
    """The experiment that a task's name, options and flag values (prefix -> field -> value) stand for."""
    task = find_task(name)
    layers = []
    if options.config is not None:
        layers.append((settings.tables_from_file(Path(options.config)), options.config))
    flat: dict[str, Any] = {prefix: table for prefix, table in values.items() if prefix}
    flat |= {key: value for key, value in values.get("", {}).items() if key not in ("time_limit", *OWN)}
    if options.time_limit is not None:
        flat["time_limit"] = options.time_limit
    for sort in ("algorithm", "policy"):
        kind = getattr(options, sort)
        if kind is not None:
            flat[sort] = {**flat.get(sort, {}), "kind": kind}
    tables = settings.tables_from_settings(task, flat, *(table for table, _ in layers))
    kinds = settings.chosen_kinds(task, *(table for table, _ in layers), tables)
    for table, source in layers:
        settings.check_tables(table, kinds, source)
    return experiment.resolve(task, *layers, (tables, "the flags"))


OWN = ("algorithm", "policy", "config", "out", "seeds", "from_", "quiet")  # options that are no settings


def find_task(name: str) -> dict[str, Any]:
    """The [task] table of a name; raises UnknownName with the nearest task or Gymnasium id."""
    if name not in TASKS.names() and ":" not in name:
        if not re.search(r"-v\d+$", name):
            hint = "A Gymnasium id such as CartPole-v1, or module:Class of your own environment or task, is a task too"
            raise UnknownName("task", name, TASKS.names(), hint)
        from pistar.envs import targets  # imports Gymnasium, which is only needed for its ids

        targets.check_registered(name, name)
    return experiment.find_task(name)


def policy_path(text: str) -> Path:
    """The path of a policy file or of a run that has one; raises UsageError where there is none."""
    path = Path(text)
    if not path.exists():
        raise UsageError(f"no such file or run: {path} (expected a run directory or a policy.safetensors)")
    if path.is_dir() and not (path / "policy.safetensors").is_file():
        seeds = sorted(str(found.parent) for found in path.glob("seed-*/policy.safetensors"))
        inside = f"; it holds several runs: {', '.join(seeds)}" if seeds else ""
        if not seeds and (path / "experiment.toml").is_file():
            inside = f"; the run has not saved one yet: go on with it by `pistar resume {path}`"
        raise UsageError(f"{path} holds no policy.safetensors{inside}")
    return path


def out_path(options: Options, wanted: Experiment) -> Path:
    """Where the run goes: --out, which must be new, or the next free default."""
    if options.out is not None:
        path = Path(options.out)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(
                f"{path} exists already and is left as it is. Continue it with `pistar resume {path}`, "
                "or choose another place with --out"
            )
        return path
    tables = wanted.to_table()
    task, algorithm = str(tables["task"].get("id") or tables["task"]["kind"]), str(tables["algorithm"]["kind"])
    last = "seeds" if options.seeds > 1 else str(wanted.training.seed)
    name = re.sub(r"[^\w.+-]+", "-", f"{task}-{algorithm}-{last}")
    path, number = Path("runs") / name, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{name}-{number}"
    return path


# ---- flags -----------------------------------------------------------------------------------------------------------


def groups(argv: Sequence[str], defaults: Experiment | None = None) -> list[flags.Group]:
    """Every flag of ``train``; with ``defaults``, only those that apply to it, with its values."""
    result = [flags.Group("", "options", lambda: Options)]
    for name, title in (("training", "training"), ("evaluation", "evaluation"), ("checkpoints", "checkpoints")):
        prefix = "" if name == "training" else name
        instance = getattr(defaults, name, None)
        result.append(flags.Group(prefix, title, lambda name=name: settings.PLAIN[name], instance))  # type: ignore[misc]
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
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        value = following if word == f"--{sort}" else word.removeprefix(f"--{sort}=")
        if ":" in value and value != word:
            return value
    return None

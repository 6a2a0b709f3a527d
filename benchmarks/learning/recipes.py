"""What a task's recipe changes of the library's defaults, and the check that it changes nothing it may not.

A recipe is made for the task and not for the algorithm: γ holds for every algorithm, lanes and horizon for those that learn
from a batch of some thousand steps. Where a value comes from is said beside it. Values differ from the defaults; a task that
is learned best by them has no recipe.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pistar.cli import flags as command_line
from pistar.cli import request
from pistar.experiment import Experiment

if TYPE_CHECKING:
    from benchmarks.learning.suites import Row

BATCHED = ("ppo", "trpo", "npg", "spo", "ppo-penalty", "ppg")
FREE = {"training.lanes", "training.horizon", "training.steps", "algorithm.discount"}  # what a recipe may change
PROTOCOL = {"training.steps", "training.seed"}  # what differs between rows by the benchmark and not by a setting
OWN_COURSE = {"training.seed", "training.workers", "training.device"}  # differs from run to run, whatever the setting
ENCODER = {"policy.images", "policy.hidden"}  # how an observation of images is read; there is none without
NAMES = {"discount": "γ", "lanes": "lanes", "horizon": "horizon"}
# γ, lanes and horizon of the RL Baselines3 Zoo's tuned settings for PPO, where they differ from pistar's defaults.
RECIPES: dict[str, dict[str, float]] = {
    "HalfCheetah-v5": {"discount": 0.98},
    "Hopper-v5": {"discount": 0.999},
    "Ant-v5": {"discount": 0.98},
    "Reacher-v5": {"discount": 0.9},
    "CartPole-v1": {"discount": 0.98, "lanes": 8, "horizon": 32},
    "Acrobot-v1": {"lanes": 16, "horizon": 256},
    "Pendulum-v1": {"discount": 0.9, "lanes": 4, "horizon": 1024},
    "MountainCar-v0": {"lanes": 16, "horizon": 16},
    "MountainCarContinuous-v0": {"discount": 0.9999},
}


def flags(task: str, algorithm: str) -> str:
    """The flags by which an algorithm follows a task's recipe; empty where there is nothing to follow."""
    words = []
    for name, value in RECIPES.get(task, {}).items():
        if name == "discount":
            words.append(f"--{algorithm}.discount {value}")
        elif algorithm in BATCHED:
            words.append(f"--{name} {value}")
    return " ".join(words)


def in_words(tasks: Iterable[str]) -> str:
    """What the recipes of some tasks are; those without one are left out."""
    said = []
    for task in tasks:
        changes = [f"{NAMES[name]} {value}" for name, value in RECIPES.get(task, {}).items()]
        said += [f"{task} {', '.join(changes)}"] if changes else []
    return "; ".join(said) or "none here"


def resolved(arguments: str) -> Experiment:
    """The whole experiment that ``pistar train ARGUMENTS`` runs."""
    argv = arguments.split()
    parsed = command_line.parse(argv, request.groups(argv))
    return request.resolve(parsed.only_word("pistar train TASK"), parsed.options(request.Options), parsed.values)


def settings(experiment: Experiment) -> dict[str, Any]:
    """Every value that decides what is learned, by its dotted name; absent where it is none."""
    tables = experiment.to_table()
    chosen = ("algorithm", "policy", "training")
    return {f"{name}.{key}": value for name in chosen for key, value in tables[name].items() if value != "none"}


def differences(one: Experiment, other: Experiment) -> dict[str, tuple[Any, Any]]:
    """Name -> both values, of all settings that are not the same."""
    left, right = settings(one), settings(other)
    return {
        name: (left.get(name), right.get(name)) for name in sorted({*left, *right}) if left.get(name) != right.get(name)
    }


def check(rows: Iterable[Row]) -> None:
    """Raise ValueError unless the columns of tables are what they are called.

    ``defaults``: one setting of an algorithm for all tasks with continuous actions, one for all with discrete ones, but for
    the encoder that images need. ``recipe``: beside the defaults' row of the same task and algorithm, only lanes, horizon, γ and
    steps differ.
    """
    rows = [row for row in rows if row.algorithm and row.column in ("defaults", "recipe")]
    experiments = {row.name: resolved(row.arguments) for row in rows}
    first: dict[tuple[str, str], str] = {}
    plain: dict[tuple[str, str], str] = {}
    for row in (row for row in rows if row.column == "defaults"):
        experiment = experiments[row.name]
        plain[row.task, row.algorithm] = row.name
        reference = first.setdefault((row.algorithm, experiment.task.actions), row.name)
        allowed = PROTOCOL | (ENCODER if reads_images(experiment) or reads_images(experiments[reference]) else set())
        require("is not the one setting of", row.name, reference, experiments, allowed)
    for row in (row for row in rows if row.column == "recipe"):
        if (row.task, row.algorithm) not in plain:
            raise ValueError(f"{row.name}: there is no row of the defaults to compare the recipe with; add one")
        require(
            "changes more than a recipe may of", row.name, plain[row.task, row.algorithm], experiments, FREE | PROTOCOL
        )


def require(fault: str, name: str, reference: str, experiments: dict[str, Experiment], allowed: set[str]) -> None:
    """Raise ValueError where two experiments differ in what is not allowed."""
    found = differences(experiments[reference], experiments[name])
    wrong = [f"{key} is {now!r}, not {then!r}" for key, (then, now) in found.items() if key not in allowed]
    if wrong:
        raise ValueError(f"{name} {fault} {reference}: {'; '.join(wrong)} (allowed: {', '.join(sorted(allowed))})")


def reads_images(experiment: Experiment) -> bool:
    """Whether a task's observations are images."""
    return str(experiment.to_table()["task"]["kind"]) == "atari"

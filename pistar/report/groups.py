"""Runs that differ in nothing but their seed are repetitions of one experiment: found, named and held comparable.

What decides is every setting that can change what is learned. Runs of different tasks, or judged by different protocols,
are never compared: their returns are different quantities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pistar.errors import UsageError
from pistar.report.finished import Finished

PROTOCOL = ("evaluation.episodes", "evaluation.final_episodes", "evaluation.deterministic")
# They move no weight, or say when something is looked at.
SILENT = ("training.seed", "training.workers", "training.start_method", "training.threads")
SILENT_TABLES = ("task", "evaluation", "checkpoints", "reporting")
ABSENT = "–"  # the value of a setting that an algorithm or policy does not have


@dataclass(frozen=True)
class Group:
    """Repetitions of one experiment; ``differs`` holds what sets it apart from the other groups, by dotted names."""

    label: str
    runs: tuple[Finished, ...]
    differs: dict[str, str]

    @property
    def seeds(self) -> list[Any]:
        """Of the runs, in their order."""
        return [run.seed for run in self.runs]


def require_comparable(runs: Sequence[Finished]) -> None:
    """Raise UsageError where two runs are of different tasks or were judged by different protocols."""
    first = runs[0]
    for other in runs[1:]:
        tasks = differences(first, other, lambda name: name.startswith("task."))
        if tasks:
            raise UsageError(
                f"{first.path} and {other.path} are of different tasks, whose returns cannot be compared:\n  "
                + "\n  ".join(tasks)
                + "\nCompare runs of one task at a time"
            )
        protocols = differences(first, other, PROTOCOL.__contains__)
        if protocols:
            raise UsageError(
                f"{first.path} and {other.path} were judged by different evaluation protocols:\n  "
                + "\n  ".join(protocols)
                + "\nTrain them with the same --evaluation settings"
            )


def require_finished(runs: Sequence[Finished]) -> None:
    """Raise UsageError where a run has no final evaluation."""
    for run in runs:
        if run.final is None:
            raise UsageError(
                f"{run.path} has not come to its end ({run.steps:,} of {run.settings.get('training.steps', '?')} steps): it "
                f"has no final evaluation to be compared by. Go on with it by `pistar resume {run.path}`, or leave it out"
            )


def differences(one: Finished, other: Finished, wanted: Any) -> list[str]:
    """Lines "setting: value and value" of all settings that ``wanted`` accepts and that differ."""
    names = [name for name in {**one.settings, **other.settings} if wanted(name)]
    pairs = [(name, words(one.settings.get(name)), words(other.settings.get(name))) for name in names]
    return [f"{name}: {mine} and {theirs}" for name, mine, theirs in pairs if mine != theirs]


def grouped(named: Sequence[tuple[str, Finished]], labels: Sequence[str] = ()) -> list[Group]:
    """The groups in the order in which they are first named.

    ``labels`` gives a name to each group, or to each argument: then runs under one label are one group, whatever their
    settings.
    """
    keys = [identity(run) for _, run in named]
    arguments = list(dict.fromkeys(argument for argument, _ in named))
    number = len(dict.fromkeys(keys))
    names: list[str] = []
    if labels and len(labels) == len(arguments):
        by_argument = dict(zip(arguments, labels, strict=True))
        keys = [by_argument[argument] for argument, _ in named]
        names = list(dict.fromkeys(keys))
    elif labels and len(labels) == number:
        names = list(labels)
        if len(set(names)) < number:
            raise UsageError(f"--label: two groups have one name: {' '.join(names)}; give each its own")
    order = list(dict.fromkeys(keys))
    members = [tuple(run for key, (_, run) in zip(keys, named, strict=True) if key == wanted) for wanted in order]
    apart = set_apart(members)
    automatic = automatic_labels(members, apart)
    if labels and not names:
        raise UsageError(
            f"--label: expected {number} names, one for each group ({'; '.join(automatic)}), or {len(arguments)}, one for each "
            f"argument; received {len(labels)}: {' '.join(labels)}"
        )
    _require_repetitions(members, names or automatic)
    return [Group(*each) for each in zip(names or automatic, members, apart, strict=True)]


def identity(run: Finished) -> str:
    """All settings that can change what is learned, as one text."""
    return repr(sorted((name, words(value)) for name, value in run.settings.items() if counts(name)))


def counts(name: str) -> bool:
    """Whether a setting can change what is learned from one task."""
    return name not in SILENT and name.partition(".")[0] not in SILENT_TABLES


def set_apart(members: Sequence[Sequence[Finished]]) -> list[dict[str, str]]:
    """Of every group, the settings that are not the same in all, as words."""
    names = dict.fromkeys(name for runs in members for run in runs for name in run.settings if counts(name))
    values: list[dict[str, str]] = []
    for runs in members:
        table = {}
        for name in names:
            found = list(dict.fromkeys(words(run.settings.get(name)) for run in runs))
            table[name] = " / ".join(found)
        values.append(table)
    telling = [name for name in names if len({table[name] for table in values}) > 1]
    return [{name: table[name] for name in telling} for table in values]


def automatic_labels(members: Sequence[Sequence[Finished]], apart: Sequence[Mapping[str, str]]) -> list[str]:
    """The fewest settings that tell all groups apart, the algorithm first; one group is called by its algorithm."""
    if len(members) == 1:
        return [str(members[0][0].settings.get("algorithm.kind", "?")).rpartition(":")[2]]
    kinds = ("algorithm.kind", "policy.kind")
    chosen = [name for name in kinds if name in apart[0]]
    # Settings that all groups have come before those of one kind alone.
    names = sorted(
        apart[0].keys() - {*kinds}, key=lambda name: (sum(table[name] == ABSENT for table in apart), _place(name))
    )
    while names and _number(apart, chosen) < len(members):
        best = max(names, key=lambda name: _number(apart, [*chosen, name]))
        if _number(apart, [*chosen, best]) == _number(apart, chosen):
            break  # only several at once would tell more: the labels are numbered below
        chosen.append(best)
        names.remove(best)
    labels = []
    for table in apart:
        there = {name: table[name] for name in chosen if table[name] != ABSENT}
        named = there or dict.fromkeys(chosen, "none")  # where only others have what tells the groups apart
        labels.append(", ".join(_phrase(name, value) for name, value in named.items()))
    return [label if labels.count(label) == 1 else f"{label} ({n})".strip() for n, label in enumerate(labels, start=1)]


def _place(name: str) -> tuple[bool, str]:
    """What belongs to the algorithm comes first."""
    return (not name.startswith("algorithm."), name)


def _number(apart: Sequence[Mapping[str, str]], names: Sequence[str]) -> int:
    return len({tuple(table[name] for name in names) for table in apart})


def _phrase(name: str, value: str) -> str:
    """A setting in a label, as in "clip 0.1"; a kind is its value alone."""
    key = name.partition(".")[2]
    return value.rpartition(":")[2] if key == "kind" else f"{key.replace('_', ' ')} {value}"


def _require_repetitions(members: Sequence[Sequence[Finished]], labels: Sequence[str]) -> None:
    for label, runs in zip(labels, members, strict=True):
        seen: dict[Any, Finished] = {}
        for run in runs:
            if run.seed in seen:
                raise UsageError(
                    f"{seen[run.seed].path} and {run.path} are both {label!r} with seed {run.seed}: the same run twice says nothing "
                    "more than once. Train with other seeds, or tell the two apart with --label, one name for each argument"
                )
            seen[run.seed] = run


def words(value: Any) -> str:
    """A setting's value as people read it; two that differ never read alike."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, Mapping):
        if set(value) <= {"from", "to", "shape"} and {"from", "to"} <= set(value):
            shape = value.get("shape", "linear")
            return f"{words(value['from'])} → {words(value['to'])}" + ("" if shape == "linear" else f" ({shape})")
        return ", ".join(f"{key} {words(item)}" for key, item in value.items()) or "none"
    return " ".join(words(item) for item in value) or "none" if isinstance(value, list | tuple) else str(value)

"""Runs as they lie on the disk: what comparisons and reports read of them.

Only data is read: TOML and JSON lines. No class that a run names is built and no policy loaded, so that a report needs no
torch and a run from elsewhere can do nothing but be read. What is missing or of a strange form counts as not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pistar import configuration
from pistar.errors import UsageError
from pistar.experiment import TABLES
from pistar.report import jsonl
from pistar.report.sink import finite, scalars
from pistar.run import RunDirectory, find_run
from pistar.tasks import TASKS

LONGEST_HEADER = 1 << 24  # bytes


@dataclass(frozen=True)
class Finished:
    """One run; ``final`` is its last evaluation, None where it has not come to its end."""

    path: Path
    tables: dict[str, Any] = field(repr=False)  # of its experiment.toml
    evaluations: list[dict[str, Any]] = field(repr=False)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every resolved value by its dotted name: "algorithm.clip"; absent where it is none, as older runs leave it out."""
        values = ((f"{name}.{key}", value) for name in TABLES for key, value in mapping(self.tables.get(name)).items())
        return {name: value for name, value in values if value != "none"}

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The metrics, one record an iteration; read when they are first asked for."""
        path = RunDirectory(self.path).metrics
        return [each for each in jsonl.read(path) if finite(each.get("steps")) is not None] if path.is_file() else []

    @property
    def provenance(self) -> dict[str, Any]:
        """The [run] table: versions and command."""
        return mapping(self.tables.get("run"))

    @property
    def seed(self) -> Any:
        """The run's one seed."""
        return self.settings.get("training.seed", 0)

    @property
    def task(self) -> str:
        """What the task is called."""
        return str(self.settings.get("task.id") or self.settings.get("task.kind", "?"))

    @property
    def threshold(self) -> float | None:
        """The return from which on the task counts as solved, where it is one of pistar's own that says so."""
        kind = str(self.settings.get("task.kind", ""))
        return finite(getattr(TASKS.get(kind), "threshold", None)) if kind in TASKS.names() else None

    @property
    def final(self) -> dict[str, Any] | None:
        """The evaluation after the last update."""
        last = self.evaluations[-1] if self.evaluations else {}
        return last if last.get("final") is True else None

    @property
    def steps(self) -> int:
        """Environment steps so far, as the last record says."""
        if self.final is not None:
            return int(self.final["steps"])
        return int(self.records[-1]["steps"]) if self.records else 0

    @property
    def seconds(self) -> float | None:
        """Seconds of collecting and learning."""
        return finite(mapping(self.records[-1].get("time")).get("seconds")) if self.records else None

    @cached_property
    def flat(self) -> list[dict[str, float]]:
        """The records as finite numbers by their full names."""
        return [dict(scalars(record)) for record in self.records]

    @cached_property
    def action_space(self) -> dict[str, Any]:
        """The action space as the policy file's header tells it (`pistar.spaces`), empty where it does not."""
        return mapping(header_of(RunDirectory(self.path).policy).get("action_space"))

    def points(self) -> list[tuple[float, float]]:
        """(steps, mean) of every evaluation in order; at the same steps the later one, of more episodes, counts."""
        return sorted({float(each["steps"]): float(each["mean"]) for each in self.evaluations}.items())


def mapping(value: Any) -> dict[str, Any]:
    """``value`` where it is a table, else an empty one."""
    return dict(value) if isinstance(value, Mapping) else {}


def pair(value: Any) -> tuple[float, float] | None:
    """Two finite ends, or None."""
    ends = [finite(end) for end in value] if isinstance(value, list) and len(value) == 2 else []
    return (ends[0], ends[1]) if len(ends) == 2 and ends[0] is not None and ends[1] is not None else None


def header_of(path: Path) -> dict[str, Any]:
    """What the header of a policy file says, without its tensors; empty where there is no such file or it is damaged."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LONGEST_HEADER:
                return {}
            return mapping(json.loads(mapping(json.loads(file.read(length)).get("__metadata__"))["header"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def read(path: Path) -> Finished:
    """The run at ``path``; raises UsageError where there is none, ArtefactError where its records are damaged."""
    run = RunDirectory(find_run(path))
    judged = jsonl.read(run.evaluations) if run.evaluations.is_file() else []
    known = [each for each in judged if finite(each.get("steps")) is not None and finite(each.get("mean")) is not None]
    return Finished(path, configuration.read_toml(run.experiment), known)


def read_all(arguments: Iterable[str]) -> list[tuple[str, Finished]]:
    """(argument, run) of all runs that are named; a directory of several (``train --seeds``) stands for all of them."""
    found: list[tuple[str, Finished]] = []
    seen: dict[Path, str] = {}
    for argument in arguments:
        path = Path(argument)
        inside = (
            [] if (path / "experiment.toml").is_file() else sorted(path.glob("seed-*/experiment.toml"), key=_number)
        )
        for each in [file.parent for file in inside] or [path]:
            place = each.resolve()
            if place in seen:
                raise UsageError(f"{each} is named twice (also by {seen[place]}); a run counts once")
            seen[place] = argument
            found.append((argument, read(each)))
    if not found:
        raise UsageError("expected at least one run directory, received none: pistar report runs/cartpole-ppo-0")
    return found


def _number(file: Path) -> tuple[int, str]:
    """seed-2 before seed-10."""
    digits = file.parent.name.removeprefix("seed-")
    return (int(digits) if digits.isdecimal() else 0, digits)

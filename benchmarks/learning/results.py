"""What is kept of the runs: one small JSON file a row, in which seeds of several sittings come together.

A seed that was run again replaces the earlier one. Where the settings of a row have changed since, the seeds that are kept from
before are dropped, since a mean over both would be one of nothing. The directories of the runs may be deleted afterwards: a seed
that is kept is not run again, unless its file is deleted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.learning import recipes
from benchmarks.learning.scoring import Outcome
from benchmarks.learning.suites import Row

FIELDS = ("row", "task", "algorithm", "column", "command", "score", "settings", "versions", "steps")


@dataclass(frozen=True)
class Result:
    """A row and what is known of it, by seed."""

    row: Row
    outcomes: tuple[Outcome, ...]
    settings: dict[str, Any] | None = None  # resolved; None: a peer's, or results older than this record
    command: str = ""  # by which the outcomes were made

    @property
    def scores(self) -> list[float]:
        """One a seed."""
        return [outcome.score for outcome in self.outcomes]


def settings_of(row: Row) -> dict[str, Any] | None:
    """Every value that decides what a row learns, as the library resolves it now."""
    if row.column == "peer":
        return None
    found = recipes.settings(recipes.resolved(row.arguments))
    return {name: value for name, value in found.items() if name not in recipes.OWN_COURSE}


def is_current(kept: Result, row: Row) -> bool:
    """Whether what is kept was made with the settings that the row has now."""
    return kept.command == row.command and kept.settings == settings_of(row)


def merged(row: Row, kept: Result | None, fresh: list[Outcome]) -> Result:
    """``kept`` with the seeds of ``fresh`` put in."""
    now = settings_of(row)
    if kept is None or (fresh and not is_current(kept, row)):
        return Result(row, in_order(fresh), now, row.command)
    if not fresh:
        return kept
    again = {outcome.seed for outcome in fresh}
    return Result(row, in_order([*(o for o in kept.outcomes if o.seed not in again), *fresh]), now, row.command)


def in_order(outcomes: list[Outcome]) -> tuple[Outcome, ...]:
    """By seed."""
    return tuple(sorted(outcomes, key=lambda outcome: outcome.seed))


def file_of(folder: Path, suite: str, row: Row) -> Path:
    """Where a row is kept."""
    return folder / "learning" / suite / f"{row.file}.json"


def load(path: Path, row: Row) -> Result | None:
    """What is kept of a row; None where nothing is."""
    if not path.is_file():
        return None
    whole = json.loads(path.read_text())
    outcomes = []
    for run in whole["runs"]:
        steps = run.get("evaluated", whole["steps"]) if "curve" in run else []
        made_with = whole["versions"][run.get("version", 0)]
        curve = tuple(run.get("curve", ()))
        outcomes.append(
            Outcome(run["seed"], run["score"], run["steps"], run["seconds"], tuple(steps), curve, made_with)
        )
    return Result(row, in_order(outcomes), whole["settings"], whole["command"])


def save(path: Path, result: Result) -> None:
    """Write a row, one line a run; steps that most runs share are written once."""
    row, made_with = result.row, []
    common = max((o.steps_of_curve for o in result.outcomes), key=[o.steps_of_curve for o in result.outcomes].count)
    runs = []
    for outcome in result.outcomes:
        if outcome.versions not in made_with:
            made_with.append(outcome.versions)
        run: dict[str, Any] = {"seed": outcome.seed, "score": outcome.score, "steps": outcome.steps}
        run["seconds"] = round(outcome.seconds, 2)
        if made_with.index(outcome.versions) > 0:
            run["version"] = made_with.index(outcome.versions)
        if outcome.curve:
            run["curve"] = outcome.curve
            if outcome.steps_of_curve != common:
                run["evaluated"] = outcome.steps_of_curve
        runs.append(run)
    values = (
        row.name, row.task, row.algorithm, row.column, result.command, row.score, result.settings, made_with, common,
    )  # fmt: skip
    lines = [f"{json.dumps(name)}: {compact(value)}" for name, value in zip(FIELDS, values, strict=True)]
    lines.append('"runs": [\n  ' + ",\n  ".join(compact(run) for run in runs) + "\n ]")
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".partial")
    half.write_text("{\n " + ",\n ".join(lines) + "\n}\n")
    half.replace(path)


def compact(value: Any) -> str:
    """JSON without spaces after separators."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

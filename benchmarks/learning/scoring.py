"""What a finished run came to: its score, its curve and its time, read from the run's own records."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass, field
from typing import Any

from benchmarks.learning.suites import LAST, Row
from pistar import configuration
from pistar.run import RunDirectory

DIGITS = 5  # significant ones of a curve's means


@dataclass(frozen=True)
class Outcome:
    """One seed of one row. Of results older than the curves, ``steps_of_curve`` and ``curve`` are empty."""

    seed: int
    score: float
    steps: int  # of experience
    seconds: float  # of training, evaluations excluded
    steps_of_curve: tuple[int, ...] = ()
    curve: tuple[float, ...] = ()  # mean return of each evaluation
    versions: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds_a_million(self) -> float:
        """Seconds of training that a million steps took."""
        return self.seconds / self.steps * 1e6


def read(row: Row, run: RunDirectory, seed: int) -> Outcome:
    """The outcome of a finished run; raises ValueError where its records do not fit the row's protocol."""
    evaluations = [json.loads(line) for line in run.evaluations.read_text().splitlines()]
    if not evaluations or not evaluations[-1].get("final"):
        raise ValueError(f"{run.path} is not finished; call the benchmark again, and it goes on")
    final, during = evaluations[-1], evaluations[:-1]
    last = json.loads(run.metrics.read_text().splitlines()[-1])
    return Outcome(
        seed,
        score(row, during, final, str(run.path)),
        last["steps"],
        last["time"]["seconds"],
        tuple(each["steps"] for each in during),
        tuple(rounded(each["mean"]) for each in during),
        versions(run),
    )


def score(row: Row, during: list[dict[str, Any]], final: dict[str, Any], where: str) -> float:
    """By the row's rule; raises ValueError where evaluations are missing."""
    if row.score == "final":
        return float(final["mean"])
    if row.score == "fraction":
        return float(final["fraction_of_optimum"])
    expected = row.evaluations
    if len(during) < LAST or (expected is not None and len(during) != expected):
        raise ValueError(f"{where}: expected {expected or f'at least {LAST}'} evaluations, found {len(during)}")
    return statistics.fmean(each["mean"] for each in during[-LAST:])


def versions(run: RunDirectory) -> dict[str, Any]:
    """What the run was made with, and where if not on a CPU: of a peer, what its script wrote down."""
    peer = run.path / "versions.json"
    if peer.is_file():
        return dict(json.loads(peer.read_text()))
    found = {name: value for name, value in run.provenance().items() if name != "command"}
    device = configuration.read_toml(run.experiment).get("training", {}).get("device", "cpu")
    return found if device == "cpu" else {**found, "device": device}


def rounded(value: float) -> float:
    """To a few significant digits."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))

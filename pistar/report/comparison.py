"""Groups of runs of one task, compared: the numbers, without words and pictures.

The score of a run is the mean return of its final evaluation. What is computed of scores is in `pistar.statistics`; here it
is decided of which. Everything is deterministic: the bootstrap has a fixed seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pistar import statistics
from pistar.report.finished import Finished
from pistar.report.groups import PROTOCOL, Group, require_comparable, require_finished
from pistar.statistics import pooled_interquartile_mean, stratified_bootstrap

Array = NDArray[np.float64]

POINTS = 60  # of a curve or a profile
FEW = 5  # runs below which an interval by resampling is too narrow to be believed


@dataclass(frozen=True)
class Band:
    """A curve with its 95 % interval: [P] each."""

    x: Array
    centre: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Crossing:
    """When the evaluations of a group's runs first reached a threshold."""

    reached: int  # runs that did
    steps: tuple[float, ...]  # of each run, infinite where it did not
    median: float  # over runs; infinite where half of them did not
    interval: tuple[float, float]


@dataclass(frozen=True)
class Summary:
    """One group."""

    group: Group
    scores: Array  # [n]
    interquartile_mean: float
    interval: tuple[float, float]
    curve: Band  # the interquartile mean of evaluations against steps
    profile: Band  # the share of runs whose score exceeds x
    crossing: Crossing | None


@dataclass(frozen=True)
class Improvement:
    """One group beside another: how probable it is that a run of the first is better, and by how much it is."""

    better: str
    than: str
    probability: float
    interval: tuple[float, float]
    difference: float  # of the interquartile means
    difference_interval: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """All groups."""

    task: str
    protocol: dict[str, Any]
    threshold: float | None
    summaries: tuple[Summary, ...]
    improvements: tuple[Improvement, ...]  # of each group over every later one
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The object that ``pistar compare --json`` prints; what is infinite becomes null."""
        return {
            "task": self.task,
            "protocol": self.protocol,
            "score": "mean return of the final evaluation",
            "threshold": self.threshold,
            "groups": [summary_json(each) for each in self.summaries],
            "improvements": [
                {
                    "better": each.better,
                    "than": each.than,
                    "probability": each.probability,
                    "interval": list(each.interval),
                    "difference": each.difference,
                    "difference_interval": list(each.difference_interval),
                }
                for each in self.improvements
            ],
            "bootstrap": {"resamples": statistics.RESAMPLES, "level": statistics.LEVEL, "seed": statistics.SEED},
            "notes": list(self.notes),
        }


def summary_json(summary: Summary) -> dict[str, Any]:
    """One group as JSON."""
    group, crossing = summary.group, summary.crossing
    runs = [
        {"path": str(run.path), "seed": run.seed, "score": score}
        for run, score in zip(group.runs, summary.scores.tolist(), strict=True)
    ]
    result = {
        "label": group.label,
        "settings": group.differs,
        "runs": runs,
        "interquartile_mean": summary.interquartile_mean,
        "interval": list(summary.interval),
        "mean": float(summary.scores.mean()),
        "median": float(np.median(summary.scores)),
        "curve": band_json(summary.curve, "steps"),
        "profile": band_json(summary.profile, "score"),
    }
    if crossing is not None:
        result["steps_to_threshold"] = {
            "reached": crossing.reached,
            "steps": list(crossing.steps),
            "median": crossing.median,
            "interval": list(crossing.interval),
        }
    return result


def band_json(band: Band, axis: str) -> dict[str, list[float]]:
    """A band as lists."""
    return {axis: band.x.tolist(), "centre": band.centre.tolist(), "low": band.low.tolist(), "high": band.high.tolist()}


def compare(groups: Sequence[Group], threshold: float | None = None) -> Comparison:
    """Compare groups of finished runs; ``threshold`` is the return that steps are counted to.

    Raises UsageError where runs are of different tasks or protocols, or have no final evaluation.
    """
    runs = [run for group in groups for run in group.runs]
    require_comparable(runs)
    require_finished(runs)
    scores = [scores_of(group) for group in groups]
    axis = profile_axis(np.concatenate(scores))
    summaries = tuple(summarise(group, each, axis, threshold) for group, each in zip(groups, scores, strict=True))
    pairs = itertools.combinations(zip(groups, scores, strict=True), 2)
    return Comparison(
        task=runs[0].task,
        protocol={name.partition(".")[2]: runs[0].settings.get(name) for name in PROTOCOL},
        threshold=threshold,
        summaries=summaries,
        improvements=tuple(improvement(one.label, x, other.label, y) for (one, x), (other, y) in pairs),
        notes=tuple(notes(groups, runs)),
    )


def scores_of(group: Group) -> Array:
    """The final evaluation's mean of every run: [n]."""
    return np.array([run.final["mean"] for run in group.runs if run.final is not None], dtype=np.float64)


def summarise(group: Group, scores: Array, axis: Array, threshold: float | None) -> Summary:
    """Aggregate, curve, profile and crossing of one group."""
    profile = statistics.performance_profile(scores, axis)
    band = statistics.profile_band(scores, axis) if len(scores) > 1 else (profile, profile)
    return Summary(
        group=group,
        scores=scores,
        interquartile_mean=float(statistics.interquartile_mean(scores)),
        interval=stratified_bootstrap([scores], pooled_interquartile_mean),
        curve=curve(group.runs),
        profile=Band(axis, profile, *band),
        crossing=None if threshold is None else crossing(group.runs, threshold),
    )


def curve(runs: Sequence[Finished]) -> Band:
    """The interquartile mean of the runs' evaluations, where all of them have some."""
    points = [np.array(run.points(), dtype=np.float64).reshape(-1, 2) for run in runs]
    points = [each for each in points if len(each)]
    if not points:
        return Band(*(np.empty(0) for _ in range(4)))
    low, high = max(each[0, 0] for each in points), min(each[-1, 0] for each in points)
    seen = np.unique(np.concatenate([each[:, 0] for each in points]))
    steps = seen[(seen >= low) & (seen <= high)]
    if len(steps) > POINTS:
        steps = np.linspace(low, high, POINTS)
    if len(steps) == 0:
        return Band(*(np.empty(0) for _ in range(4)))
    table = np.stack([np.interp(steps, each[:, 0], each[:, 1]) for each in points])
    return Band(steps, *statistics.bootstrap_band(table))


def profile_axis(scores: Array) -> Array:
    """Thresholds from below the least score to above the greatest: [P]."""
    low, high = float(scores.min()), float(scores.max())
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return np.linspace(low - pad, high + pad, 2 * POINTS + 1)


def crossing(runs: Sequence[Finished], threshold: float) -> Crossing:
    """When the runs reached ``threshold`` for the first time."""
    tables = [np.array(run.points(), dtype=np.float64).reshape(-1, 2) for run in runs]
    steps = np.array([statistics.steps_to_threshold(each[:, 0], each[:, 1], threshold) for each in tables])
    median = float(statistics.upper_median(steps))
    return Crossing(int(np.isfinite(steps).sum()), tuple(steps.tolist()), median, statistics.median_interval(steps))


def improvement(one: str, x: Array, other: str, y: Array) -> Improvement:
    """How much better ``one`` with scores x [n] is than ``other`` with y [m]."""

    def difference(a: Array, b: Array) -> Array:
        result: Array = statistics.interquartile_mean(a) - statistics.interquartile_mean(b)
        return result

    return Improvement(
        one,
        other,
        float(statistics.probability_of_improvement(x, y)),
        _within(stratified_bootstrap([x, y], statistics.probability_of_improvement), 0.0, 1.0),
        float(difference(x, y)),
        stratified_bootstrap([x, y], difference),
    )


def _within(interval: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """An interval that says nothing is the whole range."""
    return (max(interval[0], low), min(interval[1], high))


def notes(groups: Sequence[Group], runs: Sequence[Finished]) -> list[str]:
    """What a reader should know before believing the numbers."""
    found = []
    few = [group for group in groups if len(group.runs) < FEW]
    if few:
        counted = ", ".join(f"{len(group.runs)} of {group.label}" for group in few)
        found.append(
            f"few runs ({counted}): below {FEW}, the intervals are narrower than they should be; train more seeds"
        )
    ends = sorted({run.steps for run in runs})
    if ends[-1] > 1.02 * ends[0]:  # the last iteration may go a little beyond what was asked for
        found.append(
            f"the runs ended after different numbers of steps, {ends[0]:,} to {ends[-1]:,}, and are compared as they ended"
        )
    spacing = {run.settings.get("evaluation.every") for run in runs} | {
        str(run.settings.get("evaluation.at") or "") for run in runs
    } - {""}
    if len({value for value in spacing if value is not None}) > 1:
        found.append("evaluated at different steps: steps to a threshold are known only so far")
    versions = sorted({str(run.provenance.get("pistar", "?")) for run in runs})
    if len(versions) > 1:
        found.append(f"trained by different versions of pistar: {', '.join(versions)}")
    return found


def verdict(each: Improvement) -> str:
    """One comparison in a word, by its interval."""
    low, high = each.interval
    if low > 0.5:
        return "better"
    if high < 0.5:
        return "worse"
    return "undecided" if math.isfinite(low) else "unknown"

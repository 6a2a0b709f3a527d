"""Defaults against tuned on fresh seeds, which neither was chosen on.

The best of many trials owes part of its place to luck on the seeds of the search. So the best few are trained on further
seeds first, and the one with the best mean of all is chosen; then that one and the starting point are trained on seeds that
nothing has seen, the same for both, and compared pair by pair.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pistar.statistics import confidence
from pistar.tune import driver, space
from pistar.tune.crew import Crew
from pistar.tune.plan import Plan
from pistar.tune.space import Value
from pistar.tune.study import Finished


@dataclass(frozen=True)
class Paired:
    """One measure of two settings on the same seeds."""

    defaults: tuple[float, ...]
    tuned: tuple[float, ...]

    @property
    def difference(self) -> float:
        """Mean of tuned minus defaults."""
        return statistics.fmean(self.differences)

    @property
    def differences(self) -> list[float]:
        """Tuned minus defaults, seed by seed."""
        return [b - a for a, b in zip(self.defaults, self.tuned, strict=True)]

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of the mean difference (Student's t)."""
        return confidence(self.differences)

    @property
    def verdict(self) -> str:
        """In words: what these seeds can tell."""
        low, high = self.interval
        if low > 0:
            return "better"
        if high < 0:
            return "worse"
        return "as good" if not any(self.differences) else "undecided"

    def to_json(self) -> dict[str, Any]:
        """For result.json."""
        low, high = self.interval
        ends = [low, high] if math.isfinite(low) else None
        each = {"defaults": list(self.defaults), "tuned": list(self.tuned)}
        return {**each, "difference": self.difference, "interval": ends, "verdict": self.verdict}


@dataclass(frozen=True)
class Comparison:
    """Defaults and tuned on fresh seeds."""

    seeds: tuple[int, ...]
    area: Paired  # what was searched for
    final: Paired  # the return at the end

    def to_json(self) -> dict[str, Any]:
        """For result.json."""
        return {"seeds": list(self.seeds), "area": self.area.to_json(), "final_return": self.final.to_json()}


def job(plan: Plan, point: Mapping[str, Value], directory: Path, seed: int) -> dict[str, Any]:
    """One run for a worker."""
    experiment = plan.at(point).to_table()
    return {"experiment": experiment, "directory": str(directory), "seeds": [seed], "rungs": plan.method.rungs}


def choose(
    plan: Plan, crew: Crew, place: Path, say: driver.Say, finished: Sequence[Finished], finalists: int
) -> tuple[Finished, dict[int, list[float]]]:
    """The best trial over the seeds of the search and as many further ones; trial -> areas by seed of the finalists."""
    ranked = sorted(finished, key=lambda each: -each.value)[: max(finalists, 1)]
    areas = {each.number: [found[-1] for found in each.areas] for each in ranked}
    if len(ranked) > 1:
        more = range(plan.seeds.stop, plan.seeds.stop + plan.method.seeds)
        say(f"the best {len(ranked)} trials on {len(more)} further seeds")
        jobs = {
            (each.number, seed): job(plan, each.point, place / "finalists" / f"{each.origin:04d}", seed)
            for each in ranked
            for seed in more
        }
        results = driver.train_all(crew, jobs, place, say)
        for number, seed in jobs:
            areas[number].append(results[number, seed]["areas"][0][-1])
    return max(ranked, key=lambda each: statistics.fmean(areas[each.number])), areas


def compare(plan: Plan, crew: Crew, place: Path, say: driver.Say, chosen: Finished, count: int) -> Comparison | None:
    """Train the starting point and the chosen trial on ``count`` fresh seeds; None where they are the same."""
    defaults = space.start(plan.base, plan.searched)
    if plan.at(chosen.point) == plan.at(defaults) or count == 0:
        return None
    first = plan.seeds.stop + plan.method.seeds
    seeds = range(first, first + count)
    say(f"defaults and trial {chosen.number} on {count} fresh seeds")
    points = {"defaults": defaults, f"trial-{chosen.number}": chosen.point}
    jobs = {
        (name, seed): job(plan, point, place / "comparison" / name, seed)
        for seed in seeds
        for name, point in points.items()
    }
    results = driver.train_all(crew, jobs, place, say)

    def measured(what: str) -> Paired:
        both = []
        for name in points:
            found = [results[name, seed] for seed in seeds]
            both.append(tuple(r["areas"][0][-1] if what == "area" else r["finals"][0] for r in found))
        return Paired(*both)

    return Comparison(tuple(seeds), measured("area"), measured("final"))

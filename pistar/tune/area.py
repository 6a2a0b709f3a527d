"""The objective: the area under the curve of evaluations, in units of return.

    A = (1/N) ∫₀ᴺ J(n) dn,    J the mean return of an evaluation after n environment steps

J is linear between evaluations, the first of which is that of the untrained policy, and constant after the last. A is the
mean return over the run, so that it pays to learn early and to end well; a single lucky evaluation moves it little. Runs
overshoot N by part of an iteration, by more the larger the iteration; what lies behind N does not count.

The area so far at the fraction r/R of the run is the same integral up to there (a *rung*); at the last rung it is A.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pistar.errors import NumericalError

Curve = Sequence[tuple[float, float]]  # (steps, mean return) in order of steps


def curve(records: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """The evaluations of a run; where several were made after the same steps, the last one, of the most episodes, counts."""
    found: dict[float, float] = {}
    for record in records:
        mean = record["mean"]
        if mean is None:
            raise NumericalError(f"the evaluation after {record['steps']} steps gave a return that is not finite")
        found[float(record["steps"])] = float(mean)
    return sorted(found.items())


def area(points: Curve, end: float) -> float:
    """(1/end) ∫₀^end of the curve; a curve needs one point at least."""
    steps, values = np.array(points, dtype=np.float64).T
    inner = steps[(steps > 0) & (steps < end)]
    grid = np.concatenate(([0.0], inner, [end]))
    height = np.interp(grid, steps, values)  # constant outside
    return float(np.sum((height[1:] + height[:-1]) / 2 * np.diff(grid)) / end)


def rungs(points: Curve, steps: float, count: int) -> list[float]:
    """The areas so far at 1/count, 2/count, ... of ``steps``, as far as the curve reaches."""
    reached = points[-1][0] if points else 0.0
    ends = [steps * (rung + 1) / count for rung in range(count)]
    return [area(points, end) for end in ends if end <= reached]

"""When a trial may be stopped: once it is improbable that it is as good as the best one on the same seeds.

Every trial trains the same seeds in the same order, and is compared over the same part of them: the seeds that it has
finished and the rungs that it has reached with the next. With areas A[c, s, r] of configuration c, seed s and rung r,

    d = Σ_{s ≤ n} (A[c, s, R] − A[best, s, R]) + (A[c, n+1, r] − A[best, n+1, r])

has the variance 2 (n σ_R² + σ_r²), where σ_r² is what is left of the areas of good trials at rung r once the mean of each
trial and of each seed is taken out (two-way layout: (trials − 1)(seeds − 1) degrees of freedom). A trial is stopped where d
is below zero by more than Student's one-sided 97.5 % quantile times that deviation.

It differs from a median rule by knowing the noise: a lucky first seed neither saves a trial nor, being the best trial's,
dooms the others; what all trials have in common on a seed cancels. With one seed nothing tells luck from merit, and nothing
is stopped. Tests at many rungs are not corrected for their number. Compare Birattari et al. (2002), A racing algorithm for
configuring metaheuristics, and López-Ibáñez et al. (2016), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pistar.statistics import student_quantile

Areas = Sequence[Sequence[float]]  # [seeds][rungs reached]; of a finished trial, all of both
ENOUGH = 3  # finished trials without which the noise is not known


def hopeless(mine: Areas, finished: Sequence[Areas]) -> bool:
    """Whether a trial can be stopped, given the areas of finished trials [trials][seeds][rungs], all at the same cells."""
    if len(finished) < ENOUGH or len(finished[0]) < 2 or not mine or not mine[-1]:
        return False
    table = np.array(finished, dtype=np.float64)  # [C, S, R]
    if not np.isfinite(table).all():
        return False
    order = np.argsort(-table[:, :, -1].mean(axis=1))
    good = table[order[: max(ENOUGH, len(order) // 2)]]  # the noise of those that learn nothing is another one
    best, last = table[order[0]], table.shape[2] - 1
    difference, variance = 0.0, 0.0
    for seed, areas in enumerate(mine):
        rung = len(areas) - 1
        if not math.isfinite(areas[rung]):
            return True
        difference += areas[rung] - best[seed, rung]
        variance += 2 * noise(good[:, :, rung])
        assert rung == last or seed == len(mine) - 1
    freedom = (good.shape[0] - 1) * (good.shape[1] - 1)
    return difference < -student_quantile(freedom) * math.sqrt(variance)


def noise(table: np.ndarray) -> float:
    """The variance of [C, S] areas around the sum of what each trial and each seed has of its own."""
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    return float(np.sum(rest**2) / ((table.shape[0] - 1) * (table.shape[1] - 1)))

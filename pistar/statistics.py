"""What a handful of runs says about a method: aggregate scores, their uncertainty, and comparisons of two methods.

Agarwal, Schwarzer, Castro, Courville & Bellemare (2021), arXiv:2108.13264, section 4: the interquartile mean in the place
of mean and median, intervals by the stratified bootstrap, the probability of improvement, and performance profiles in the
place of tables. A *score* is one number a run, here the return of its final evaluation; runs are the only repetitions, since
the episodes of one run share a policy. Pure NumPy: the same numbers from the same seed, everywhere.

Left out: normalisation over tasks (what is compared here is of one task), and tests of significance, which the paper advises
against. `confidence` is for samples that there are many of: episodes of one policy, and their paired differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Statistic = Callable[..., Array]  # strata [R, n_k] each -> [R]: one value for each of R resamples

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 0


def interquartile_mean(scores: Array, axis: int = -1) -> Array:
    """The mean of the middle half of ``scores``: the lowest and the highest ⌊n/4⌋ of n are left out.

    Robust to outliers as the median is, and of less variance; with fewer than 4 runs it is the mean.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64), axis=axis)
    count = ordered.shape[axis]
    if count == 0:
        raise ValueError("the interquartile mean of no scores is not defined; expected at least one")
    cut = count // 4
    middle: Array = np.take(ordered, np.arange(cut, count - cut), axis=axis).mean(axis=axis)
    return middle


def pooled_interquartile_mean(*strata: Array) -> Array:
    """The interquartile mean over the runs of all strata together, [R, n_k] each -> [R]."""
    return interquartile_mean(np.concatenate(strata, axis=-1))


def resampled(strata: Sequence[Array], resamples: int, seed: int) -> list[Array]:
    """Each stratum [n_k, ...] drawn with replacement from itself alone, as often as it has runs: [R, n_k, ...] each."""
    generator = np.random.default_rng(seed)
    drawn = []
    for stratum in strata:
        scores = np.asarray(stratum, dtype=np.float64)
        if scores.shape[0] == 0:
            raise ValueError("a stratum without runs cannot be resampled; expected at least one run in each")
        drawn.append(scores[generator.integers(0, scores.shape[0], (resamples, scores.shape[0]))])
    return drawn


def stratified_bootstrap(
    strata: Sequence[Array],
    statistic: Statistic,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = SEED,
) -> tuple[float, float]:
    """The percentile interval of ``statistic(*strata)`` when the runs of every stratum are drawn anew, independently.

    Strata are what is kept apart: the tasks of a suite, or the two methods of a comparison. With one run a stratum nothing is
    known of the spread, and the interval is infinite.
    """
    if min(len(stratum) for stratum in strata) < 2:
        return (-math.inf, math.inf)
    values = statistic(*resampled(strata, resamples, seed))
    low, high = np.quantile(values, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def bootstrap_band(
    curves: Array, *, resamples: int = 2000, level: float = LEVEL, seed: int = SEED
) -> tuple[Array, Array, Array]:
    """Interquartile mean and pointwise interval over runs of curves [n, P]: three arrays [P]; one run has no width."""
    centre = interquartile_mean(curves, axis=0)
    if len(curves) < 2:
        return centre, centre, centre
    index = np.random.default_rng(seed).integers(0, len(curves), (resamples, len(curves)))
    low, high = np.empty_like(centre), np.empty_like(centre)
    for point in range(curves.shape[1]):  # one point at a time: all at once would be resamples · n · P numbers
        values = interquartile_mean(curves[:, point][index])
        low[point], high[point] = np.quantile(values, ((1 - level) / 2, (1 + level) / 2))
    return centre, low, high


def probability_of_improvement(better: Array, than: Array) -> Array:
    """P(X > Y) + ½ P(X = Y) of a run X of one method and a run Y of another, [..., n] and [..., m] -> [...].

    Over all n · m pairs: Mann and Whitney's U, divided by n m.
    """
    x, y = np.asarray(better, dtype=np.float64), np.asarray(than, dtype=np.float64)
    difference = x[..., :, None] - y[..., None, :]
    share: Array = ((difference > 0) + 0.5 * (difference == 0)).mean(axis=(-2, -1))
    return share


def performance_profile(scores: Array, thresholds: Array) -> Array:
    """The share of runs whose score exceeds each threshold τ, F(τ) = (1/N) Σ 1[x_n > τ]: [..., n], [P] -> [..., P].

    The one that lies higher is better; where it crosses ½ is the median, and the area below it is the mean.
    """
    above = np.asarray(scores, dtype=np.float64)[..., :, None] > np.asarray(thresholds, dtype=np.float64)
    share: Array = above.mean(axis=-2)
    return share


def profile_band(
    scores: Array, thresholds: Array, *, resamples: int = 2000, level: float = LEVEL, seed: int = SEED
) -> tuple[Array, Array]:
    """The pointwise interval of ``performance_profile``: [n], [P] -> two arrays [P]."""
    profiles = performance_profile(resampled([scores], resamples, seed)[0], thresholds)
    low, high = np.quantile(profiles, ((1 - level) / 2, (1 + level) / 2), axis=0)
    return low, high


def steps_to_threshold(steps: Array, values: Array, threshold: float) -> float:
    """The first of ``steps`` [N], in ascending order, whose value reaches ``threshold``; infinite where none does.

    Nothing is interpolated: a curve that is seen at a few points has not been seen to cross between them.
    """
    reached = np.flatnonzero(np.asarray(values) >= threshold)
    return float(steps[reached[0]]) if len(reached) else math.inf


def upper_median(samples: Array, axis: int = -1) -> Array:
    """The ⌊n/2⌋-th of n ordered samples, counted from 0: the greater middle one, so that infinity needs half of them."""
    ordered = np.sort(np.asarray(samples, dtype=np.float64), axis=axis)
    middle: Array = np.take(ordered, ordered.shape[axis] // 2, axis=axis)
    return middle


def median_interval(
    samples: Array, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = SEED
) -> tuple[float, float]:
    """The bootstrap interval of ``upper_median`` over samples [n] that may be infinite, by order statistics alone."""
    if len(samples) < 2:
        return (-math.inf, math.inf)
    medians = np.sort(upper_median(resampled([samples], resamples, seed)[0]))
    ends = (math.floor((resamples - 1) * (1 - level) / 2), math.ceil((resamples - 1) * (1 + level) / 2))
    return float(medians[ends[0]]), float(medians[ends[1]])


def confidence(samples: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean of independent samples (Student's t); infinite for fewer than two."""
    x = np.asarray(samples, dtype=np.float64).ravel()
    if x.size < 2:
        return (-math.inf, math.inf)
    half = student_quantile(x.size - 1) * float(x.std(ddof=1)) / math.sqrt(x.size)
    return (float(x.mean()) - half, float(x.mean()) + half)


def student_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t (exact for 1 to 4 degrees of freedom, else Abramowitz & Stegun 26.7.5)."""
    exact = {1: 12.706204736, 2: 4.302652730, 3: 3.182446305, 4: 2.776445105}
    if freedom in exact:
        return exact[freedom]
    z, n = 1.959963984540054, float(freedom)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / n ** (k + 1) for k, term in enumerate(terms))

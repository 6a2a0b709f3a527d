"""What has to be known before a learning curve is drawn: series, smoothing, limits, places for labels.

Arithmetic on NumPy arrays only; ``picture`` draws the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flat = Mapping[str, float]  # a record of finite numbers only, as ``sink.scalars`` gives them

POINTS = 800  # of the common axis that several seeds are brought to: about the picture's width in pixels
WINDOW = 0.04  # of the shown iterations that the smoothed line averages over

NEIGHBOURS = 4  # on either side, that a value is compared with to see whether it is alone

# Outliers are cut off only where that pays: (part of the values that may go, times the rest must gain in height).
BARGAINS = ((0.02, 4.0), (0.05, 8.0), (0.10, 20.0), (0.30, 50.0))


@dataclass(frozen=True)
class Curve:
    """One quantity against steps, over one or several seeds."""

    seeds: int
    raw_steps: Array  # [M] every value of every seed
    raw: Array  # [M]
    limits: tuple[float, float] | None  # that most values lie between; None where there are none
    steps: Array  # [N]
    centre: Array  # [N] the smoothed value; over several seeds their median
    low: Array  # [N] the least of the seeds' smoothed values
    high: Array  # [N] the greatest


def learning(runs: Sequence[Sequence[Flat]], names: Sequence[str]) -> Curve:
    """The curve of the first of ``names`` that each run reports; several seeds meet on a common axis.

    A name is a full one or a last component: "kl" finds "update/kl". Every seed is smoothed on its own.
    """
    series = [each for each in (values_of(run, names) for run in runs) if len(each[0])]
    nothing = np.empty(0)
    if not series:
        return Curve(0, nothing, nothing, None, nothing, nothing, nothing, nothing)
    raw_steps, raw = (np.concatenate(arrays) for arrays in zip(*series, strict=True))
    limits = robust_limits(raw)
    smooth = [smoothed_within(values, limits) for _, values in series]
    if len(series) == 1:
        return Curve(1, raw_steps, raw, limits, series[0][0], smooth[0], smooth[0], smooth[0])
    axis = np.linspace(raw_steps.min(), raw_steps.max(), POINTS)
    aligned = np.stack(
        [np.interp(axis, steps, values, np.nan, np.nan) for (steps, _), values in zip(series, smooth, strict=True)]
    )
    known = np.isfinite(aligned).any(axis=0)  # seeds that were resumed or stopped may leave a gap
    axis, aligned = axis[known], aligned[:, known]
    centre, low, high = np.nanmedian(aligned, 0), np.nanmin(aligned, 0), np.nanmax(aligned, 0)
    return Curve(len(series), raw_steps, raw, limits, axis, centre, low, high)


def values_of(run: Sequence[Flat], names: Sequence[str]) -> tuple[Array, Array]:
    """(steps, values) of one quantity, each [N], where it was reported, in order of steps."""
    found = sorted(set().union(*run))
    name = next((name for wanted in names for name in found if wanted in (name, name.rpartition("/")[2])), None)
    pairs = sorted(
        (record["steps"], record[name]) for record in run if name is not None and name in record and "steps" in record
    )
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def smoothed(values: Array, window: float = WINDOW) -> Array:
    """[N] -> [N]: three passes of the least-squares line over a moving window, taken at each value's own place.

    Inside, that is a running mean, three of which come close to a Gaussian kernel. At the ends, where the window stays
    with the outermost values, the line keeps a rising curve from being pulled inwards.
    """
    width = min(2 * round(window * len(values) / 2) + 1, len(values))
    index = np.arange(len(values))
    first = np.clip(index - width // 2, 0, len(values) - width)
    middle = first + (width - 1) / 2
    for _ in range(3):
        total, moment = (np.concatenate(([0.0], np.cumsum(each))) for each in (values, index * values))
        mean = (total[first + width] - total[first]) / width
        covariance = (moment[first + width] - moment[first]) / width - middle * mean
        values = mean + 12 * covariance / max(width**2 - 1, 1) * (index - middle)
    return values


def smoothed_within(values: Array, limits: tuple[float, float], window: float = WINDOW) -> Array:
    """[N] -> [N]: smoothed, with an outlier taken as the median of its surroundings; NaN where those are outliers too.

    A single wild episode thus leaves no dent, and a wild stretch no line where there are no values.
    """
    reach = max(2, round(window * len(values) / 2))
    calm = values.copy()
    for index in np.flatnonzero((values < limits[0]) | (values > limits[1])):
        calm[index] = np.median(values[max(index - reach, 0) : index + reach + 1])
    line = smoothed(np.clip(calm, *limits))
    line[(calm < limits[0]) | (calm > limits[1])] = np.nan
    return line


def robust_limits(values: Array) -> tuple[float, float]:
    """The range of ``values`` [N], N >= 1, in their order in time, without outliers.

    A few values go where that enlarges the rest a lot, and where they are stray. A plain quantile would cut the early
    part off every curve that rises late, the rise off one that is flat before it, and keep a tenth of returns at -1e6.
    """
    low, high = float(values.min()), float(values.max())
    for part, gain in BARGAINS:
        least, greatest = (float(each) for each in np.quantile(values, (part, 1 - part)))
        if high - low > gain * (high - least) and stray(least - values, flat=least == high):
            low = least
        if high - low > gain * (greatest - low) and stray(values - greatest, flat=greatest == low):
            high = greatest
    return low, high


def stray(beyond: Array, flat: bool) -> bool:
    """Whether the positive entries of ``beyond`` [N], distances past a limit, are outliers rather than a slope.

    They are where each is alone among its neighbours in time, or else where all lie far off together, which cannot be
    told where the rest is ``flat`` and so gives no measure of far.
    """
    outside = np.flatnonzero(beyond > 0)
    around = [float(np.median(beyond[max(i - NEIGHBOURS, 0) : i + NEIGHBOURS + 1])) for i in outside]
    lasting = [value for value in around if value > 0]
    return not lasting or (not flat and min(lasting) > max(lasting) / 4)


def widened(limits: tuple[float, float], references: Sequence[float], most: float = 4.0) -> tuple[float, float]:
    """``limits`` extended to each reference that leaves the curve at least 1/``most`` of the height, nearest first."""
    low, high = limits
    span = (high - low) or abs(high) / 4 or 1.0
    for value in sorted(references, key=lambda value: max(low - value, value - high)):
        if max(high, value) - min(low, value) <= most * span:
            low, high = min(low, value), max(high, value)
    pad = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return low - pad, high + pad


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places for labels, ``gap`` apart and within [low, high], with the least squared distance from ``places``.

    Shifted by its rank times ``gap``, the k-th lowest label may not lie below the one before: an isotonic regression,
    solved by pooling neighbours that violate the order. Where the range is too small the gap shrinks.
    """
    if not places:
        return []
    gap = min(gap, (high - low) / max(len(places) - 1, 1))
    order = sorted(range(len(places)), key=lambda index: places[index])
    pools: list[tuple[float, int]] = []  # (mean, size)
    for rank, index in enumerate(order):
        mean, size = places[index] - rank * gap, 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean, size = (before * many + mean * size) / (many + size), many + size
        pools.append((mean, size))
    means = [mean for mean, size in pools for _ in range(size)]
    result = [0.0] * len(places)
    for rank, index in enumerate(order):
        result[index] = min(max(means[rank], low), high - (len(places) - 1) * gap) + rank * gap
    return result

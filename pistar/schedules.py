"""Hyperparameters that move with training: learning rate, clip range, entropy weight.

A schedule is a pure function of progress in [0, 1], the fraction of the planned steps that is done. A run that is
extended keeps the horizon it was planned with and then holds the last value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pistar.errors import UsageError

Shape = Literal["constant", "linear", "cosine", "exponential"]


@dataclass(frozen=True)
class Schedule:
    """From ``start`` to ``end`` along ``shape``; in TOML a number or ``{from = 3e-4, to = 0.0, shape = "linear"}``."""

    start: float
    end: float
    shape: Shape = "linear"

    def __post_init__(self) -> None:
        if self.shape == "exponential" and not (self.start > 0 and self.end > 0):
            raise UsageError(f"an exponential schedule needs two positive ends, received {self.start} and {self.end}")

    def at(self, progress: float) -> float:
        """The value at ``progress``; held outside [0, 1], and exact at both ends."""
        p = min(max(progress, 0.0), 1.0)
        if self.shape == "constant" or p == 0.0:
            return self.start
        if p == 1.0:
            return self.end
        if self.shape == "linear":
            return self.start + (self.end - self.start) * p
        if self.shape == "cosine":
            return self.end + (self.start - self.end) * 0.5 * (1.0 + math.cos(math.pi * p))
        return float(self.start * (self.end / self.start) ** p)


def constant(value: float) -> Schedule:
    """A schedule that never moves."""
    return Schedule(value, value, "constant")


def linear(start: float, end: float) -> Schedule:
    """A straight line from ``start`` to ``end``."""
    return Schedule(start, end, "linear")

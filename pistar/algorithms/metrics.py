"""What algorithms report of an iteration: means over its gradient steps, read from the device once at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pistar import objectives

if TYPE_CHECKING:
    from pistar.rollout import Batch


class MetricsMean:
    """The mean of each named scalar over the times it was added; ``first`` is what was added first."""

    def __init__(self) -> None:
        self.first: Mapping[str, Any] = {}
        self._totals: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Take in one gradient step's scalars (tensors or numbers)."""
        self.first = self.first or metrics
        for name, value in metrics.items():
            self._totals[name] = self._totals[name] + value if name in self._totals else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def result(self) -> dict[str, float]:
        """Name -> mean."""
        return {name: float(total) / self._counts[name] for name, total in self._totals.items()}


def explained_variance(batch: Batch) -> float:
    """How much of the value targets' variance the critic explains, before any update."""
    return float(objectives.explained_variance(batch.target - batch.advantage, batch.target, batch.weight))


def ratio_error(kl: Any) -> float:
    """The root mean square of log π / π_old that an estimate (r − 1) − log r of the KL stands for, to second order.

    On the first minibatch of an iteration nothing has moved yet: anything but 0 says that learning evaluates another policy
    than the one that acted.
    """
    return math.sqrt(2.0 * max(float(kl), 0.0))

"""What algorithms report of an iteration: means over its gradient steps, read from the device once at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pistar import objectives

if TYPE_CHECKING:
    from pistar.rollout import Batch


class MetricsMean:
    """The mean of each named scalar over the times it was added."""

    def __init__(self) -> None:
        self._totals: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Take in one gradient step's scalars (tensors or numbers)."""
        for name, value in metrics.items():
            self._totals[name] = self._totals[name] + value if name in self._totals else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def result(self) -> dict[str, float]:
        """Name -> mean."""
        return {name: float(total) / self._counts[name] for name, total in self._totals.items()}


def explained_variance(batch: Batch) -> float:
    """How much of the value targets' variance the critic explains, before any update."""
    return float(objectives.explained_variance(batch.target - batch.advantage, batch.target, batch.weight))

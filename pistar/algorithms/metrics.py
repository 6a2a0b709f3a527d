"""What algorithms report of an iteration: means over its gradient steps, read from the device once at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pistar import objectives

if TYPE_CHECKING:
    from pistar.rollout import Batch


class MetricsMean:
    """The mean of each named scalar over the times it was added; ``first`` is what was added first.

    Captured steps report a ``vector`` too (`pistar.graphs`), in which a skipped one is all 0, its last entry included: these are
    added as a whole, and a skipped step is none of the times.
    """

    def __init__(self) -> None:
        self.first: Mapping[str, Any] = {}
        self._totals: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._captured: dict[tuple[str, ...], Any] = {}  # names -> sum of vectors

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Take in one gradient step's scalars (tensors or numbers)."""
        self.first = self.first or metrics
        vector = getattr(metrics, "vector", None)
        if vector is not None:
            names = tuple(metrics)
            self._captured[names] = self._captured[names] + vector if names in self._captured else vector
            return
        for name, value in metrics.items():
            self._totals[name] = self._totals[name] + value if name in self._totals else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def result(self) -> dict[str, float]:
        """Name -> mean."""
        self._read()
        counts = self._counts  # 0 where all captured steps were skipped
        return {name: float(total) / counts[name] if counts[name] else math.nan for name, total in self._totals.items()}

    def mean(self, name: str) -> Any:
        """The mean of one scalar, in double precision; a tensor, where it was told by tensors, that nobody has waited for."""
        total = self._totals[name]
        return (total if isinstance(total, float) else total.double()) / self._counts[name]

    def steps(self) -> int:
        """The steps that counted."""
        self._read()
        return max(self._counts.values())

    def _read(self) -> None:
        """Wait for what captured steps have told, at most once."""
        for names, vector in self._captured.items():
            *values, count = vector.tolist()
            for name, value in zip(names, values, strict=True):
                self._totals[name] = float(self._totals.get(name, 0.0)) + value
                self._counts[name] = self._counts.get(name, 0) + int(count)
        self._captured.clear()


def explained_variance(batch: Batch) -> float:
    """How much of the value targets' variance the critic explains, before any update."""
    return float(objectives.explained_variance(batch.target - batch.advantage, batch.target, batch.weight))


def ratio_error(kl: Any) -> float:
    """The root mean square of log π / π_old that an estimate (r − 1) − log r of the KL stands for, to second order.

    On the first minibatch of an iteration nothing has moved yet: anything but 0 says that learning evaluates another policy
    than the one that acted.
    """
    return math.sqrt(2.0 * max(float(kl), 0.0))

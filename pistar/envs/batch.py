"""The arrays [B, ...] into which lanes write what a step means, in this process or in memory that workers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pistar.envs.layout import Array, Layout, first_non_finite

Allocate = Callable[[tuple[int, ...], Any], Array]  # (shape, dtype) -> zeros


@dataclass
class Batch:
    """Where B lanes write what a step means; see ``environment.Step``."""

    observation: list[Array]  # one [B, ...] per leaf
    final_observation: list[Array]
    reward: Array  # [B] float32
    terminated: Array  # [B] bool
    truncated: Array  # [B] bool
    progress: Array  # [1, 2] int64: the lane at work (-1: none), calls into environments begun so far
    _flat: list[tuple[Array, Array]] | None = None  # views of what must be finite, and as many zeros

    @staticmethod
    def allocate(layout: Layout, lanes: int, zeros: Allocate = np.zeros, slices: int = 1) -> Batch:
        """Arrays for ``lanes`` lanes, stepped in ``slices`` independent parts."""
        return Batch(
            observation=[zeros((lanes, *field.shape), field.dtype) for field in layout.fields],
            final_observation=[zeros((lanes, *field.shape), field.dtype) for field in layout.fields],
            reward=zeros((lanes,), np.dtype(np.float32)),
            terminated=zeros((lanes,), np.dtype(np.bool_)),
            truncated=zeros((lanes,), np.dtype(np.bool_)),
            progress=zeros((slices, 2), np.dtype(np.int64)),
        )

    def first_fault(self, layout: Layout, lanes: int, *, stepped: bool) -> tuple[int, str, float] | None:
        """(lane, entry, value) of the lowest of the first ``lanes`` lanes with a NaN or an infinity, or None.

        Not ``stepped``: only observations were written, and the rest is what an earlier step left behind.
        """
        if self._all_finite():
            return None
        labels = [field.label for field in layout.fields]
        found = [first_non_finite(label, array[:lanes]) for label, array in zip(labels, self.observation, strict=True)]
        if stepped:
            found.append(first_non_finite("reward", self.reward[:lanes]))
        if stepped and (self.terminated.any() or self.truncated.any()):
            ended = (self.terminated | self.truncated)[:lanes]
            for label, array in zip(labels, self.final_observation, strict=True):
                found.append(first_non_finite(label, array[:lanes], ended))
        faults = [fault for fault in found if fault is not None]
        return min(faults, key=lambda fault: fault[0]) if faults else None

    def _all_finite(self) -> bool:
        """Whether nothing here is NaN or infinite: 0 times such a number is NaN, and one product tells."""
        if self._flat is None:
            everything = (*self.observation, *self.final_observation, self.reward)
            arrays = [array for array in everything if array.dtype.kind == "f" and array.size]
            self._flat = [(array.reshape(-1), np.zeros(array.size, array.dtype)) for array in arrays]
        with np.errstate(invalid="ignore"):
            return all(zeros.dot(flat) == 0 for flat, zeros in self._flat)

    def part(self, index: int, lanes: slice) -> Batch:
        """The views of slice number ``index``."""
        return Batch(
            observation=[array[lanes] for array in self.observation],
            final_observation=[array[lanes] for array in self.final_observation],
            reward=self.reward[lanes],
            terminated=self.terminated[lanes],
            truncated=self.truncated[lanes],
            progress=self.progress[index : index + 1],
        )

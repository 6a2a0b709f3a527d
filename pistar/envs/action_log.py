"""The actions of every lane since its episode began, kept so that an episode can be played again.

One array [time, B, ...] per leaf of the action space, in the smallest integer dtype that holds a discrete action. It
grows by doubling and drops the time before the oldest running episode first, so it is as long as the longest of them,
not as the run.
"""

from __future__ import annotations

import numpy as np

from pistar.envs.layout import Array, Field, Layout

FIRST_CAPACITY = 256  # steps


class ActionLog:
    """Actions of B lanes whose episodes begin at different times."""

    def __init__(self, layout: Layout, lanes: int) -> None:
        self.layout = layout
        self.started = [0] * lanes  # index in time at which the lane's episode began
        self.length = 0
        self._arrays = [np.zeros((FIRST_CAPACITY, lanes, *f.shape), _compact_dtype(f)) for f in layout.fields]

    def append(self, actions: list[Array]) -> None:
        """Note one step of all lanes."""
        if self.length == len(self._arrays[0]):
            self._make_room()
        for array, action in zip(self._arrays, actions, strict=True):
            array[self.length] = action
        self.length += 1

    def begin(self, lane: int) -> None:
        """Forget the lane's actions up to now: a new episode begins."""
        self.started[lane] = self.length

    def packed(self) -> dict[str, Array]:
        """Per leaf, the lanes' running episodes one after the other: [sum of ``elapsed``, ...]."""
        return {
            field.key: np.concatenate([array[start : self.length, lane] for lane, start in enumerate(self.started)])
            for field, array in zip(self.layout.fields, self._arrays, strict=True)
        }

    def unpack(self, packed: dict[str, Array], elapsed: list[int]) -> None:
        """Take over what ``packed`` returned, given the steps since each lane's episode began."""
        self.length = max(elapsed)
        self.started = [self.length - each for each in elapsed]
        offsets = np.cumsum([0, *elapsed])
        for index, field in enumerate(self.layout.fields):
            rows = np.asarray(packed[field.key])
            array = np.zeros((max(FIRST_CAPACITY, self.length), len(elapsed), *field.shape), _compact_dtype(field))
            for lane, start in enumerate(self.started):
                array[start : self.length, lane] = rows[offsets[lane] : offsets[lane + 1]]
            self._arrays[index] = array

    def of_lane(self, lane: int) -> list[Array]:
        """The lane's actions since its episode began, a leaf at a time: [elapsed, ...] in the space's dtype."""
        since = slice(self.started[lane], self.length)
        return [
            array[since, lane].astype(field.dtype)
            for field, array in zip(self.layout.fields, self._arrays, strict=True)
        ]

    def _make_room(self) -> None:
        oldest = min(self.started)
        kept = self.length - oldest
        capacity = len(self._arrays[0])
        if kept > capacity // 2:
            capacity *= 2
        for index, array in enumerate(self._arrays):
            roomy = np.zeros((capacity, *array.shape[1:]), array.dtype)
            roomy[:kept] = array[oldest : self.length]
            self._arrays[index] = roomy
        self.length = kept
        self.started = [start - oldest for start in self.started]


def _compact_dtype(field: Field) -> np.dtype[np.generic]:
    if field.low is None or field.high is None:
        return field.dtype
    return np.result_type(np.min_scalar_type(int(field.low.min())), np.min_scalar_type(int(field.high.max())))

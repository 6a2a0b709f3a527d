"""Returns and lengths of the episodes that end within a rollout, whatever they began with before it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def finished(
    rewards: Array, ends: Array, counts: Array, running: Array, most: int
) -> tuple[list[float], list[int], Array]:
    """Of rewards, ends and entries that count [T, B]: returns and lengths of the last ``most`` episodes to end, in order.

    ``running`` [2, B] holds return and length of each lane's episode before the rollout; the third result, those after it.
    """
    lanes = rewards.shape[1]
    total, length = (np.concatenate((np.zeros((1, lanes)), each.cumsum(0))) for each in (rewards, counts))
    origin = -running  # so that total - origin is the running return, whatever came before the rollout
    times, where = np.nonzero(ends)
    early = max(0, len(times) - most)  # a loop over thousands of which nobody asks is slow
    for row, each in zip(origin, (total, length), strict=True):
        row[where[:early]] = each[times[:early] + 1, where[:early]]  # of a lane's several, the last one stays
    returns, lengths = [], []
    for t, lane in zip(times[early:], where[early:], strict=True):
        returns.append(float(total[t + 1, lane] - origin[0, lane]))
        lengths.append(int(length[t + 1, lane] - origin[1, lane]))
        origin[:, lane] = total[t + 1, lane], length[t + 1, lane]
    return returns, lengths, np.stack((total[-1], length[-1])) - origin

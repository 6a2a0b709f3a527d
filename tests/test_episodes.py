"""Returns and lengths of finished episodes beside a walk through the rollout, entry by entry."""

from __future__ import annotations

import numpy as np
import pytest

from pistar.episodes import finished


@pytest.mark.parametrize("most", [1, 5, 1000])
def test_the_last_episodes_are_those_of_a_walk_through_all_entries(most: int) -> None:
    rng = np.random.default_rng(0)
    rewards = rng.integers(-3, 4, (40, 7)).astype(np.float64)  # whole numbers, whose sums are exact in any order
    ends, counts = rng.random((40, 7)) < 0.2, rng.random((40, 7)) < 0.9
    rewards *= counts
    running = rng.integers(0, 9, (2, 7)).astype(np.float64)
    walked, (total, length) = [], running.copy()
    for t in range(40):
        total, length = total + rewards[t], length + counts[t]
        for lane in np.flatnonzero(ends[t]):
            walked.append((total[lane], length[lane]))
            total[lane] = length[lane] = 0.0
    returns, lengths, after = finished(rewards, ends, counts, running, most)
    assert len(walked) > 5
    assert list(zip(returns, lengths, strict=True)) == walked[-most:]
    assert np.array_equal(after, np.stack((total, length)))

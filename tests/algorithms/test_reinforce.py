"""Which episodes REINFORCE learns from: those that the rollout holds from their first step to their last."""

from __future__ import annotations

import pytest
import torch

from pistar.algorithms.reinforce import whole_episodes
from pistar.rollout import Rollout

STEPS, LANES = 12, 6


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weighted", [False, True])
def test_only_episodes_that_begin_and_end_in_the_rollout_count(seed: int, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    terminated, truncated = (torch.rand((STEPS, LANES), generator=generator) < 0.15 for _ in range(2))
    ended = terminated | truncated
    starts = torch.arange(LANES).unsqueeze(0) % 2 == 0  # half of the lanes begin in the middle of an episode
    nothing = torch.zeros(STEPS, LANES)
    rollout = Rollout(
        observation=nothing,
        action=nothing,
        log_prob=nothing,
        reward=nothing,
        terminated=terminated,
        truncated=truncated,
        is_first=torch.cat((starts, ended[:-1])),
        weight=(torch.rand((STEPS, LANES), generator=generator) < 0.8).float() if weighted else None,
        last_observation=nothing[0],
        final_observation=nothing[0, :0],
        final_index=torch.zeros(0, dtype=torch.int64),
    )
    truth = torch.zeros(STEPS, LANES)
    for lane in range(LANES):
        begun = 0 if rollout.is_first[0, lane] else None
        for t in range(STEPS):
            if ended[t, lane]:
                if begun is not None:
                    truth[begun : t + 1, lane] = 1
                begun = t + 1
    assert 0 < float(truth.mean()) < 1
    assert torch.equal(whole_episodes(rollout), truth if rollout.weight is None else truth * rollout.weight)

"""Evaluation plays whole episodes, as many on every lane, and takes the mode where it is to be deterministic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy import stats
from timetable import ENDS, Timetable, life

from pistar.envs.environment import Spaces
from pistar.evaluation import controller, play
from pistar.policies.mlp import MLP
from pistar.statistics import confidence


@pytest.mark.parametrize("action", [spaces.Discrete(4, start=1), spaces.Box(-1.0, 1.0, (2,))])
def test_deterministic_evaluation_takes_the_mode(action: spaces.Space) -> None:
    policy = MLP(hidden=(4,)).build(Spaces(spaces.Box(-1.0, 1.0, (3,)), action), torch.Generator().manual_seed(0))
    observation = torch.rand((50, 3), generator=torch.Generator().manual_seed(1))
    mode = torch.as_tensor(policy.act(observation.numpy())[0])
    for seed in (0, 1):
        assert torch.equal(controller(policy, True, seed)(observation), mode)
    one, other = (controller(policy, False, seed)(observation) for seed in (0, 1))
    assert not torch.equal(one, other)
    assert torch.equal(one, controller(policy, False, 0)(observation))


@pytest.mark.parametrize("quota", [1, 2, 5])
def test_every_lane_plays_its_quota_and_no_step_more(quota: int) -> None:
    world = Timetable()
    episodes = play(world, lambda observation: torch.zeros(len(ENDS), dtype=torch.int64), quota, seed=0)
    for lane in range(len(ENDS)):
        for number in range(quota):
            rewards = [moment.reward for moment in life(lane, 100) if moment.episode == number]
            assert episodes.returns[lane, number] == sum(rewards)
            assert episodes.lengths[lane, number] == len(rewards)
    longest = max(int(episodes.lengths[lane].sum()) for lane in range(len(ENDS)))
    assert len(world.actions) == longest


@pytest.mark.parametrize("count", [2, 3, 5, 10, 100])
def test_the_interval_is_students(count: int) -> None:
    samples = np.random.default_rng(0).normal(3.0, 2.0, count)
    low, high = stats.t.interval(0.95, count - 1, samples.mean(), samples.std(ddof=1) / np.sqrt(count))
    assert confidence(samples) == pytest.approx((low, high), rel=1e-3)

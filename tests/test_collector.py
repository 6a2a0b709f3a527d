"""The collector's rollouts beside a world whose every step is known, statistics and cuts included."""

from __future__ import annotations

import pytest
import torch
from timetable import ENDS, Timetable, life

from pistar.collector import Collector
from pistar.normalization import RewardScale
from pistar.policies.mlp import MLP

LANES = len(ENDS)


def collector(scale: RewardScale | None = None) -> Collector:
    world = Timetable()
    policy = MLP(hidden=(4,), normalize=False).build(world.spaces, torch.Generator().manual_seed(0))
    made = Collector(world, policy, seed=0, reward_scale=scale)
    made.start()
    return made


@pytest.mark.parametrize("horizon", [1, 4, 7])
def test_a_rollout_holds_what_the_environment_did(horizon: int) -> None:
    collecting, rollouts = collector(), 28 // horizon
    for number in range(rollouts):
        rollout = collecting.collect(horizon)
        successor = rollout.next_observation()
        for lane in range(LANES):
            for t, moment in enumerate(life(lane, 28)[number * horizon : (number + 1) * horizon]):
                place = f"lane {lane}, step {number * horizon + t}"
                assert rollout.observation[t, lane].tolist() == [lane, moment.episode, moment.age], place
                assert rollout.reward[t, lane] == moment.reward, place
                assert bool(rollout.terminated[t, lane]) == moment.terminated, place
                assert bool(rollout.truncated[t, lane]) == (moment.truncated and not moment.terminated), place
                assert bool(rollout.is_first[t, lane]) == (moment.age == 0), place
                assert successor[t, lane].tolist() == [lane, moment.episode, moment.age + 1], place
    assert collecting.steps == rollouts * horizon * LANES
    world = collecting.environment
    assert isinstance(world, Timetable)
    assert torch.equal(torch.stack(world.actions[-horizon:]), rollout.action)


@pytest.mark.parametrize("horizon", [1, 4, 7])
def test_returns_and_lengths_are_those_of_whole_episodes_across_rollouts(horizon: int) -> None:
    collecting = collector()
    for _ in range(28 // horizon):
        collecting.collect(horizon)
    episodes: dict[tuple[int, int], list[float]] = {}
    ended = []
    for t, lane in ((t, lane) for t in range(28) for lane in range(LANES)):
        moment = life(lane, 28)[t]
        episodes.setdefault((lane, moment.episode), []).append(moment.reward)
        if moment.terminated or moment.truncated:
            ended.append(episodes[lane, moment.episode])
    assert list(collecting.returns) == [sum(rewards) for rewards in ended]
    assert list(collecting.lengths) == [len(rewards) for rewards in ended]


def test_rewards_are_scaled_for_learning_and_raw_in_statistics() -> None:
    scale = RewardScale(LANES, 0.9)
    plain, scaled = collector(), collector(scale)
    for _ in range(3):
        factor = scale.factor
        raw, rollout = plain.collect(7), scaled.collect(7)
        torch.testing.assert_close(rollout.reward, raw.reward * factor)
        assert scaled.returns == plain.returns
        assert scale.factor == factor  # it stands still until the rollout has been learned from
        scaled.absorb(rollout)
        assert scale.factor != factor


def test_the_scale_is_that_of_raw_rewards() -> None:
    scale, truth = RewardScale(LANES, 0.9), RewardScale(LANES, 0.9)
    plain, scaled = collector(), collector(scale)
    for _ in range(3):
        raw = plain.collect(7)
        truth.update(raw.reward, raw.ended, torch.ones_like(raw.reward))
        scaled.absorb(scaled.collect(7))
        assert scale.factor == truth.factor


def test_a_cut_truncates_what_runs_and_keeps_the_observation_before_it() -> None:
    collecting = collector()
    rollout = collecting.collect(6)  # with its last step some lanes end, others go on
    before = rollout.last_observation.clone()
    running = ~rollout.ended[-1]
    ends, successor = rollout.ended.clone(), rollout.next_observation()
    assert bool(running.any())
    assert not bool(running.all())
    collecting.cut(rollout)
    assert torch.equal(rollout.truncated[-1] & running, running)
    assert not bool((rollout.terminated[-1] & running).any())
    assert torch.equal(rollout.ended[:-1], ends[:-1])
    assert torch.equal(rollout.next_observation()[:-1], successor[:-1])
    assert torch.equal(rollout.next_observation()[-1][running], before[running])
    assert bool((collecting.observation[:, 2] == 0).all())
    following = collecting.collect(1)
    assert bool(following.is_first.all())
    assert torch.equal(following.observation[0], rollout.last_observation)

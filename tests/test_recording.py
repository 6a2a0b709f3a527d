"""What is recorded is what was lived: played again from the same start, the actions lead to the same observations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from composed_world import ComposedWorld, spaces_of

from pistar import demonstrations
from pistar.envs.cartpole import CartPole
from pistar.evaluation import controller
from pistar.policies.mlp import MLP
from pistar.recording import record
from pistar.tasks import baselines

QUOTA, LANES = 2, 3


def test_recorded_actions_lead_to_the_recorded_observations_and_rewards():
    episodes = record(CartPole(LANES), baselines.random(CartPole(LANES), 1), QUOTA, 5)
    assert len(episodes) == QUOTA * LANES
    by_lane = [episodes[b * QUOTA : (b + 1) * QUOTA] for b in range(LANES)]
    actions = [np.concatenate([e.action for e in mine]) for mine in by_lane]
    observations = [np.concatenate([e.observation[:-1] for e in mine]) for mine in by_lane]
    finals = [[e.observation[-1] for e in mine] for mine in by_lane]
    world = CartPole(LANES)
    shown, ended = world.reset(5), [0] * LANES
    for t in range(max(map(len, actions))):
        action = torch.tensor([actions[b][t] if t < len(actions[b]) else 0 for b in range(LANES)])
        for b in range(LANES):
            assert t >= len(actions[b]) or np.array_equal(shown[b].numpy(), observations[b][t])
        step = world.step(action)
        for b in step.ended.nonzero().squeeze(-1).tolist():
            if ended[b] < QUOTA:
                assert np.array_equal(step.final_observation[b].numpy(), finals[b][ended[b]])
                assert by_lane[b][ended[b]].terminated == bool(step.terminated[b])
            ended[b] += 1
        shown = step.observation
    assert all(float(e.reward.sum()) == len(e) for e in episodes)


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_masks_dicts_mixed_actions_and_silent_agents_are_recorded(memory: str):
    world = ComposedWorld(spaces_of("dict", "mixed", True), 2, 2)
    policy = MLP(memory=memory, mask="mask", hidden=(8,), memory_size=4).build(world.spaces, torch.Generator())
    episodes = record(world, controller(policy, False, 0), QUOTA, 0)
    assert [len(e) for e in episodes] == [
        5,
        5,
        2,
        2,
        7,
        7,
        2,
        2,
    ]  # the second agent of each world is dead after two steps
    assert [e.terminated for e in episodes] == [True] * 4 + [False] * 4
    for episode in episodes:
        demonstrations.require_lengths(episode, "here")
        demonstrations.require_fit(episode, world.spaces, "here")
        allowed = episode.observation["mask"]["gear"][:-1]
        assert allowed[np.arange(len(episode)), episode.action["gear"]].all()

"""What records tell of observations, actions and gradients beside their statistics."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from pistar.envs.environment import Spaces
from pistar.heads import action_head
from pistar.report import health
from pistar.rollout import Rollout


def rollout(observation: Any, action: Any = None, weight: Any = None) -> Rollout:
    steps, lanes = 64, 4
    nothing = torch.zeros(steps, lanes)
    return Rollout(
        observation, action, nothing, nothing, nothing > 0, nothing > 0, nothing > 0, weight, None, None, nothing[:0]
    )


def test_entries_that_never_vary_are_named_with_their_value():
    seen = torch.randn(64, 4, 5)
    seen[..., 1], seen[..., 4] = 0.5, -2.0
    assert health.unvarying(rollout(seen)) == {"observation/unvarying": {"1": 0.5, "4": -2.0}}
    seen[40, 3, 4] = -2.5  # one step of one lane is enough
    assert health.unvarying(rollout(seen)) == {"observation/unvarying": {"1": 0.5}}
    assert health.unvarying(rollout({"image": seen[..., :1], "depth": seen[..., 1]})) == {
        "observation/image/unvarying": {},
        "observation/depth/unvarying": {"0": 0.5},
    }


def test_steps_that_weigh_nothing_are_not_looked_at():
    seen, weight = torch.zeros(64, 4, 1), torch.ones(64, 4)
    seen[3, 2], weight[3, 2] = 7.0, 0.0
    assert health.unvarying(rollout(seen)) == {"observation/unvarying": {}}
    assert health.unvarying(rollout(seen, weight=weight)) == {"observation/unvarying": {"0": 0.0}}


def test_many_entries_that_never_vary_are_not_all_named():
    found = health.unvarying(rollout(torch.zeros(64, 4, 10, 10)))
    assert len(found["observation/unvarying"]) == health.MOST_NAMED


class Acting:
    """As much of a policy as counting needs."""

    def __init__(self, space: gymnasium.Space[Any], **options: Any) -> None:
        self.spaces, self.head = Spaces(Box(-1, 1, (1,)), space), action_head(space, **options)


def shares(space: gymnasium.Space[Any], action: Any, weight: Any = None, **options: Any) -> dict[str, float]:
    return health.Bounds(Acting(space, **options)).shares(rollout(torch.zeros(64, 4, 1), action, weight))  # type: ignore[arg-type]


def test_the_share_of_actions_at_their_bounds_is_of_what_the_environment_is_given():
    space = Box(np.array([0.0, -2.0], np.float32), np.array([10.0, 2.0], np.float32))
    action = torch.zeros(64, 4, 2)
    assert shares(space, action) == {"action/at_bounds": 0.0}
    action[:32, :, 0] = 1.5  # beyond the upper bound: clipped there
    action[:16, :, 1] = -1.0  # at the lower one
    assert shares(space, action) == {"action/at_bounds": pytest.approx(0.25 + 0.125)}
    weight = torch.ones(64, 4)
    weight[32:] = 0.0
    assert shares(space, action, weight) == {"action/at_bounds": pytest.approx(0.5 + 0.25)}


def test_squashed_actions_are_at_a_bound_where_they_come_near():
    space = Box(-2.0, 2.0, (1,))
    assert shares(space, torch.full((64, 4, 1), 2.0), squash=True) == {"action/at_bounds": 0.0}
    assert shares(space, torch.full((64, 4, 1), 5.0), squash=True) == {"action/at_bounds": 1.0}


def test_what_has_no_bounds_is_not_counted():
    assert shares(Discrete(3), torch.zeros(64, 4, dtype=torch.int64)) == {}
    assert shares(Box(-np.inf, np.inf, (2,)), torch.full((64, 4, 2), 1e9)) == {}
    # One bound alone counts, and a dimension of no width says nothing.
    half = Box(np.array([0.0, 1.0], np.float32), np.array([np.inf, 1.0], np.float32))
    assert shares(half, torch.full((64, 4, 2), -1.0)) == {"action/at_bounds": 0.5}


def test_parts_of_an_action_are_counted_apart():
    space = gymnasium.spaces.Dict({"gear": Discrete(3), "pedal": Box(0.0, 1.0, (1,))})
    action = {"gear": torch.zeros(64, 4, dtype=torch.int64), "pedal": torch.full((64, 4, 1), 3.0)}
    assert shares(space, action) == {"action/pedal/at_bounds": 1.0}


def test_short_rollouts_are_looked_at_now_and_then_and_long_ones_always():
    assert [n for n in range(1, 40) if health.due(n, 128)] == [1, 16, 32]
    assert all(health.due(n, 2048) for n in range(1, 40))
    assert all(health.due(n, 5000) for n in range(1, 40))

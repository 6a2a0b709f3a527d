"""The guard where observations carry masks: acting and learning forbid the same, and the world is never given what is forbidden."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from test_guard import ACCURACY, BOX, HORIZON, LANES, Drift, gap, shake, update

from pistar.collector import Collector
from pistar.envs.environment import Spaces
from pistar.learner import Learner
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.rollout import Rollout
from pistar.tree import Tree

ACTIONS: dict[str, tuple[spaces.Space[Any], spaces.Space[Any]]] = {  # action, its mask
    "discrete": (spaces.Discrete(4, start=2), spaces.MultiBinary(4)),
    "multi-discrete": (spaces.MultiDiscrete([2, 3, 4]), spaces.Box(0, 1, (9,), np.int8)),
    "multi-binary": (spaces.MultiBinary(3), spaces.MultiBinary(3)),
    "mixed": (
        spaces.Dict({"gear": spaces.Discrete(3), "pedal": spaces.Box(-1.0, 1.0, (2,), np.float32)}),
        spaces.Dict({"gear": spaces.MultiBinary(3)}),
    ),
}


class Masked(Drift):
    """``Drift`` with random masks, a few of which forbid everything."""

    def _observe(self, space: spaces.Space[Any]) -> Tree:
        if isinstance(space, spaces.MultiBinary) or (isinstance(space, spaces.Box) and space.dtype == np.int8):
            return torch.randint(2, (LANES, *(space.shape or ())), generator=self.generator, dtype=torch.int8)
        return super()._observe(space)


def built(action: str, dtype: torch.dtype, next_step: bool = False) -> tuple[Policy, Collector]:
    chosen, mask = ACTIONS[action]
    lane = Spaces(spaces.Dict({"legal": mask, "position": BOX}), chosen)
    kind = MLP(mask="legal", hidden=(8,))
    policy: Policy = kind.build(lane, torch.Generator().manual_seed(0)).to(dtype)
    shake(policy, 0.1)
    return policy, Collector(Masked(lane, dtype, next_step), policy, seed=3)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("next_step", [False, True], ids=["same-step", "next-step"])
def test_acting_and_learning_forbid_the_same(action: str, dtype: torch.dtype, next_step: bool) -> None:
    policy, collector = built(action, dtype, next_step)
    collector.start()
    learner = Learner(policy, learning_rate=0.01)
    for _ in range(3):
        rollout = collector.collect(HORIZON)
        assert rollout.log_prob.isfinite().all()
        assert gap(policy, rollout) <= ACCURACY[dtype]
        update(policy, learner, rollout)
        collector.absorb(rollout)
    assert gap(policy, rollout) > 10 * ACCURACY[dtype]


def test_what_is_forbidden_never_reaches_the_world() -> None:
    for action in ("discrete", "mixed"):
        _, collector = built(action, torch.float32)
        collector.start()
        rollout = collector.collect(200)
        mask, chosen = rollout.observation["legal"], rollout.action
        if action == "mixed":
            mask, chosen = mask["gear"], chosen["gear"]
        live = mask.any(-1)
        assert (mask.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)[live] == 1).all()
        assert (~live).any()  # rows without a choice came up, and did no harm
        assert isinstance(collector.environment, Masked)
        given = collector.environment.actions[0]
        assert torch.equal(given["gear"] if action == "mixed" else given - 2, chosen[0])


def test_random_actions_before_the_first_moments_keep_to_the_masks() -> None:
    _, collector = built("discrete", torch.float32)
    environment, seen = collector.environment, []
    assert isinstance(environment, Masked)
    observe = environment._observe
    environment._observe = lambda space: seen.append(observe(space)) or seen[-1]  # type: ignore[method-assign, func-returns-value]
    collector.start(warm_up=50 * LANES)
    masks = [each for each in seen if isinstance(each, dict)]
    first = masks[0]["legal"]
    action = environment.actions[0] - 2
    live = first.any(-1)
    assert (first.gather(-1, action.unsqueeze(-1)).squeeze(-1)[live] == 1).all()
    assert len({int(a) for each in environment.actions for a in each}) == 4


def test_a_mask_of_another_step_is_noticed() -> None:
    policy, collector = built("discrete", torch.float32)
    collector.start()
    rollout = collector.collect(HORIZON)
    assert gap(policy, shifted(rollout)) > 1e-2


def shifted(rollout: Rollout) -> Rollout:
    """As if every step had been given its successor's mask."""
    rollout.observation = {**rollout.observation, "legal": rollout.observation["legal"].roll(-1, 0)}
    return rollout

"""Masks: what they forbid never happens, costs no NaN, and is told by the observation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.envs.environment import Spaces
from pistar.errors import UnknownName, UnsupportedSpace, UsageError
from pistar.heads import Head, action_head, require_mask
from pistar.kernels import network
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.tree import Tree

MIXED = spaces.Dict({
    "gear": spaces.Discrete(3, start=1),
    "lamps": spaces.MultiBinary(2),
    "pedal": spaces.Box(-1.0, 1.0, (2,), np.float32),
    "plan": spaces.Tuple((spaces.MultiDiscrete([2, 3]), spaces.Box(0.0, 1.0, (1,), np.float32))),
})  # fmt: skip
MIXED_MASK = spaces.Dict({
    "gear": spaces.MultiBinary(3),
    "lamps": spaces.MultiBinary(2),
    "plan": spaces.Dict({"0": spaces.Box(0, 1, (5,), np.int8)}),
})  # fmt: skip
NUMBER = spaces.Box(-5.0, 5.0, (2,), np.float32)


def sampled(head: Head, outputs: Tensor, count: int = 500) -> Tree:
    rows = outputs.expand(count, head.size)
    return head(rows).sample(head.noise((count,), torch.Generator().manual_seed(0), outputs.dtype, "cpu"))


def test_a_forbidden_index_is_never_drawn_and_the_others_keep_their_proportions() -> None:
    head = action_head(spaces.Discrete(4))
    outputs = torch.tensor([0.3, 2.0, -0.5, 1.0])
    masked = head.forbid(outputs, torch.tensor([1, 0, 1, 1]))
    assert set(sampled(head, masked).tolist()) == {0, 2, 3}
    free, now = head(outputs).probability, head(masked).probability  # type: ignore[attr-defined]
    assert now[1] == 0
    torch.testing.assert_close(now[[0, 2, 3]], free[[0, 2, 3]] / free[[0, 2, 3]].sum())


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.int64, torch.float32])
def test_every_index_of_a_multi_discrete_has_its_own_mask_of_any_dtype(dtype: torch.dtype) -> None:
    head = action_head(spaces.MultiDiscrete([2, 3]))
    masked = head.forbid(torch.zeros(5), torch.tensor([0, 1, 1, 1, 0]).to(dtype))
    assert {tuple(pair) for pair in sampled(head, masked).tolist()} == {(1, 0), (1, 1)}


def test_a_row_that_forbids_everything_forbids_nothing_and_each_index_is_a_row() -> None:
    head = action_head(spaces.MultiDiscrete([2, 3]))
    outputs = torch.arange(10.0).view(2, 5)
    masked = head.forbid(outputs, torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]))
    assert masked.tolist() == [[0.0, 1.0, -torch.inf, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0, 9.0]]


def test_forbidden_bits_are_0_and_all_may_be() -> None:
    head = action_head(spaces.MultiBinary([2, 2]))
    masked = head.forbid(torch.full((4,), 9.0), torch.tensor([[1, 0], [0, 0]]))
    assert {tuple(bits) for bits in sampled(head, masked).tolist()} == {(1, 0, 0, 0)}
    nothing = head(head.forbid(torch.full((4,), 9.0), torch.zeros(4)))
    assert nothing.mode().tolist() == [0, 0, 0, 0]
    assert float(nothing.log_prob(nothing.mode())) == float(nothing.entropy()) == 0.0


def test_a_joint_head_masks_the_discrete_parts_that_the_mask_names() -> None:
    head = action_head(MIXED)
    head.require_mask(MIXED_MASK, "it")
    assert head.choices == 3 + 2 + 5
    outputs = torch.randn(head.size, generator=torch.Generator().manual_seed(1))
    mask = {"gear": torch.tensor([0, 0, 1]), "plan": {"0": torch.tensor([1, 0, 0, 1, 0])}}
    masked = head.forbid(outputs, mask)
    action = sampled(head, masked)
    assert set(action["gear"].tolist()) == {2}
    assert {tuple(pair) for pair in action["plan"][0].tolist()} == {(0, 1)}
    assert len({tuple(bits) for bits in action["lamps"].tolist()}) == 4  # not named: free
    changed = masked != outputs
    assert changed.sum() == 2 + 1 + 2
    assert (masked[changed] == -torch.inf).all()


# What is no mask.


@pytest.mark.parametrize(
    ("action", "mask"),
    [
        (spaces.Discrete(4), spaces.MultiBinary(3)),
        (spaces.Discrete(4), spaces.Box(-1.0, 1.0, (4,))),
        (spaces.Discrete(4), spaces.Discrete(4)),
        (spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)),
        (spaces.Box(-1.0, 1.0, (4,)), spaces.MultiBinary(4)),
        (MIXED, spaces.MultiBinary(10)),
        (MIXED, spaces.Dict({"pedal": spaces.MultiBinary(2)})),
        (MIXED, spaces.Dict({"gear": spaces.MultiBinary(2)})),
    ],
)
def test_an_entry_that_is_no_mask_for_the_actions_is_refused(action: Any, mask: Any) -> None:
    with pytest.raises(UnsupportedSpace, match=r"'legal'.* is to mask actions"):
        require_mask(spaces.Dict({"legal": mask, "x": NUMBER}), "legal", action_head(action))


def test_a_mask_that_is_not_there_is_refused_with_the_nearest_name() -> None:
    head = action_head(spaces.Discrete(2))
    observation = spaces.Dict({"action_mask": spaces.MultiBinary(2), "x": NUMBER})
    with pytest.raises(UnknownName, match="did you mean 'action_mask'"):
        require_mask(observation, "actoin_mask", head)
    with pytest.raises(UnsupportedSpace, match="no dict"):
        require_mask(NUMBER, "action_mask", head)
    with pytest.raises(UsageError, match="nothing is left"):
        MLP(mask="legal").build(
            Spaces(spaces.Dict({"legal": spaces.MultiBinary(2)}), spaces.Discrete(2)), torch.Generator()
        )
    with pytest.raises(UnknownName, match="'geer'; did you mean 'gear'"):
        action_head(MIXED).require_mask(spaces.Dict({"geer": spaces.MultiBinary(3)}), "it")
    with pytest.raises(UsageError, match="no discrete choices"):
        action_head(NUMBER).forbid(torch.zeros(2), torch.ones(2))


# A policy that is told by its observation.


def masked_policy(action: Any, mask: Any) -> Policy:
    lane = Spaces(spaces.Dict({"legal": mask, "x": NUMBER}), action)
    policy: Policy = MLP(hidden=(8,), mask="legal").build(lane, torch.Generator().manual_seed(0))
    return policy


def test_encoder_and_critic_do_not_see_the_mask() -> None:
    policy = masked_policy(spaces.Discrete(3), spaces.MultiBinary(3))
    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(1))
    one, other = ({"legal": mask.expand(7, 3), "x": x} for mask in (torch.tensor([1, 1, 0]), torch.tensor([1, 1, 1])))
    assert torch.equal(policy.value(one), policy.value(other))
    allowed = policy.outputs(one)[0]
    assert (allowed[:, 2] == -torch.inf).all()
    assert torch.equal(allowed[:, :2], policy.outputs(other)[0][:, :2])
    policy.absorb(one)
    assert [buffer.shape for name, buffer in policy.named_buffers() if name.endswith("moments.mean")] == [(2,)]


def test_a_policy_acts_within_the_mask_in_the_environments_own_terms() -> None:
    policy = masked_policy(MIXED, MIXED_MASK)
    policy.spaces.observation.seed(0)
    for _ in range(50):
        observation = policy.spaces.observation.sample()
        observation["legal"]["gear"][:] = [0, 1, 0]
        for deterministic in (True, False):
            action, _ = policy.act(observation, deterministic=deterministic, generator=torch.Generator().manual_seed(0))
            assert MIXED.contains({**action, "gear": np.int64(action["gear"])})
            assert action["gear"] == 2
            assert (action["lamps"] <= observation["legal"]["lamps"]).all()


def test_the_kernels_leave_masked_policies_alone() -> None:
    assert not network.fits(masked_policy(spaces.Discrete(3), spaces.MultiBinary(3)))

"""Every rollout beside its mirror images, so that one experience teaches all that a symmetry says.

Abdolhosseini et al. 2019 (On learning symmetric locomotion) duplicate samples; Mittal et al. 2024, arXiv:2403.04359, examine
why that is sound on-policy: a policy that is symmetric would have produced the image as it produced the original. An image
is one more set of lanes here, seen and done as the symmetry says, rewarded alike, with log-probabilities and memories that
the acting policy itself gives it. So every algorithm takes it, values of images are computed from images, and ratios begin
at 1. Observation moments take images in too, so that normalisation is symmetric; steps and returns count what was lived.

It differs from an auxiliary loss between the policy and its image by needing no weight and no gradient of its own; a batch
is as many times as large as the group, and so is the time of an update.

Left out: rollouts of older parameters (``lag``), under which the policy that acted is no longer there to be asked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.envs.environment import Spaces
from pistar.errors import UsageError
from pistar.following import follow
from pistar.heads import Head
from pistar.policy import Policy, as_batch
from pistar.rollout import Rollout
from pistar.symmetry import Symmetry
from pistar.tree import Tree, leaves, map_leaves

SAMPLES = 16  # of each space, on which a group is checked


class Mirrors:
    """The images of rollouts, and the memories of those who see them."""

    def __init__(self, symmetries: tuple[Symmetry, ...], policy: Policy) -> None:
        self.symmetries, self.policy = symmetries, policy
        self._memories: dict[str, Tree] = {}  # by the number of the symmetry
        require_group(symmetries, policy.spaces, policy.head)

    def augmented(self, rollout: Rollout) -> Rollout:
        """The rollout and its images as one, [T, B · (1 + symmetries)]; to be called once for every rollout, in order."""
        images = [self._image(number, symmetry, rollout) for number, symmetry in enumerate(self.symmetries)]
        return side_by_side([rollout, *images])

    def _image(self, number: int, symmetry: Symmetry, rollout: Rollout) -> Rollout:
        observation, action = symmetry.see(rollout.observation), symmetry.act(rollout.action)
        passage = follow(self.policy, observation, rollout.is_first, self._memories.get(str(number)))
        if passage.memory is not None:
            self._memories[str(number)] = passage.memory
        with torch.no_grad():
            log_prob = self.policy.head(passage.outputs).log_prob(action)
        return Rollout(
            observation=observation,
            action=action,
            log_prob=log_prob,
            reward=rollout.reward,
            terminated=rollout.terminated,
            truncated=rollout.truncated,
            is_first=rollout.is_first,
            weight=rollout.weight,
            last_observation=symmetry.see(rollout.last_observation),
            final_observation=symmetry.see(rollout.final_observation),
            final_index=rollout.final_index,
            memory=passage.starts,
            burn_in=rollout.burn_in,
        )

    def state(self) -> dict[str, Any]:
        """All that `load_state` needs."""
        return {"memories": self._memories}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        device = next(self.policy.parameters()).device
        self._memories = {key: map_leaves(lambda x: x.to(device), tree) for key, tree in state["memories"].items()}


def side_by_side(rollouts: list[Rollout]) -> Rollout:
    """Rollouts of equal shape as one with all their lanes."""

    def lanes(*x: Tensor) -> Tensor:
        return torch.cat(x, 1)

    def rows(*x: Tensor) -> Tensor:
        return torch.cat(x)

    first, others = rollouts[0], rollouts[1:]
    width, count = first.shape[1], len(rollouts)
    steps, lane = first.final_index // width, first.final_index % width
    joined: dict[str, Any] = {
        name: map_leaves(lanes, getattr(first, name), *[getattr(each, name) for each in others])
        for name in (
            "observation",
            "action",
            "log_prob",
            "reward",
            "terminated",
            "truncated",
            "is_first",
            "weight",
            "memory",
        )
    }
    for name in ("last_observation", "final_observation"):
        joined[name] = map_leaves(rows, getattr(first, name), *[getattr(each, name) for each in others])
    index = torch.cat([steps * width * count + lane + width * k for k in range(count)])
    return Rollout(**joined, final_index=index, burn_in=first.burn_in)


def require_group(symmetries: tuple[Symmetry, ...], spaces_: Spaces, head: Head) -> None:
    """Raise UsageError where the symmetries, with the identity, are no group on these spaces, or do not fit them."""
    seen, done = samples(spaces_.observation), head.from_environment(samples(spaces_.action))
    places = {"the identity": (seen, done), **{s.name: (s.see(seen), s.act(done)) for s in symmetries}}
    for name, images in places.items():
        for what, image, original in zip(("observation", "action"), images, (seen, done), strict=True):
            if not alike(image, original):
                raise UsageError(
                    f"the symmetry {name!r} changes the shape or type of an {what}; expected those of {original}"
                )
    for one in symmetries:
        for other in symmetries:
            both = (other.see(one.see(seen)), other.act(one.act(done)))
            if not any(equal(both, images) for images in places.values()):
                raise UsageError(
                    f"the symmetries are no group: {one.name!r} followed by {other.name!r} is neither the identity nor one of "
                    f"{', '.join(repr(s.name) for s in symmetries)}; correct its maps, or declare what is missing"
                )


def samples(space: spaces.Space[Any]) -> Tree:
    """Some elements of a space [N, ...], always the same."""
    space.seed(0)
    several = [space.sample() for _ in range(SAMPLES)]
    return as_batch(space, map_leaves(lambda *x: np.stack(x), several[0], *several[1:]))[1]


def alike(one: Tree, other: Tree) -> bool:
    """Whether two trees have leaves of the same names, shapes and types."""
    mine, theirs = ([(path, leaf.shape, leaf.dtype) for path, leaf in leaves(tree)] for tree in (one, other))
    return mine == theirs


def equal(one: Tree, other: Tree) -> bool:
    """Whether two trees hold the same numbers, to rounding."""
    pairs = zip(leaves(one), leaves(other), strict=True)
    return all(torch.allclose(mine.double(), theirs.double(), rtol=1e-5, atol=1e-6) for (_, mine), (_, theirs) in pairs)

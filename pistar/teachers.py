"""A teacher: a policy file that says what it would have done along a student's steps.

Teacher and student live in the same world, but need not see the same of it: a teacher may see entries of a Dict observation
that its student does not, have a memory of its own and another network. Its file's contents are kept as data, so that a run
goes on where the file is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from pistar import artefact
from pistar.distributions import Distribution
from pistar.errors import UsageError
from pistar.following import follow
from pistar.policy import Policy
from pistar.rollout import Rollout
from pistar.run import find_policy
from pistar.tree import Tree


def contents(path: str, trust: str | None, student: Policy) -> dict[str, Any]:
    """A teacher's file, or its run's, as a state to be kept; raises UsageError where it cannot teach ``student``."""
    place = find_policy(Path(path))
    state, header = artefact.contents(place)
    Teacher({"state": state, "header": header}, trust, path).require_fit(student)
    return {"state": state, "header": header}


class Teacher:
    """The policy of ``contents``, without gradient."""

    def __init__(self, kept: dict[str, Any], trust: str | None, name: str) -> None:
        self.name = name
        self.policy = artefact.rebuild(kept["state"], kept["header"], trust, Path(name)).requires_grad_(False)

    def sees(self, observation: Tree) -> Tree:
        """What of the student's observation is the teacher's."""
        space = self.policy.spaces.observation
        return {key: observation[key] for key in space.spaces} if isinstance(space, spaces.Dict) else observation

    def along(self, rollout: Rollout, memory: Tree) -> tuple[Distribution, Tree]:
        """What it would have done [T, B] at every step, its memory going on from ``memory``; and the memory after it."""
        policy = self.policy.to(rollout.reward.device)
        passage = follow(policy, self.sees(rollout.observation), rollout.is_first, memory)
        with torch.no_grad():
            return policy.head(passage.outputs).detached(rollout.shape), passage.memory

    def require_fit(self, student: Policy) -> None:
        """Raise UsageError where worlds or families of distributions differ."""
        mine, its = self.policy.spaces, student.spaces
        if not (mine.action == its.action and within(mine.observation, its.observation)):
            raise UsageError(
                f"the teacher {self.name} is for {mine}, the student for {its}; expected the "
                "same actions, and the same observations or, of a Dict, some of its entries"
            )
        one, other = self.policy.head(zeros(self.policy)), student.head(zeros(student))
        if not same_family(one, other):
            raise UsageError(
                f"the teacher {self.name} gives a {type(one).__name__}, the student a {type(other).__name__}, between which "
                "no divergence is known; give the student the teacher's --mlp.distribution"
            )


def zeros(policy: Policy) -> Tensor:
    """Outputs [1, size] as a head takes them."""
    return torch.zeros((1, policy.head.size), device=next(policy.parameters()).device)


def within(part: spaces.Space[Any], whole: spaces.Space[Any]) -> bool:
    """Whether a space is another, or has some of its entries."""
    if isinstance(part, spaces.Dict) and isinstance(whole, spaces.Dict):
        return all(key in whole.spaces and child == whole[key] for key, child in part.spaces.items())
    return bool(part == whole)


def same_family(one: Any, other: Any) -> bool:
    """Whether two distributions are of the same kind in every part."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same_family(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same_family, one, other))
    parts = getattr(one, "components", None)  # of a Joint
    return parts is None or same_family(parts, other.components)

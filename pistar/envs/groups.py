"""Agents of different spaces taken apart: one group's lanes as an environment of their own, stepped with the others.

A world with groups (`pistar.envs.environment`) is one environment whose observations and actions are dicts by group. Each
`Member` shows one group's lanes alone, so that whoever learns there need not know of the others. Members do not step: their
actions are put `together`, the world is stepped once, and each takes its part of the outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.envs.environment import Environment, Spaces, State, Step, Tree
from pistar.errors import UnsupportedSpace, UsageError
from pistar.tree import map_leaves


class Member(Environment):
    """The lanes of group ``group`` of ``world``; ``shown`` is what the world last showed, told by whoever steps it."""

    def __init__(self, world: Environment, group: str) -> None:
        self.world, self.group, self.name = world, group, f"{world.name} ({group})"
        positions = torch.tensor(world.groups[group])
        starts = torch.arange(0, world.lanes, world.agents).unsqueeze(1)
        self.index = (starts + positions).flatten().to(world.device)  # [B of the group] lanes of the world
        self.agents, self.lanes = len(positions), len(self.index)
        observation, action = world.spaces.observation, world.spaces.action
        self.spaces = Spaces(observation[group], action[group])  # type: ignore[index] # dicts, as groups have them
        self.mask = world.mask.get(group) if isinstance(world.mask, dict) else None
        self.restoring, self.device, self.turn_based = world.restoring, world.device, world.turn_based
        self.cuts_single_lanes = world.cuts_single_lanes
        self.shown: Tree = None
        self._action: Tree = None  # [B of the world, ...]

    def seen(self, observation: Tree) -> Tree:
        """The group's rows of the world's observation."""
        return map_leaves(lambda x: x[self.index], observation[self.group])

    def part(self, step: Step) -> Step:
        """The group's rows of an outcome."""

        def rows(x: Tensor) -> Tensor:
            return x[self.index]

        final = step.final_observation
        return Step(
            observation=self.seen(step.observation),
            reward=rows(step.reward),
            terminated=rows(step.terminated),
            truncated=rows(step.truncated),
            final_observation=None if final is None else self.seen(final),
            valid=None if step.valid is None else rows(step.valid),
            info={name: rows(values) for name, values in step.info.items()},
            streams={name: rows(values) for name, values in step.streams.items()},
        )

    def spread(self, action: Tree) -> Tree:
        """The group's actions among the rows of all lanes; the others' hold any element of the space."""
        if self._action is None:
            self._action = map_leaves(self._any, action, torch_tree(filler(self.spaces.action)))
        map_leaves(lambda kept, new: kept.index_copy_(0, self.index, new), self._action, action)
        return self._action

    def _any(self, like: Tensor, element: Tensor) -> Tensor:
        return element.to(like).expand(self.world.lanes, *like.shape[1:]).clone()

    def reset(self, seed: int) -> Tree:
        """What the group sees of the world, which has been reset."""
        return self.seen(self.shown)

    def step(self, action: Tree) -> Step:
        """Refused: a group takes no steps alone."""
        raise UsageError(f"{self.name} is one group of {self.world.name} and takes no steps alone; step the world")

    def cut(self, lanes: Tensor) -> Tree:
        """What the group sees of the world, all of which has been cut."""
        return self.seen(self.shown)

    def save(self) -> State:
        """Nothing: the world is saved once for all groups."""
        return {"group": self.group}

    def restore(self, state: State) -> Tree:
        """What the group sees of the world, which has been restored."""
        return self.seen(self.shown)


def together(members: Mapping[str, Member], actions: Mapping[str, Tree]) -> Tree:
    """One action of the world of the groups' own."""
    return {name: member.spread(actions[name]) for name, member in members.items()}


def filler(space: spaces.Space[Any]) -> Any:
    """Some element of a space: zeros where it has them; of a mask (MultiBinary), all allowed."""
    if isinstance(space, spaces.Dict):
        return {name: filler(part) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(filler(part) for part in space.spaces)
    if isinstance(space, spaces.Box):
        return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high).astype(space.dtype)
    if isinstance(space, spaces.Discrete):
        return space.dtype.type(space.start)
    if isinstance(space, spaces.MultiDiscrete):
        return np.asarray(space.start, space.dtype)
    if isinstance(space, spaces.MultiBinary):
        return np.ones(space.shape, space.dtype)
    raise UnsupportedSpace(
        f"no group of agents can see or do a {type(space).__name__}; expected Box, Discrete or the like"
    )


def torch_tree(value: Any) -> Tree:
    """NumPy leaves as tensors."""
    return map_leaves(lambda x: torch.as_tensor(np.asarray(x)), value)

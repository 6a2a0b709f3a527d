"""The last observations side by side, so that velocities can be seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.envs.environment import Environment, Spaces, State, Step, Tree, begins
from pistar.envs.wrappers.wrapper import Wrapper, paths, require_own_time, rows
from pistar.errors import UnsupportedSpace, UsageError
from pistar.tree import leaves, map_leaves

Space = spaces.Space[Any]


class FrameStack(Wrapper):
    """Shows the last ``count`` observations of an episode along a new first axis, the newest last."""

    def __init__(self, environment: Environment, count: int) -> None:
        super().__init__(environment)
        if count < 1:
            raise UsageError(f"{count} observations are to be stacked, expected at least 1")
        require_own_time(environment, "a stack of observations")
        self.count = count
        self.spaces = Spaces(_stacked(self.spaces.observation, count), self.spaces.action)
        self._stack: Tree = None  # [B, count, ...]

    def _filled(self, observation: Tree) -> Tree:
        return map_leaves(lambda x: x.unsqueeze(1).expand(x.shape[0], self.count, *x.shape[1:]).clone(), observation)

    def _pushed(self, observation: Tree) -> Tree:
        return map_leaves(lambda old, x: torch.cat((old[:, 1:], x.unsqueeze(1)), 1), self._stack, observation)

    def _shown(self) -> Tree:
        return map_leaves(torch.clone, self._stack)

    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane; [B, count, ...]."""
        self._stack = self._filled(self.environment.reset(seed))
        return self._shown()

    def step(self, action: Tree) -> Step:
        """One step; its observations are stacks."""
        step = self.environment.step(action)
        if step.final_observation is not None:
            step.final_observation = self._pushed(step.final_observation)
        self._advance(begins(step), step.observation)
        step.observation = self._shown()
        return step

    def _advance(self, starts: Tensor, observation: Tree) -> None:
        stack = self._pushed(observation)
        if bool(starts.any()):
            stack = map_leaves(lambda new, old: rows(starts, new, old), self._filled(observation), stack)
        self._stack = stack

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next episode of the chosen lanes."""
        lanes = lanes.to(self.device)
        fresh = self._filled(self.environment.cut(lanes))
        self._stack = map_leaves(lambda new, old: rows(lanes, new, old), fresh, self._stack)
        return self._shown()

    def own_state(self) -> State:
        """The stack, leaf by leaf."""
        return {"/".join(path) or "stack": leaf.clone() for path, leaf in leaves(self._stack)}

    def restore_own(self, state: State, observation: Tree) -> Tree:
        """Take it over."""
        rows = iter(state["/".join(path) or "stack"].clone().to(self.device) for path in paths(observation))
        self._stack = map_leaves(lambda _: next(rows), observation)
        return self._shown()


def _stacked(space: Space, count: int) -> Space:
    """The space of ``count`` observations."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: _stacked(part, count) for name, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([_stacked(part, count) for part in space.spaces])
    if isinstance(space, spaces.Box):
        low, high = (np.repeat(bound[None], count, 0) for bound in (space.low, space.high))
        return spaces.Box(low, high, dtype=space.dtype.type)
    raise UnsupportedSpace(f"frames of Box observations can be stacked, received {space}")

"""Actions that are executed late, as by slow actuators and networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.envs.environment import Environment, State, Step, Tree, begins
from pistar.envs.wrappers.wrapper import Wrapper, paths, require_own_time, rows
from pistar.errors import UnsupportedSpace, UsageError
from pistar.tree import leaves, map_leaves

Space = spaces.Space[Any]


class ActionDelay(Wrapper):
    """Executes the action that was chosen ``steps`` steps ago; the first ones of an episode are neutral."""

    def __init__(self, environment: Environment, steps: int) -> None:
        super().__init__(environment)
        if steps < 0:
            raise UsageError(f"actions are delayed by {steps} steps, expected at least 0")
        require_own_time(environment, "a delay of actions")
        if steps and environment.mask is not None:
            raise UsageError(
                f"{environment.name} says which actions are allowed now, but one that is executed {steps} steps later may be "
                "forbidden by then; leave the delay out, or delay the actions in the environment itself, where its mask can follow"
            )
        neutral = neutral_action(self.spaces.action)
        self._neutral = map_leaves(lambda x: x.expand(self.lanes, *x.shape).to(self.device), neutral)
        self.steps = steps
        self._waiting: list[Tree] = [self._neutral] * steps  # the oldest first

    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane; [B, ...]."""
        self._waiting = [self._neutral] * self.steps
        return self.environment.reset(seed)

    def step(self, action: Tree) -> Step:
        """Queue the action and execute the oldest."""
        mine = map_leaves(lambda x, like: x.to(like.dtype, copy=True), action, self._neutral)
        due, *self._waiting = [*self._waiting, mine]
        step = self.environment.step(due)
        self._forget(begins(step))
        return step

    def _forget(self, lanes: Tensor) -> None:
        if bool(lanes.any()):
            self._waiting = [
                map_leaves(lambda neutral, old: rows(lanes, neutral, old), self._neutral, each)
                for each in self._waiting
            ]

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next episode of the chosen lanes."""
        self._forget(lanes.to(self.device))
        return self.environment.cut(lanes)

    def own_state(self) -> State:
        """The actions that wait."""
        return {
            str(age): {"/".join(path): leaf.clone() for path, leaf in leaves(each)}
            for age, each in enumerate(self._waiting)
        }

    def restore_own(self, state: State, observation: Tree) -> Tree:
        """Take them over."""
        if len(state) != self.steps:
            raise UsageError(f"the state delays actions by {len(state)} steps, this wrapper by {self.steps}")
        self._waiting = []
        for age in range(self.steps):
            saved = iter(state[str(age)][path].clone().to(self.device) for path in map("/".join, paths(self._neutral)))
            self._waiting.append(map_leaves(lambda _, rows=saved: next(rows), self._neutral))
        return observation


def neutral_action(space: Space) -> Tree:
    """The action that does least: zero, or the bound next to it; the first choice of a discrete space. No batch."""
    if isinstance(space, spaces.Dict):
        return {name: neutral_action(part) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(neutral_action(part) for part in space.spaces)
    if isinstance(space, spaces.Box):
        return torch.as_tensor(np.clip(np.zeros(space.shape, space.dtype), space.low, space.high))
    if isinstance(space, spaces.Discrete):
        return torch.tensor(int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        return torch.as_tensor(np.asarray(space.start, np.int64))
    if isinstance(space, spaces.MultiBinary):
        return torch.zeros(space.shape, dtype=torch.int8)
    raise UnsupportedSpace(f"no neutral action is known for {space}; delay the actions in the environment itself")

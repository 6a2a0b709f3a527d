"""Gaussian noise on observations, as of sensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from pistar import seeding
from pistar.envs import counter_random
from pistar.envs.environment import Environment, Spaces, State, Step, Tree, begins
from pistar.envs.wrappers.wrapper import Wrapper
from pistar.errors import UnsupportedSpace, UsageError
from pistar.tree import leaves, map_leaves

Space = spaces.Space[Any]
LONGEST = 2**32  # steps of an episode, for the numbering of noise


class ObservationNoise(Wrapper):
    """Adds normal noise of ``deviation``, in the observation's own units, to every number of every Box."""

    def __init__(self, environment: Environment, deviation: float) -> None:
        super().__init__(environment)
        if not (deviation >= 0 and math.isfinite(deviation)):
            raise UsageError(f"the noise's deviation is {deviation}, expected a finite number that is not negative")
        self.deviation = deviation
        self.spaces = Spaces(_unbounded(self.spaces.observation), self.spaces.action)
        self._seed = 0
        self._lane = torch.arange(self.lanes, device=self.device)
        self._episode, self._elapsed = torch.zeros_like(self._lane), torch.zeros_like(self._lane)

    def _noisy(self, observation: Tree, episode: Tensor, elapsed: Tensor) -> Tree:
        numbers = [leaf[0].numel() for _, leaf in leaves(observation)]
        drawn = counter_random.normal(self._seed, self._lane, episode * LONGEST + elapsed, sum(numbers))
        parts = iter(torch.split(drawn * self.deviation, numbers, -1))
        return map_leaves(lambda x: x + next(parts).view_as(x).to(x.dtype), observation)

    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane; [B, ...]."""
        self._seed = seeding.derive(seed, "observation noise")
        self._episode, self._elapsed = torch.zeros_like(self._lane), torch.zeros_like(self._lane)
        return self._noisy(self.environment.reset(seed), self._episode, self._elapsed)

    def step(self, action: Tree) -> Step:
        """One step, its observations made noisy."""
        step = self.environment.step(action)
        elapsed, starts = self._elapsed + 1, begins(step)
        if step.final_observation is not None:
            step.final_observation = self._noisy(step.final_observation, self._episode, elapsed)
        self._episode = self._episode + starts
        self._elapsed = elapsed.masked_fill(starts, 0)
        step.observation = self._noisy(step.observation, self._episode, self._elapsed)
        return step

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next episode of the chosen lanes."""
        lanes = lanes.to(self.device)
        observation = self.environment.cut(lanes)
        self._episode, self._elapsed = self._episode + lanes, self._elapsed.masked_fill(lanes, 0)
        return self._noisy(observation, self._episode, self._elapsed)

    def own_state(self) -> State:
        """Where every lane is in its stream of noise."""
        return {"seed": self._seed, "episode": self._episode.clone(), "elapsed": self._elapsed.clone()}

    def restore_own(self, state: State, observation: Tree) -> Tree:
        """Go on from there."""
        self._seed = int(state["seed"])
        self._episode, self._elapsed = (state[name].clone().to(self.device) for name in ("episode", "elapsed"))
        return self._noisy(observation, self._episode, self._elapsed)


def _unbounded(space: Space) -> Space:
    """The space of noisy observations."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: _unbounded(part) for name, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([_unbounded(part) for part in space.spaces])
    if isinstance(space, spaces.Box) and space.dtype.kind == "f":
        return spaces.Box(-np.inf, np.inf, space.shape, space.dtype.type)
    raise UnsupportedSpace(f"noise can be added to Box observations of floating-point numbers, received {space}")

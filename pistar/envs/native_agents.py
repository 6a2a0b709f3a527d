"""Several agents in one torch-native world, as lanes: lane w · n + i is agent i of world w.

The world itself is a `NativeEnvironment` of B / n lanes in which all agents act at once. Where their spaces are alike, its
observations and actions have the agents as the axis behind the batch, [W, n, ...], and ``each`` says what one of them sees
and does. Where they differ, observations and actions are dicts with an agent's name for each, [W, ...]: every agent is a
group. Rewards are [W], alike for all, or [W, n]. A world with a method ``turn`` (world -> whose turn it is [W]) is turn-based.

It differs from ``pettingzoo`` in that nothing is stepped one by one. Left out: agents that end before their world does, and
groups of several agents.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pistar.envs.environment import Environment, State, Step, Tree
from pistar.envs.native import NativeEnvironment
from pistar.errors import UsageError
from pistar.tree import map_leaves


class NativeAgents(Environment):
    """The agents of ``world`` as lanes; see above."""

    restoring = "state"

    def __init__(self, world: NativeEnvironment) -> None:
        self.world, self.name, self.device = world, world.name, world.device
        each = getattr(world, "each", None)
        if each is None:
            spaces: Any = world.spaces.action
            self.groups = {name: (index,) for index, name in enumerate(spaces.spaces)}
            self.agents = len(self.groups)
        else:
            self.agents = int((world.spaces.action.shape or (1,))[0])
        self.spaces, self.lanes = each or world.spaces, world.lanes * self.agents
        self._turn: Any = getattr(world, "turn", None)
        self.turn_based = self._turn is not None
        self._agent = torch.arange(self.agents, device=self.device)

    def _spread(self, x: Tensor) -> Tensor:
        """What all agents of a world have alike: [W, ...] -> [B, ...]."""
        return x.repeat_interleave(self.agents, 0)

    def _shown(self, observation: Tree) -> Tree:
        return map_leaves(self._spread if self.groups else lambda x: x.flatten(0, 1), observation)

    def _joined(self, action: Tree) -> Tree:
        """[B, ...] -> [W, n, ...], or by group [W, ...]."""
        if not self.groups:
            return map_leaves(lambda x: x.unflatten(0, (self.world.lanes, self.agents)), action)
        return {
            name: map_leaves(lambda x, first=first: x[first :: self.agents], action[name])
            for name, (first,) in self.groups.items()
        }

    def reset(self, seed: int) -> Tree:
        """As the contract says."""
        return self._shown(self.world.reset(seed))

    def step(self, action: Tree) -> Step:
        """As the contract says; ``valid`` marks whose turn it was."""
        valid = None
        if self.turn_based:
            valid = (self._turn(self.world.world).unsqueeze(1) == self._agent).flatten()
        step = self.world.step(self._joined(action))
        return Step(
            observation=self._shown(step.observation),
            reward=step.reward.flatten() if step.reward.dim() == 2 else self._spread(step.reward),
            terminated=self._spread(step.terminated),
            truncated=self._spread(step.truncated),
            final_observation=None if step.final_observation is None else self._shown(step.final_observation),
            valid=valid,
            info={name: self._spread(value) for name, value in step.info.items()},
        )

    def cut(self, lanes: Tensor) -> Tree:
        """As the contract says: whole worlds."""
        worlds = lanes.view(-1, self.agents)
        if bool((worlds.any(1) != worlds.all(1)).any()):
            raise UsageError(f"cut takes whole worlds of {self.name}: all {self.agents} lanes of one, or none")
        return self._shown(self.world.cut(worlds.any(1)))

    def save(self) -> State:
        """The world's state."""
        return self.world.save()

    def restore(self, state: State) -> Tree:
        """Continue from ``save``'s result."""
        return self._shown(self.world.restore(state))

    def render(self, lane: int = 0) -> np.ndarray | None:
        """One RGB frame of a lane's world."""
        return self.world.render(lane // self.agents)

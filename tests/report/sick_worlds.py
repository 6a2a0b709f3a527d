"""Worlds and a policy that make runs ill, each in one way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from torch import nn

from pistar.policies.mlp import MLP


class Blind(gymnasium.Env[np.ndarray, np.int64]):
    """A fair coin pays or costs, whatever is done, and the observation tells nothing of it; its last entry is broken."""

    def __init__(self) -> None:
        self.observation_space = Box(-5.0, 5.0, (3,), np.float32)
        self.action_space = Discrete(2)
        self.elapsed = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.elapsed = 0
        return self._observe(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.elapsed += 1
        return self._observe(), float(self.np_random.choice((-1.0, 1.0))), False, self.elapsed >= 20, {}

    def _observe(self) -> np.ndarray:
        seen = self.np_random.normal(size=3).clip(-5, 5).astype(np.float32)
        seen[2] = 0.25
        return seen


class Changing(Blind):
    """Pays for an action that differs from the last one: a policy that always does the same gets nothing."""

    last = 0

    def _observe(self) -> np.ndarray:
        return np.zeros(3, np.float32)

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        seen, _, ended, cut, info = super().step(action)
        reward, self.last = float(action != self.last), int(action)
        return seen, reward, ended, cut, info


@dataclass(frozen=True)
class Dropping(MLP):
    """Drops outputs at random, other ones when it learns than when it acted."""

    def build(self, spaces: Any, generator: Any) -> Any:
        policy: Any = super().build(spaces, generator)
        policy.actor = nn.Sequential(policy.actor, nn.Dropout(0.3))
        return policy.train()

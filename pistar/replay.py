"""Stored transitions for algorithms that learn from experience older than the last rollout.

A ring per lane, filled by rollouts and sampled uniformly. It is one of the two kinds of experience that `improve` is given;
everything in it is part of a checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pistar.errors import UsageError
from pistar.rollout import Rollout
from pistar.tree import Tree, map_leaves


@dataclass
class Transitions:
    """N transitions (s, a, r, s'), with s' = final observation where the episode ended."""

    observation: Tree  # [N, ...]
    action: Tree
    reward: Tensor  # [N]
    terminated: Tensor  # [N] bool: s' has no value; a truncation is no end
    next_observation: Tree
    weight: Tensor  # [N] 0 where the backend ignored the action


class Replay:
    """The last ``capacity`` steps of every lane; ``new`` counts those that the last rollout added over all lanes."""

    def __init__(self, capacity: int, seed: int, device: str | torch.device = "cpu") -> None:
        if capacity < 1:
            raise UsageError(f"an algorithm that learns from replay needs replay_capacity >= 1, received {capacity}")
        self.capacity, self.device = capacity, torch.device(device)
        self.generator = torch.Generator(device=self.device).manual_seed(seed)
        self.storage: Transitions | None = None
        self.size, self.position, self.new = 0, 0, 0

    def add(self, rollout: Rollout) -> Replay:
        """Append a rollout's T × B transitions, over the oldest where the ring is full."""
        steps = rollout.shape[0]
        weight = torch.ones_like(rollout.reward) if rollout.weight is None else rollout.weight
        fresh = Transitions(
            rollout.observation, rollout.action, rollout.reward, rollout.terminated, rollout.next_observation(), weight
        )
        if self.storage is None:
            self.storage = map_leaves(lambda x: x.new_zeros((self.capacity, *x.shape[1:])), fresh)
        kept = min(steps, self.capacity)
        rows = (torch.arange(kept, device=self.device) + self.position) % self.capacity
        map_leaves(lambda ring, x: ring.index_copy_(0, rows, x[steps - kept :]), self.storage, fresh)
        self.position = (self.position + kept) % self.capacity
        self.size = min(self.size + kept, self.capacity)
        self.new = steps * rollout.shape[1]
        return self

    def sample(self, count: int) -> Transitions:
        """``count`` transitions drawn uniformly with replacement."""
        if self.storage is None:
            raise UsageError("nothing has been added to the replay yet; add a rollout before sampling")
        lanes = self.storage.reward.shape[1]
        pick = torch.randint(self.size * lanes, (count,), generator=self.generator, device=self.device)
        batch: Transitions = map_leaves(lambda x: x[: self.size].flatten(0, 1).index_select(0, pick), self.storage)
        return batch

    def state(self) -> dict[str, Any]:
        """Everything that ``load_state`` needs; empty before the first rollout."""
        if self.storage is None:
            return {}
        return {
            "storage": vars(self.storage),
            "generator": self.generator.get_state(),
            "size": self.size,
            "position": self.position,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        if state:
            # A copy: the ring is written in place, and a state may be loaded more than once.
            stored = Transitions(**state["storage"])
            self.storage = map_leaves(lambda x: x.to(self.device, copy=True), stored)
            self.generator.set_state(state["generator"])
            self.size, self.position = state["size"], state["position"]

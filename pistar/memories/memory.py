"""The contract of a memory: features and what is remembered in, features and what is remembered out.

Acting is `step`. Learning is the same over L steps, `forward`, which zeroes the memory wherever an episode begins; a memory
of one's own need only write `step` and `initial`, and may write a faster `forward`. State is passed, never kept on the
module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from pistar.tree import Tree, map_leaves


class Memory(nn.Module, ABC):
    """Built as ``Class(inputs, size, generator)``; gives ``size`` features per step. State is a tree of [N, ...] tensors."""

    size: int

    @abstractmethod
    def initial(self, lanes: int) -> Tree:
        """The state at the start of an episode, which must be zeros: [N, ...]."""

    @abstractmethod
    def step(self, x: Tensor, state: Tree) -> tuple[Tensor, Tree]:
        """One step: features [N, inputs] and the state before it -> features [N, size] and the state after it."""

    def forward(self, x: Tensor, state: Tree, is_first: Tensor) -> tuple[Tensor, Tree]:
        """L steps: [L, N, inputs] -> features [L, N, size], and the state after every step [L, N, ...]."""
        features, states = [], []
        for now, begins in zip(x, is_first, strict=True):
            y, state = self.step(now, forget(state, begins))
            features.append(y)
            states.append(state)
        return torch.stack(features), map_leaves(lambda *each: torch.stack(each), states[0], *states[1:])


def forget(state: Tree, begins: Tensor) -> Tree:
    """Zero where an episode begins, ``begins`` [N] bool, whatever stood there: [N, ...] -> [N, ...]."""
    return map_leaves(lambda x: x.masked_fill(begins.view(-1, *[1] * (x.dim() - 1)), 0.0), state)

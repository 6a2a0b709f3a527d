"""The contract of a distribution over actions, batched over any leading shape [...]."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from torch import Tensor

from pistar.tree import Tree, map_leaves


class Distribution(ABC):
    """A distribution of one action per batch entry."""

    @abstractmethod
    def log_prob(self, action: Tree) -> Tensor:
        """The log-probability (or log-density) of ``action``: [...]."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """−E[log π(a)] in nats: [...]."""

    @abstractmethod
    def mode(self) -> Tree:
        """The most likely action."""

    @abstractmethod
    def sample(self, noise: Tree) -> Tree:
        """The action that ``noise`` stands for; of the right distribution if the noise is (see each class)."""

    @abstractmethod
    def kl(self, other: Self) -> Tensor:
        """Exact KL(self ‖ other) in nats: [...]."""

    def detached(self, shape: tuple[int, ...]) -> Self:
        """The same without gradient, every parameter [*shape, n], so that it can be cut up like the batch [*shape]."""
        distribution: Self = map_leaves(lambda leaf: leaf.detach().expand(*shape, leaf.shape[-1]), self)
        return distribution

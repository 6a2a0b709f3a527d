"""Several independent distributions as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from pistar.distributions.distribution import Distribution
from pistar.tree import Tree


@dataclass(frozen=True, eq=False)
class Joint(Distribution):
    """Independent components under names or positions; actions and noise are dicts or tuples of the same shape."""

    components: Mapping[str, Distribution] | tuple[Distribution, ...]

    def log_prob(self, action: Tree) -> Tensor:
        """Sum of the components' log-probabilities: [...]."""
        return _total(part.log_prob(action[key]) for key, part in self._items())

    def entropy(self) -> Tensor:
        """Sum of the components' entropies: [...]."""
        return _total(part.entropy() for _, part in self._items())

    def mode(self) -> Tree:
        """The most likely action of every component."""
        return self._assemble(part.mode() for _, part in self._items())

    def sample(self, noise: Tree) -> Tree:
        """Every component sampled with its own noise."""
        return self._assemble(part.sample(noise[key]) for key, part in self._items())

    def kl(self, other: Joint) -> Tensor:
        """Sum of the components' divergences: [...]."""
        return _total(part.kl(other.components[key]) for key, part in self._items())

    def detached(self, shape: tuple[int, ...]) -> Joint:
        """Every component's own."""
        return Joint(self._assemble(part.detached(shape) for _, part in self._items()))

    def _items(self) -> Iterable[tuple[Any, Distribution]]:
        return self.components.items() if isinstance(self.components, Mapping) else enumerate(self.components)

    def _assemble(self, parts: Iterable[Tree]) -> Tree:
        return dict(zip(self.components, parts, strict=True)) if isinstance(self.components, Mapping) else tuple(parts)


@dataclass(frozen=True, eq=False)
class MultiCategorical(Distribution):
    """k independent indices in one tensor: a tuple ``Joint`` whose actions (int64) and noise are stacked, [..., k]."""

    joint: Joint  # of k Categoricals

    def log_prob(self, action: Tensor) -> Tensor:
        """Sum of the indices' log-probabilities: [..., k] -> [...]."""
        return self.joint.log_prob(action.unbind(-1))

    def entropy(self) -> Tensor:
        """Sum of the indices' entropies: [...]."""
        return self.joint.entropy()

    def mode(self) -> Tensor:
        """The most likely value of every index: [..., k]."""
        return torch.stack(self.joint.mode(), dim=-1)

    def sample(self, noise: Tensor) -> Tensor:
        """Every index sampled as ``Categorical`` does: [..., k] -> [..., k]."""
        return torch.stack(self.joint.sample(noise.unbind(-1)), dim=-1)

    def kl(self, other: MultiCategorical) -> Tensor:
        """Sum of the indices' divergences: [...]."""
        return self.joint.kl(other.joint)


def _total(terms: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, terms)

"""What the checks of one family share: heads away from their start, outputs, actions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.distributions import Distribution
from pistar.heads import Head, JointHead
from pistar.tree import Tree, leaves, map_leaves

MOST_ACTIONS = 4096  # of a finite space, to be gone through one by one


@dataclass
class Trial:
    """One call of ``check_distribution``."""

    family: Callable[[Any], Head]
    space: spaces.Space[Any]
    seed: int

    def generator(self, salt: int) -> torch.Generator:
        """A random stream of its own for every purpose."""
        return torch.Generator().manual_seed(1000 * self.seed + salt)

    def head(
        self, dtype: torch.dtype = torch.float64, space: spaces.Space[Any] | None = None, size: float = 0.2
    ) -> Head:
        """A head whose weights have moved a little, always in the same way."""
        head = self.family(self.space if space is None else space)
        generator = self.generator(1)
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(size * torch.randn(parameter.shape, generator=generator))
        return head.to(dtype)

    def outputs(self, head: Head, shape: tuple[int, ...] = (), salt: int = 2, dtype: Any = torch.float64) -> Tensor:
        """Outputs of an ordinary size: [*shape, size]."""
        return torch.randn((*shape, head.size), generator=self.generator(salt), dtype=torch.float64).to(dtype)

    def noise(self, head: Head, shape: tuple[int, ...], salt: int = 3, dtype: Any = torch.float64) -> Tree:
        """Noise for actions of batch shape ``shape``."""
        return head.noise(shape, self.generator(salt), dtype, torch.device("cpu"))

    def drawn(self, head: Head, outputs: Tensor, salt: int = 3) -> tuple[Distribution, Tree]:
        """The distribution of outputs [*shape, size], and one action for each."""
        with torch.no_grad():
            action = head(outputs).sample(self.noise(head, outputs.shape[:-1], salt, outputs.dtype))
        return head(outputs), detached(action)  # another: what a distribution keeps of sampling here has no gradient

    def many(self, head: Head, count: int, salt: int = 2) -> tuple[Distribution, Tree]:
        """One distribution, ``count`` times, and as many actions from it."""
        with torch.no_grad():
            return self.drawn(head, self.outputs(head, (), salt).expand(count, head.size))

    def elements(self) -> Tree | None:
        """Every element of a finite space as a batch; None where there are too many, or the space is none of indices."""
        space = self.space
        if isinstance(space, spaces.Discrete):
            return torch.arange(int(space.n)) + int(space.start)
        if isinstance(space, spaces.MultiDiscrete):
            ranges = [range(int(s), int(s) + int(n)) for n, s in zip(space.nvec.flat, space.start.flat, strict=True)]
        elif isinstance(space, spaces.MultiBinary):
            ranges = [range(2)] * math.prod(space.shape)
        else:
            return None
        if math.prod(len(each) for each in ranges) > MOST_ACTIONS:
            return None
        return torch.tensor(list(itertools.product(*ranges))).reshape(-1, *space.shape)

    def samples_of_the_space(self, count: int) -> Tree:
        """Elements that the space itself draws, as a batch of tensors."""
        self.space.seed(self.seed)
        samples = [self.space.sample() for _ in range(count)]
        return map_leaves(lambda *x: torch.as_tensor(np.stack(x)), samples[0], *samples[1:])

    def mask(self, head: Head, shape: tuple[int, ...], salt: int = 4) -> Tree:
        """A mask of zeros and ones for all that can be forbidden."""
        if isinstance(head, JointHead):
            parts = head.named.items()
            return {name: self.mask(part, shape, salt + i) for i, (name, part) in enumerate(parts) if part.choices}
        return torch.randint(2, (*shape, head.choices), generator=self.generator(salt))


def detached(tree: Tree) -> Tree:
    """The same numbers, learned by nobody."""
    return map_leaves(torch.Tensor.detach, tree)


def equal(one: Tree, other: Tree) -> bool:
    """Bit for bit, structure and dtypes included."""
    mine, theirs = list(leaves(one)), list(leaves(other))
    return [path for path, _ in mine] == [path for path, _ in theirs] and all(
        x.dtype == y.dtype and torch.equal(x, y) for (_, x), (_, y) in zip(mine, theirs, strict=True)
    )


def finite(tree: Tree) -> bool:
    """Whether every number is."""
    return all(bool(torch.isfinite(leaf).all()) for _, leaf in leaves(tree))


def gradients_of(value: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """∇ of a scalar, 0 with respect to what it does not depend on; its graph is kept."""
    if not value.requires_grad:
        return [torch.zeros_like(weight) for weight in weights]
    found = torch.autograd.grad(value, weights, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(found, weights, strict=True)]

"""Heads of indices and bits: logits straight from the tower, of which a mask may forbid some."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.distributions import Bernoulli, Categorical, Joint, MultiCategorical
from pistar.heads.head import Head, torch_dtype


class CategoricalHead(Head):
    """Logits of a ``Discrete`` space; the policy's actions count from 0, the environment's from ``start``."""

    def __init__(self, space: spaces.Discrete) -> None:
        super().__init__()
        self.size = int(space.n)
        self.start = int(space.start)
        self.action_dtype = torch_dtype(space)

    def forward(self, outputs: Tensor) -> Categorical:
        """[..., n] -> Categorical."""
        return Categorical(outputs)

    @property
    def choices(self) -> int:
        """Every index."""
        return self.size

    def forbid(self, outputs: Tensor, mask: Tensor) -> Tensor:
        """[..., n], [..., n] -> [..., n]."""
        return without(outputs, mask.reshape(outputs.shape) > 0)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tensor:
        """Uniform on [0, 1): [*shape]."""
        return torch.rand(shape, generator=generator, dtype=dtype, device=device)

    def to_environment(self, action: Tensor) -> Tensor:
        """[...] -> [...]."""
        return (action + self.start).to(self.action_dtype)

    def from_environment(self, action: Tensor) -> Tensor:
        """[...] -> [...]."""
        return action.long() - self.start


class MultiCategoricalHead(Head):
    """Logits of all the indices of a ``MultiDiscrete`` space, side by side."""

    start: Tensor

    def __init__(self, space: spaces.MultiDiscrete) -> None:
        super().__init__()
        self.sizes = [int(n) for n in space.nvec.flat]
        self.size = sum(self.sizes)
        self.shape = space.shape
        self.action_dtype = torch_dtype(space)
        start = np.asarray(space.start).astype(np.int64).reshape(-1)
        self.register_buffer("start", torch.from_numpy(start), persistent=False)

    def forward(self, outputs: Tensor) -> MultiCategorical:
        """[..., Σ n] -> MultiCategorical of k indices."""
        return MultiCategorical(
            Joint(tuple(Categorical(logits) for logits in torch.split(outputs, self.sizes, dim=-1)))
        )

    @property
    def choices(self) -> int:
        """Every value of every index, side by side."""
        return self.size

    def forbid(self, outputs: Tensor, mask: Tensor) -> Tensor:
        """[..., Σ n], [..., Σ n] -> [..., Σ n]."""
        shares = zip(
            torch.split(outputs, self.sizes, -1),
            torch.split(mask.reshape(outputs.shape) > 0, self.sizes, -1),
            strict=True,
        )
        return torch.cat([without(logits, allowed) for logits, allowed in shares], dim=-1)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tensor:
        """Uniform on [0, 1): [*shape, k]."""
        return torch.rand((*shape, len(self.sizes)), generator=generator, dtype=dtype, device=device)

    def to_environment(self, action: Tensor) -> Tensor:
        """[..., k] -> [..., *space.shape]."""
        return (action + self.start).to(self.action_dtype).reshape((*action.shape[:-1], *self.shape))

    def from_environment(self, action: Tensor) -> Tensor:
        """[..., *space.shape] -> [..., k]."""
        return action.long().flatten(-len(self.shape)) - self.start


class BernoulliHead(Head):
    """Logits of the bits of a ``MultiBinary`` space."""

    def __init__(self, space: spaces.MultiBinary) -> None:
        super().__init__()
        self.shape = space.shape
        self.size = prod(self.shape)

    def forward(self, outputs: Tensor) -> Bernoulli:
        """[..., n] -> Bernoulli."""
        return Bernoulli(outputs)

    @property
    def choices(self) -> int:
        """Every bit."""
        return self.size

    def forbid(self, outputs: Tensor, mask: Tensor) -> Tensor:
        """[..., n], [..., n] or [..., *space.shape] -> [..., n]: a forbidden bit is 0, and all may be."""
        return outputs.masked_fill(mask.reshape(outputs.shape) <= 0, -torch.inf)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tensor:
        """Uniform on [0, 1): [*shape, n]."""
        return torch.rand((*shape, self.size), generator=generator, dtype=dtype, device=device)

    def to_environment(self, action: Tensor) -> Tensor:
        """[..., n] -> int8 [..., *space.shape]."""
        return action.to(torch.int8).reshape((*action.shape[:-1], *self.shape))

    def from_environment(self, action: Tensor) -> Tensor:
        """[..., *space.shape] -> int8 [..., n]."""
        return action.to(torch.int8).flatten(-len(self.shape))


def without(logits: Tensor, allowed: Tensor) -> Tensor:
    """Logits [..., n], −inf where ``allowed`` [..., n] is False; a row in which nothing is allowed stays as it is."""
    return logits.masked_fill(~allowed & allowed.any(-1, keepdim=True), -torch.inf)

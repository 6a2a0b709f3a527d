"""A distribution of your own: independent Laplace variables, whose tails are heavier than a Gaussian's.

    pistar train pendulum --mlp.distribution laplace:LaplaceHead --steps 20000

log π(a) = −|a − μ| / b − log 2b per dimension. μ comes from the network; log b is a parameter of the head.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from pistar.distributions import Distribution
from pistar.heads import BoxActions, Head


@dataclass(frozen=True, eq=False)
class Laplace(Distribution):
    """Actions are real [..., A]; noise is uniform on [0, 1), [..., A]."""

    mean: Tensor  # [..., A]
    log_scale: Tensor  # log b [A]

    def log_prob(self, action: Tensor) -> Tensor:
        """[..., A] -> [...]."""
        distance = (action - self.mean).abs() * (-self.log_scale).exp()
        return -(distance + self.log_scale + math.log(2)).sum(-1)

    def entropy(self) -> Tensor:
        """1 + log 2b per dimension."""
        return (1 + math.log(2) + self.log_scale).expand_as(self.mean).sum(-1)

    def mode(self) -> Tensor:
        """The peak."""
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """By the inverse of the distribution function."""
        centred = (noise - 0.5).clamp(min=-0.5 + 1e-7)  # −½ itself would be infinitely far away
        return self.mean - self.log_scale.exp() * centred.sign() * (-2 * centred.abs()).log1p()

    def kl(self, other: "Laplace") -> Tensor:
        """e^(−d/b) b/b' + d/b' + log b'/b − 1 per dimension, with d = |μ − μ'|."""
        distance = (self.mean - other.mean).abs()
        ratio = (self.log_scale - other.log_scale).exp()
        terms = (
            ratio * (-distance * (-self.log_scale).exp()).exp() + distance * (-other.log_scale).exp() - ratio.log() - 1
        )
        return terms.sum(-1)


class LaplaceHead(Head):
    """μ from the network's outputs, in [−1, 1] where the space has bounds."""

    def __init__(self, space: spaces.Box, initial_log_std: float = -0.5, **_: Any) -> None:
        super().__init__()
        self.box = BoxActions(space)
        self.size = self.box.size  # outputs that it needs
        self.log_scale = nn.Parameter(torch.full((self.size,), initial_log_std - 0.5 * math.log(2)))  # σ = √2 b

    def forward(self, outputs: Tensor) -> Laplace:
        """[..., A] -> Laplace."""
        return Laplace(outputs, self.log_scale.clamp(-5.0, 2.0))

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tensor:
        """[*shape, A]."""
        return torch.rand((*shape, self.size), generator=generator, dtype=dtype, device=device)

    def to_environment(self, action: Tensor) -> Tensor:
        """Mapped to the bounds, and clipped there."""
        return self.box.to_environment(action)

    def from_environment(self, action: Tensor) -> Tensor:
        """The way back."""
        return self.box.from_environment(action)

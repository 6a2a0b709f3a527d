"""Heads of normal distributions whose deviation is a parameter of its own, or an output of the tower."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from pistar.distributions import Gaussian, SquashedGaussian
from pistar.errors import UsageError
from pistar.heads.bounded import HIGHEST_LOG_STD, LOWEST_LOG_STD, bounded
from pistar.heads.box import BoxActions
from pistar.heads.head import Head


class GaussianHead(Head):
    """Means of a ``Box`` space of floats from the tower, log σ a parameter of its own that does not see the state.

    σ is kept within [exp(−5), exp(2)]; ``initial_log_std`` is where it starts. With ``squash`` the policy's action u is
    squashed to tanh(u) before it is mapped to the bounds, which must all be finite, and never needs clipping.
    """

    def __init__(self, space: spaces.Box, initial_log_std: float = -0.5, squash: bool = False, **_: Any) -> None:
        super().__init__()
        self.box = BoxActions(space, squash)
        self.size, self.squash, self.action_dtype = self.box.size, squash, self.box.dtype
        self.log_std = nn.Parameter(torch.full((self.size,), valid_log_std(initial_log_std)))

    def forward(self, outputs: Tensor) -> Gaussian | SquashedGaussian:
        """[..., A] -> Gaussian, or SquashedGaussian, of the actions flattened to [..., A]."""
        return (SquashedGaussian if self.squash else Gaussian)(outputs, self.bounded_log_std())

    def bounded_log_std(self) -> Tensor:
        """The log σ in use, within its bounds: [A]."""
        return bounded(self.log_std, LOWEST_LOG_STD, HIGHEST_LOG_STD)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tensor:
        """Standard normal: [*shape, A]."""
        return torch.randn((*shape, self.size), generator=generator, dtype=dtype, device=device)

    def to_environment(self, action: Tensor) -> Tensor:
        """[..., A] -> [..., *space.shape], inside the bounds."""
        return self.box.to_environment(action)

    def from_environment(self, action: Tensor) -> Tensor:
        """[..., *space.shape] -> [..., A]; with ``squash`` the bounds themselves map to large finite values."""
        return self.box.from_environment(action)


def squashed_gaussian(space: spaces.Box, initial_log_std: float = -0.5, **_: Any) -> GaussianHead:
    """The family ``squashed``."""
    return GaussianHead(space, initial_log_std, squash=True)


class StateGaussianHead(Head):
    """Means and deviations from the tower: log σ = ``initial_log_std`` + output, kept within the same bounds."""

    def __init__(self, space: spaces.Box, initial_log_std: float = -0.5, **_: Any) -> None:
        super().__init__()
        self.box = BoxActions(space)
        self.size = 2 * self.box.size
        self.initial_log_std = valid_log_std(initial_log_std)

    def forward(self, outputs: Tensor) -> Gaussian:
        """[..., 2A], all means before all deviations -> Gaussian of [..., A]."""
        mean, log_std = outputs.chunk(2, dim=-1)
        return Gaussian(mean, bounded(log_std + self.initial_log_std, LOWEST_LOG_STD, HIGHEST_LOG_STD))

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tensor:
        """Standard normal: [*shape, A]."""
        return torch.randn((*shape, self.box.size), generator=generator, dtype=dtype, device=device)

    def to_environment(self, action: Tensor) -> Tensor:
        """[..., A] -> [..., *space.shape], inside the bounds."""
        return self.box.to_environment(action)

    def from_environment(self, action: Tensor) -> Tensor:
        """[..., *space.shape] -> [..., A]."""
        return self.box.from_environment(action)


def valid_log_std(value: float) -> float:
    """``value``, where log σ may begin there; a UsageError elsewhere."""
    if not LOWEST_LOG_STD <= value <= HIGHEST_LOG_STD:
        raise UsageError(
            f"initial_log_std must lie in [{LOWEST_LOG_STD:g}, {HIGHEST_LOG_STD:g}], where log σ is bounded; got {value!r}"
        )
    return value

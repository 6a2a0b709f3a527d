"""The head of a Beta distribution (Chou, Maturana & Scherer 2017)."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from pistar.distributions import Beta
from pistar.distributions.beta import CANDIDATES
from pistar.heads.bounded import bounded
from pistar.heads.box import BoxActions
from pistar.heads.head import Head

# Softplus is flat below −10. At α = β = 11,000 the deviation is exp(−5), the smallest that a Gaussian may have here.
LOWEST_OUTPUT, HIGHEST_OUTPUT = -10.0, 11_000.0


class BetaHead(Head):
    """α, β = 1 + softplus(outputs) of a ``Box`` space with finite bounds, to which [−1, 1] is mapped; nothing is clipped."""

    def __init__(self, space: spaces.Box, **_: Any) -> None:
        super().__init__()
        self.box = BoxActions(space, squash=True, family="a Beta distribution")
        self.size = 2 * self.box.size

    def forward(self, outputs: Tensor) -> Beta:
        """[..., 2A], all α before all β -> Beta of [..., A]."""
        return Beta(*(1 + functional.softplus(bounded(outputs, LOWEST_OUTPUT, HIGHEST_OUTPUT))).chunk(2, dim=-1))

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tensor:
        """Pairs of a standard normal and a uniform on [0, 1): [*shape, A, 2, CANDIDATES, 2]."""
        size = (*shape, self.box.size, 2, CANDIDATES)
        normal = torch.randn(size, generator=generator, dtype=dtype, device=device)
        return torch.stack((normal, torch.rand(size, generator=generator, dtype=dtype, device=device)), dim=-1)

    def to_environment(self, action: Tensor) -> Tensor:
        """[..., A] -> [..., *space.shape], inside the bounds."""
        return self.box.to_environment(action)

    def from_environment(self, action: Tensor) -> Tensor:
        """[..., *space.shape] -> [..., A]; the bounds themselves map to large finite values."""
        return self.box.from_environment(action)

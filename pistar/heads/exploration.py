"""The head of generalised state-dependent exploration (Raffin, Kober & Stulp 2022)."""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from pistar.distributions import FeatureGaussian
from pistar.errors import UsageError
from pistar.heads.bounded import HIGHEST_LOG_STD, LOWEST_LOG_STD, bounded
from pistar.heads.box import BoxActions
from pistar.heads.gaussian import valid_log_std
from pistar.heads.head import Head

GAIN = 2**0.5  # of hidden layers, whose weights are drawn with it


class ExplorationHead(Head):
    """The tower's outputs are features z before their tanh; mean and noise are both linear in them.

    The head owns the last layer of the mean, which starts at 0, so that whatever makes its inputs need not know that they
    are features. σ_fa, one per feature and dimension, is a parameter and starts where an action's deviation is about
    exp(``initial_log_std``); σ is within the bounds of a Gaussian's, divided by √features. One more feature, always 1, has
    σ = exp(−5) for good: no deviation is ever smaller.

    The matrix W is drawn anew every ``redraw`` steps of a rollout, and at its beginning; 0: only there. Lanes have their own.
    """

    def __init__(
        self, space: spaces.Box, initial_log_std: float = -0.5, features: int = 64, redraw: int = 8, **_: Any
    ) -> None:
        super().__init__()
        self.box = BoxActions(space)
        self.size, self.redraw = features, redraw
        self.offset = -0.5 * math.log(features)
        self.weight = nn.Parameter(torch.zeros(self.box.size, features))
        self.bias = nn.Parameter(torch.zeros(self.box.size))
        self.log_std = nn.Parameter(torch.full((features, self.box.size), valid_log_std(initial_log_std) + self.offset))

    def forward(self, outputs: Tensor) -> FeatureGaussian:
        """[..., F] -> FeatureGaussian of [..., A]."""
        z = outputs.tanh()
        log_std = bounded(self.log_std, LOWEST_LOG_STD + self.offset, HIGHEST_LOG_STD + self.offset)
        with_floor = torch.cat((log_std, torch.full_like(log_std[:1], LOWEST_LOG_STD)))
        mean = functional.linear(z, self.weight, self.bias)
        return FeatureGaussian(mean, torch.cat((z, torch.ones_like(z[..., :1])), dim=-1), with_floor)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tensor:
        """Standard normal: [*shape, F + 1, A]; of the shape (T, B), equal for ``redraw`` steps in a row."""
        matrix = (self.size + 1, self.box.size)
        if len(shape) < 2:  # no time
            return torch.randn((*shape, *matrix), generator=generator, dtype=dtype, device=device)
        steps, every = shape[0], self.redraw or max(shape[0], 1)
        draws = torch.randn((-(-steps // every), *shape[1:], *matrix), generator=generator, dtype=dtype, device=device)
        return draws.repeat_interleave(every, dim=0)[:steps]

    def to_environment(self, action: Tensor) -> Tensor:
        """[..., A] -> [..., *space.shape], inside the bounds."""
        return self.box.to_environment(action)

    def from_environment(self, action: Tensor) -> Tensor:
        """[..., *space.shape] -> [..., A]."""
        return self.box.from_environment(action)

    def rescale(self, weight: Tensor, gain: float) -> None:
        """As a hidden layer's: features that are all near 0 would leave no noise."""
        if gain == 0:
            raise UsageError(
                "gsde makes its noise of the last layer's outputs, which a gain of 0 makes all 0; choose another"
            )
        with torch.no_grad():
            weight.mul_(GAIN / gain)

"""A Gaussian whose noise is a random linear function of features of the state: generalised state-dependent exploration.

Where an ordinary Gaussian draws new noise at every step, the random matrix here is drawn once for several steps: the same
state then gets the same noise, and exploration is smooth in time (Raffin, Kober & Stulp 2022; without
the redrawing, Rückstieß et al. 2008).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pistar.distributions.distribution import Distribution
from pistar.distributions.gaussian import Gaussian


@dataclass(frozen=True, eq=False)
class FeatureGaussian(Distribution):
    """μ + Wᵀz with features z and independent W_fa ~ N(0, σ_fa²): given z, normal with the variances Σ_f z_f² σ_fa².

    Probabilities are those of one action, whatever its neighbours in time shared of W. Actions are real [..., A]; noise is
    standard normal [..., F, A] and may repeat itself along time.
    """

    mean: Tensor  # [..., A]
    features: Tensor  # z [..., F], not all of them 0
    log_std: Tensor  # log σ [F, A], or one for each row, [..., F, A]

    @cached_property
    def marginal(self) -> Gaussian:
        """The distribution of one action, W integrated out."""
        variance = self.features.square().unsqueeze(-2) @ (2 * self.log_std).exp()
        return Gaussian(self.mean, 0.5 * variance.squeeze(-2).log())

    def log_prob(self, action: Tensor) -> Tensor:
        """That of the marginal: [..., A] -> [...]."""
        return self.marginal.log_prob(action)

    def entropy(self) -> Tensor:
        """That of the marginal: [...]."""
        return self.marginal.entropy()

    def mode(self) -> Tensor:
        """The mean: [..., A]."""
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """μ + Σ_f z_f σ_fa · noise_fa: [..., A]; differentiable in all parameters."""
        return self.mean + (self.features.unsqueeze(-2) @ (self.log_std.exp() * noise)).squeeze(-2)

    def kl(self, other: FeatureGaussian) -> Tensor:
        """That of the marginals: [...]."""
        return self.marginal.kl(other.marginal)

    def detached(self, shape: tuple[int, ...]) -> FeatureGaussian:
        """As for all; of the features one that is 1 is left, whose σ is the marginal's: the same distribution, and smaller."""
        with torch.no_grad():
            mean, log_std = self.mean.expand(*shape, -1), self.marginal.log_std.expand(*shape, -1)
        return FeatureGaussian(mean.detach(), torch.ones_like(mean[..., :1]), log_std.detach().unsqueeze(-2))

"""Independent normal variables, as they are or squashed into (−1, 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from pistar.distributions.distribution import Distribution

QUADRATURE_NODES = 32


@dataclass(frozen=True, eq=False)
class Gaussian(Distribution):
    """Independent normal variables; actions are real [..., A], noise is standard normal [..., A]."""

    mean: Tensor  # [..., A]
    log_std: Tensor  # log σ, broadcastable to the mean, e.g. [A]

    def log_prob(self, action: Tensor) -> Tensor:
        """−½ ((a − μ) / σ)² − log σ − ½ log 2π, summed over A: [..., A] -> [...]."""
        z = (action - self.mean) * (-self.log_std).exp()
        return (-0.5 * z.square() - self.log_std).sum(-1) - 0.5 * math.log(2 * math.pi) * z.shape[-1]

    def entropy(self) -> Tensor:
        """Log σ + ½ log 2πe, summed over A: [...]."""
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).expand_as(self.mean).sum(-1)

    def mode(self) -> Tensor:
        """The mean: [..., A]."""
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """μ + σ · noise: [..., A]; differentiable in μ and σ."""
        return self.mean + self.log_std.exp() * noise

    def kl(self, other: Gaussian) -> Tensor:
        """½ (σ²/σ'² − 1) − log σ/σ' + ½ ((μ − μ') / σ')², summed over A: [...]."""
        log_ratio = self.log_std - other.log_std
        z = (self.mean - other.mean) * (-other.log_std).exp()
        return (0.5 * (2 * log_ratio).expm1() - log_ratio + 0.5 * z.square()).sum(-1)


@dataclass(frozen=True, eq=False)
class SquashedGaussian(Distribution):
    """tanh(u) of a normal u: a density on (−1, 1)^A (Haarnoja et al. 2018, appendix C).

    The action that is stored is u, not tanh(u): tanh rounds to 1 from u ≈ 9 on in float32, and from 1 no
    log-probability can be had back. ``log_prob(u)`` is the log-density of tanh(u). Noise is standard normal [..., A].
    """

    mean: Tensor  # [..., A], of u
    log_std: Tensor  # of u, broadcastable to the mean

    @cached_property
    def _normal(self) -> Gaussian:
        return Gaussian(self.mean, self.log_std)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log N(u; μ, σ) − Σ log(1 − tanh² u): u [..., A] -> [...]."""
        return self._normal.log_prob(action) - _log_slope_of_tanh(action).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy of tanh(u), H(u) + E[Σ log(1 − tanh² u)], the expectation by Gauss–Hermite quadrature: [...].

        Deterministic. With 32 nodes the error per dimension is below 1e-6 for σ <= 1, 1e-3 for σ <= 2 and 0.1 for
        σ <= exp(2).
        """
        nodes, weights = _hermite(QUADRATURE_NODES, self.mean.dtype, self.mean.device)
        u = self.mean.unsqueeze(-1) + self.log_std.exp().unsqueeze(-1) * nodes
        return self._normal.entropy() + (_log_slope_of_tanh(u) @ weights).sum(-1)

    def mode(self) -> Tensor:
        """The mean of u, the median of tanh(u) per dimension and the action of a deterministic policy: [..., A].

        The density of tanh(u) itself may peak elsewhere, at ±1 if σ is large, which is no sensible action to take.
        """
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """μ + σ · noise, as u: [..., A]; differentiable in μ and σ."""
        return self._normal.sample(noise)

    def kl(self, other: SquashedGaussian) -> Tensor:
        """That of the normals: a bijection such as tanh leaves it as it is: [...]."""
        return self._normal.kl(other._normal)


def _log_slope_of_tanh(u: Tensor) -> Tensor:
    """log(1 − tanh² u) = −2 log cosh u, exact also where tanh rounds to ±1."""
    return 2 * (math.log(2) - torch.logaddexp(u, -u))


@lru_cache(maxsize=4)
def _hermite(count: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and weights of E[f(z)] ≈ Σ w f(x) for a standard normal z; kept on the device, where a copy would make it wait."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    with torch.inference_mode(False):
        return torch.from_numpy(nodes).to(device, dtype), torch.from_numpy(weights / weights.sum()).to(device, dtype)

"""Independent Beta variables on [−1, 1] (Chou, Maturana & Scherer 2017).

Unlike a Gaussian's, its density ends where the actions do: nothing is clipped, and the mean is not pulled towards the bounds
by probability that lies behind them. Here α, β >= 1, so that there is one peak (or the uniform distribution).

Arithmetic is in double precision inside: the logarithms of the gamma function nearly cancel where α or β is large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from pistar.distributions.distribution import Distribution

# Candidates per gamma variable. One is rejected with a probability below 0.05 for α >= 1, all with one below 5e-11, which
# is less than the grain of a uniform number in single precision.
CANDIDATES = 8


@dataclass(frozen=True, eq=False)
class Beta(Distribution):
    """a = 2x − 1 with x ~ Beta(α, β), α, β >= 1, one variable per dimension: a density on [−1, 1]^A.

    The action that is stored is u = artanh a, not a, as with ``SquashedGaussian``: near the bounds a rounds to ±1, and the
    logarithms of x = sigmoid(2u) and 1 − x = sigmoid(−2u) are exact from u alone. ``log_prob(u)`` is the log-density of a.

    Noise is [..., A, 2, CANDIDATES, 2]: for both gamma variables of which x is made, pairs of a standard normal and a
    uniform on [0, 1).
    """

    alpha: Tensor  # [..., A]
    beta: Tensor  # [..., A]

    @cached_property
    def _double(self) -> tuple[Tensor, Tensor]:
        return self.alpha.double(), self.beta.double()

    @cached_property
    def _log_normaliser(self) -> Tensor:
        """Log B(α, β) + log 2, in double precision: [..., A]; the range of a is twice that of x."""
        alpha, beta = self._double
        return torch.lgamma(alpha) + torch.lgamma(beta) - torch.lgamma(alpha + beta) + math.log(2)

    def log_prob(self, action: Tensor) -> Tensor:
        """(α − 1) log x + (β − 1) log(1 − x) − log B(α, β) − log 2, summed over A: u [..., A] -> [...]."""
        (alpha, beta), u = self._double, 2 * action.double()
        density = (alpha - 1) * functional.logsigmoid(u) + (beta - 1) * functional.logsigmoid(-u)
        return (density - self._log_normaliser).sum(-1).to(self.alpha.dtype)

    def entropy(self) -> Tensor:
        """Log 2B(α, β) − (α − 1) ψ(α) − (β − 1) ψ(β) + (α + β − 2) ψ(α + β), summed over A, ψ the digamma: [...]."""
        alpha, beta = self._double
        both = (alpha + beta - 2) * torch.digamma(alpha + beta)
        terms = both - (alpha - 1) * torch.digamma(alpha) - (beta - 1) * torch.digamma(beta)
        return (self._log_normaliser + terms).sum(-1).to(self.alpha.dtype)

    def mode(self) -> Tensor:
        """The peak x = (α − 1) / (α + β − 2), as u = ½ log((α − 1) / (β − 1)): [..., A]; the middle where all are equal."""
        left, right = ((x - 1).clamp_min(torch.finfo(x.dtype).tiny) for x in self._double)
        return (0.5 * (left.log() - right.log())).to(self.alpha.dtype)

    def sample(self, noise: Tensor) -> Tensor:
        """X = G / (G + G') of gamma variables G ~ Γ(α), G' ~ Γ(β), as u = ½ log(G / G'): [..., A]; no gradient."""
        shape = torch.stack(self._double, dim=-1).detach()
        log_gamma = _log_gamma(shape, noise.double())
        return (0.5 * (log_gamma[..., 0] - log_gamma[..., 1])).to(self.alpha.dtype)

    def kl(self, other: Beta) -> Tensor:
        """Log B'/B + (α − α') ψ(α) + (β − β') ψ(β) + (α' − α + β' − β) ψ(α + β), summed over A: [...]."""
        (alpha, beta), (alpha_, beta_) = self._double, other._double
        terms = (alpha - alpha_) * torch.digamma(alpha) + (beta - beta_) * torch.digamma(beta)
        terms = terms + (alpha_ - alpha + beta_ - beta) * torch.digamma(alpha + beta)
        return (other._log_normaliser - self._log_normaliser + terms).sum(-1).to(self.alpha.dtype)


def _log_gamma(shape: Tensor, noise: Tensor) -> Tensor:
    """Log G of G ~ Γ(shape), shape >= 1, by rejection (Marsaglia & Tsang 2000): [...], noise [..., CANDIDATES, 2] -> [...].

    With d = shape − ⅓ and c = 1 / √(9d), the candidate d v, v = (1 + c z)³ of a normal z, is taken where v > 0 and
    log(uniform) < z²/2 + d − d v + d log v; the first one taken is the result. Rejected ones cost noise only, so that the
    result is a function of it.
    """
    d = (shape - 1 / 3).unsqueeze(-1)
    z, uniform = noise.unbind(-1)
    root = 1 + z * (9 * d).rsqrt()
    log_v = 3 * root.clamp_min(1e-30).log()
    taken = (root > 0) & (uniform.log() < 0.5 * z.square() + d - d * root**3 + d * log_v)
    first = taken.to(torch.uint8).argmax(-1, keepdim=True)
    return d.squeeze(-1).log() + log_v.gather(-1, first).squeeze(-1)

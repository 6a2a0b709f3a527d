"""Distributions over indices and bits, by their logits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from pistar.distributions.distribution import Distribution


@dataclass(frozen=True, eq=False)
class Categorical(Distribution):
    """One of n indices, π(i) ∝ exp(logits_i); a logit of −inf forbids its index (at least one must be finite).

    Actions are int64 [...]; noise is uniform on [0, 1), [...].
    """

    logits: Tensor  # [..., n]

    @cached_property
    def log_probability(self) -> Tensor:
        """The log-probability of every index: [..., n]."""
        return functional.log_softmax(self.logits, dim=-1)

    @cached_property
    def probability(self) -> Tensor:
        """π of every index: [..., n]."""
        return self.log_probability.exp()

    def log_prob(self, action: Tensor) -> Tensor:
        """Log π(action): [...] -> [...]; −inf for a forbidden index."""
        return self.log_probability.gather(-1, action.long().unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """−Σ π log π with 0 · log 0 = 0: [...]."""
        return -expectation(self.log_probability, self.log_probability).sum(-1)

    def mode(self) -> Tensor:
        """The most likely index, the first of equals: [...]."""
        return self.logits.argmax(-1)

    def sample(self, noise: Tensor) -> Tensor:
        """Invert the cumulative distribution at ``noise``: the first index whose cumulative probability exceeds it.

        An index of probability 0 is never drawn, however sums are rounded: it is no candidate, and ``noise`` < 1 is
        scaled by the largest cumulative sum of the candidates, which one of them therefore always exceeds.
        """
        probability = self.probability
        cumulative = probability.cumsum(-1) * (probability > 0)
        threshold = noise.unsqueeze(-1) * cumulative.amax(-1, keepdim=True)
        return (cumulative > threshold).to(torch.uint8).argmax(-1)

    def kl(self, other: Categorical) -> Tensor:
        """Σ π (log π − log π'): [...]; infinite where ``other`` forbids what ``self`` allows."""
        return expectation(self.log_probability, self.log_probability - other.log_probability).sum(-1)


@dataclass(frozen=True, eq=False)
class Bernoulli(Distribution):
    """n independent bits, π(1) = sigmoid(logits); actions are int8 [..., n], noise is uniform on [0, 1), [..., n]."""

    logits: Tensor  # [..., n]

    @cached_property
    def log_probability(self) -> Tensor:
        """The log-probabilities of both values of every bit: [..., n, 2]."""
        return functional.logsigmoid(torch.stack((-self.logits, self.logits), dim=-1))

    def log_prob(self, action: Tensor) -> Tensor:
        """Σ log π(bit): [..., n] -> [...]."""
        return self.log_probability.gather(-1, action.long().unsqueeze(-1)).squeeze(-1).sum(-1)

    def entropy(self) -> Tensor:
        """Sum of the bits' entropies: [...]."""
        return -expectation(self.log_probability, self.log_probability).sum((-2, -1))

    def mode(self) -> Tensor:
        """The likelier value of each bit, 0 where both are equal: [..., n]."""
        return (self.logits > 0).to(torch.int8)

    def sample(self, noise: Tensor) -> Tensor:
        """1 where ``noise`` < π(1): [..., n]."""
        return (noise < self.logits.sigmoid()).to(torch.int8)

    def kl(self, other: Bernoulli) -> Tensor:
        """Sum of the bits' divergences: [...]."""
        return expectation(self.log_probability, self.log_probability - other.log_probability).sum((-2, -1))


def expectation(log_probability: Tensor, x: Tensor) -> Tensor:
    """π · x per outcome, and 0 for outcomes of probability 0 whatever x is, in the gradient too."""
    probability = log_probability.exp()
    return probability * x.masked_fill(probability == 0, 0.0)

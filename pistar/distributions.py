"""Distributions over actions, batched over any leading shape [...].

Each is a small record of the tensors that parametrise it. Unlike ``torch.distributions`` it validates nothing, knows
no event shapes and draws no random numbers: ``sample`` is a deterministic function of noise that the caller drew, for
a whole rollout at once where he likes, so that a stored draw can be replayed. Being dataclasses, distributions are
trees (``pistar.tree``).

An action is kept in the coordinates in which its log-probability is exact: an index, a vector of bits, a real vector
*before* squashing and rescaling. What the environment is given is the head's business (``pistar.heads``).

Left out: densities with respect to the environment's rescaled action (they differ by a constant), and constraints on
parameters; a standard deviation is bounded by the head that makes it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pistar.tree import Tree, map_leaves

QUADRATURE_NODES = 32


class Distribution(ABC):
    """A distribution of one action per batch entry."""

    @abstractmethod
    def log_prob(self, action: Tree) -> Tensor:
        """The log-probability (or log-density) of ``action``: [...]."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """−E[log π(a)] in nats: [...]."""

    @abstractmethod
    def mode(self) -> Tree:
        """The most likely action."""

    @abstractmethod
    def sample(self, noise: Tree) -> Tree:
        """The action that ``noise`` stands for; of the right distribution if the noise is (see each class)."""

    @abstractmethod
    def kl(self, other: Self) -> Tensor:
        """Exact KL(self ‖ other) in nats: [...]."""

    def detached(self, shape: tuple[int, ...]) -> Self:
        """The same without gradient, every parameter [*shape, n], so that it can be cut up like the batch [*shape]."""
        distribution: Self = map_leaves(lambda leaf: leaf.detach().expand(*shape, leaf.shape[-1]), self)
        return distribution


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
        return -_expectation(self.log_probability, self.log_probability).sum(-1)

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
        return _expectation(self.log_probability, self.log_probability - other.log_probability).sum(-1)


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
        nodes, weights = _hermite(QUADRATURE_NODES)
        nodes, weights = nodes.to(self.mean), weights.to(self.mean)
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
        return -_expectation(self.log_probability, self.log_probability).sum((-2, -1))

    def mode(self) -> Tensor:
        """The likelier value of each bit, 0 where both are equal: [..., n]."""
        return (self.logits > 0).to(torch.int8)

    def sample(self, noise: Tensor) -> Tensor:
        """1 where ``noise`` < π(1): [..., n]."""
        return (noise < self.logits.sigmoid()).to(torch.int8)

    def kl(self, other: Bernoulli) -> Tensor:
        """Sum of the bits' divergences: [...]."""
        return _expectation(self.log_probability, self.log_probability - other.log_probability).sum((-2, -1))


@dataclass(frozen=True, eq=False)
class Joint(Distribution):
    """Independent components under names or positions; actions and noise are dicts or tuples of the same shape."""

    components: Mapping[str, Distribution] | tuple[Distribution, ...]

    def log_prob(self, action: Tree) -> Tensor:
        """Sum of the components' log-probabilities: [...]."""
        return _total(part.log_prob(action[key]) for key, part in self._items())

    def entropy(self) -> Tensor:
        """Sum of the components' entropies: [...]."""
        return _total(part.entropy() for _, part in self._items())

    def mode(self) -> Tree:
        """The most likely action of every component."""
        return self._assemble(part.mode() for _, part in self._items())

    def sample(self, noise: Tree) -> Tree:
        """Every component sampled with its own noise."""
        return self._assemble(part.sample(noise[key]) for key, part in self._items())

    def kl(self, other: Joint) -> Tensor:
        """Sum of the components' divergences: [...]."""
        return _total(part.kl(other.components[key]) for key, part in self._items())

    def _items(self) -> Iterable[tuple[Any, Distribution]]:
        return self.components.items() if isinstance(self.components, Mapping) else enumerate(self.components)

    def _assemble(self, parts: Iterable[Tree]) -> Tree:
        return dict(zip(self.components, parts, strict=True)) if isinstance(self.components, Mapping) else tuple(parts)


@dataclass(frozen=True, eq=False)
class MultiCategorical(Distribution):
    """k independent indices in one tensor: a tuple ``Joint`` whose actions (int64) and noise are stacked, [..., k]."""

    joint: Joint  # of k Categoricals

    def log_prob(self, action: Tensor) -> Tensor:
        """Sum of the indices' log-probabilities: [..., k] -> [...]."""
        return self.joint.log_prob(action.unbind(-1))

    def entropy(self) -> Tensor:
        """Sum of the indices' entropies: [...]."""
        return self.joint.entropy()

    def mode(self) -> Tensor:
        """The most likely value of every index: [..., k]."""
        return torch.stack(self.joint.mode(), dim=-1)

    def sample(self, noise: Tensor) -> Tensor:
        """Every index sampled as ``Categorical`` does: [..., k] -> [..., k]."""
        return torch.stack(self.joint.sample(noise.unbind(-1)), dim=-1)

    def kl(self, other: MultiCategorical) -> Tensor:
        """Sum of the indices' divergences: [...]."""
        return self.joint.kl(other.joint)


def _expectation(log_probability: Tensor, x: Tensor) -> Tensor:
    """π · x per outcome, and 0 for outcomes of probability 0 whatever x is, in the gradient too."""
    probability = log_probability.exp()
    return probability * x.masked_fill(probability == 0, 0.0)


def _total(terms: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, terms)


def _log_slope_of_tanh(u: Tensor) -> Tensor:
    """log(1 − tanh² u) = −2 log cosh u, exact also where tanh rounds to ±1."""
    return 2 * (math.log(2) - torch.logaddexp(u, -u))


@lru_cache(maxsize=1)
def _hermite(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of E[f(z)] ≈ Σ w f(x) for a standard normal z."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())

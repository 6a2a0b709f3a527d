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

from pistar.distributions.beta import Beta
from pistar.distributions.discrete import Bernoulli, Categorical
from pistar.distributions.distribution import Distribution
from pistar.distributions.exploration import FeatureGaussian
from pistar.distributions.gaussian import Gaussian, SquashedGaussian
from pistar.distributions.joint import Joint, MultiCategorical

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "Distribution",
    "FeatureGaussian",
    "Gaussian",
    "Joint",
    "MultiCategorical",
    "SquashedGaussian",
]

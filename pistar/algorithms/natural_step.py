"""What natural policy gradient and TRPO share: the direction F⁻¹ g, its length, and the distributions that it is measured by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from pistar.algorithms import advantages

if TYPE_CHECKING:
    from torch import Tensor

    from pistar.algorithms.algorithm import Loss, Metrics
    from pistar.distributions import Distribution
    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.rollout import Batch


def standardized(batch: Batch) -> Batch:
    """The batch with advantages of mean 0 and deviation 1.

    The length of a natural step does not depend on their scale; taking out their mean takes out variance.
    """
    return dataclasses.replace(batch, advantage=advantages.of(batch, normalize=True))


def distribution(policy: Policy, batch: Batch) -> Distribution:
    """The policy's distributions over the actions of a batch."""
    return policy.evaluate(batch.observation, batch.action).distribution


def acting(policy: Policy, batch: Batch) -> Distribution:
    """The same as they now are: without gradient, every leaf [..., N, n]."""
    return distribution(policy, batch).detached(batch.log_prob.shape)


def direction(
    learner: Learner, loss: Callable[..., Loss], batch: Batch, steps: int, damping: float
) -> tuple[Tensor, float, Metrics]:
    """The direction x = (F + damping · I)⁻¹ g of the actor, g the ascent −∇loss; with x·(F + damping · I) x.

    The loss's metrics come third.

    Raises NumericalError where g is not finite.
    """
    from pistar import natural_gradient  # here, so that listings need no torch

    slope, metrics = learner.slope(loss, batch, "actor")
    actor = learner.policy.parts()["actor"]
    product = natural_gradient.fisher_product(
        learner.policy, actor, lambda policy: distribution(policy, batch), batch.weight
    )
    x = natural_gradient.conjugate_gradient(product, -slope, steps, damping)
    curvature = float(x.dot(product(x) + damping * x))
    return x, curvature, {name: float(value) for name, value in metrics.items()}


def length(bound: float, curvature: float) -> float:
    """√(2δ / xᵀF x), with which a step along x makes the KL divergence ``bound`` to second order; 0 without curvature."""
    return float((2 * bound / curvature) ** 0.5) if curvature > 0 else 0.0

"""A learning rate that follows the KL divergence: smaller where minibatches find the policy too far away, larger where too near.

The rule of rsl_rl (Schwarke et al. 2025, RSL-RL): by a factor of 1.5 once the KL is over twice, or under half, what is wanted,
after every minibatch and within bounds. It differs from a penalty by acting on the critic's steps too, and from stopping the epochs by
leaving no sample unused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pistar.learner import Learner

FACTOR, TOLERANCE = 1.5, 2.0
LOWEST, HIGHEST = 1e-5, 1e-2  # learning rates
ROUNDING = 1e-9  # nats: what a policy that has not moved yet may show


def adapt(learner: Learner, kl: float, wanted: float) -> None:
    """Move every part's learning rate by what a minibatch has seen of the KL divergence from the acting policy."""
    if kl > TOLERANCE * wanted:
        factor = 1 / FACTOR
    elif ROUNDING < kl < wanted / TOLERANCE:
        factor = FACTOR
    else:
        return
    for part, rate in learner.learning_rates().items():
        learner.set_learning_rate(min(max(rate * factor, LOWEST), HIGHEST), part)

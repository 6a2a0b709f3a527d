"""What actor-critics learn from: advantages by GAE(λ) and λ-returns, as every one of them takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pistar import estimators, objectives

if TYPE_CHECKING:
    from torch import Tensor

    from pistar.policy import Policy
    from pistar.rollout import Batch, Rollout


def estimate(policy: Policy, rollout: Rollout, discount: float, trace: float) -> Batch:
    """All steps of a rollout with their advantages, and with λ-returns as value targets."""
    value, next_value = rollout.values(policy)
    advantage = estimators.gae(
        rollout.reward, value, next_value, rollout.terminated, rollout.truncated, discount, trace
    )
    return rollout.batch(advantage, advantage + value)


def of(batch: Batch, normalize: bool) -> Tensor:
    """A batch's advantages as a loss takes them: as they are, or brought to mean 0 and deviation 1."""
    return objectives.standardize(batch.advantage, batch.weight) if normalize else batch.advantage

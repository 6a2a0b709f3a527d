"""Advantage actor-critic: one gradient step on each rollout, with the critic's advantage in the place of the return.

    maximise  E[log π(a|s) A] + β H[π] − c (V − V_target)²

The synchronous form of Mnih et al. (2016), arXiv:1602.01783, section 4, with the advantage by GAE(λ); λ = 1 gives their
n-step advantage. It differs from REINFORCE by bootstrapping, so that episodes need not end before learning, and from PPO
by using every sample once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pistar import bounds, closed_form, objectives
from pistar.algorithms import advantages
from pistar.algorithms.algorithm import Algorithm, AlgorithmState, Loss, Metrics
from pistar.algorithms.metrics import explained_variance
from pistar.ranges import Choices, Range, searched
from pistar.schedules import Schedule, constant

if TYPE_CHECKING:
    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.rollout import Batch, Rollout


@dataclass(frozen=True)
class A2C(Algorithm):
    """Synchronous advantage actor-critic."""

    summary: ClassVar[str] = "one step per short rollout with a critic's advantage"
    paper: ClassVar[str] = "Mnih et al. 2016, arXiv:1602.01783"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # The same 128 steps as 16 lanes of 8 hold; in long pieces the pendulum is learned on most seeds, in short ones on none.
        "continuous": {"training": {"lanes": 4, "horizon": 32, "learning_rate": {"from": 1e-3, "to": 0.0}}},
        "discrete": {
            "algorithm": {"entropy_weight": 0.01},
            "training": {"lanes": 16, "horizon": 8, "learning_rate": {"from": 2e-3, "to": 0.0}},
        },
    }
    training_ranges: ClassVar[Mapping[str, Range | None]] = {
        "horizon": Choices((4, 8, 16, 32, 64)),  # every step is used once: only short rollouts give many updates
    }

    discount: float = searched(0.99, 0.9, 0.999, scale="complement")  # γ: weight of the reward one step later
    trace: float = searched(0.95, 0.8, 1.0)  # λ of generalised advantage estimation
    entropy_weight: Schedule = searched(constant(0.0), 0.0, 0.02)  # β: reward for being undecided, nats
    value_weight: float = searched(0.5, 0.05, 2.0, scale="log")  # c: weight of the squared value error
    normalize_advantages: bool = searched(False, choices=(False, True))  # to mean 0 and deviation 1 over the rollout

    def __post_init__(self) -> None:
        bounds.between(0, 1, self, "discount", "trace")
        bounds.at_least(0, self, "value_weight")

    def estimate(self, policy: Policy, rollout: Rollout) -> Batch:
        """Advantages by GAE(λ) and λ-returns as value targets."""
        return advantages.estimate(policy, rollout, self.discount, self.trace)

    def form(self, entropy_weight: float) -> closed_form.ClosedForm:
        """``loss`` in numbers, for kernels."""
        return closed_form.ClosedForm(
            "score", entropy_weight, self.value_weight, normalize_advantages=self.normalize_advantages
        )

    @closed_form.has(form)
    def loss(self, policy: Policy, batch: Batch, entropy_weight: float) -> Loss:
        """The negated objective of the module's head."""
        now = policy.evaluate(batch.observation, batch.action)
        advantage = advantages.of(batch, self.normalize_advantages)
        climbed = objectives.score_function(now.log_prob, advantage, batch.weight)
        entropy = objectives.weighted_mean(now.entropy, batch.weight)
        error = objectives.squared_error(now.critic_value(), batch.target, batch.weight)
        loss = self.value_weight * error - climbed - entropy_weight * entropy
        return loss, {"score": climbed.detach(), "entropy": entropy.detach(), "value_error": error.detach()}

    def improve(  # type: ignore[override] # `experience` says which of the two it is
        self, learner: Learner, experience: Rollout, state: AlgorithmState, progress: float
    ) -> tuple[AlgorithmState, Metrics]:
        """One gradient step."""
        entropy_weight = self.entropy_weight.at(progress)
        batch = self.estimate(learner.policy, experience)
        metrics = learner.descend(partial(self.loss, entropy_weight=entropy_weight), batch)
        return state, {
            **{name: float(value) for name, value in metrics.items()},
            "explained_variance": explained_variance(batch),
        }

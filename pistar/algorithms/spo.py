"""SPO: PPO with a parabola in the place of the clip, which leads a ratio that went too far back again.

    maximise  E[r A − |A| (r − 1)² / 2ε] + β H[π] − c (V − V_target)²,    r = π(a|s) / π_old(a|s)

Xie, Zhang, Yang, Hutter & Xu (2025), Simple policy optimization, arXiv:2401.16025. Where PPO's clip stops paying, and leaves a
ratio that has left [1 − ε, 1 + ε] to the other samples, this objective has its maximum at the edge and falls beyond it.
Everything else is PPO's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pistar import bounds, objectives
from pistar.algorithms import advantages, epochs
from pistar.algorithms.algorithm import Algorithm, AlgorithmState, Loss, Metrics
from pistar.algorithms.metrics import explained_variance
from pistar.ranges import searched
from pistar.schedules import Schedule, constant

if TYPE_CHECKING:
    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.rollout import Batch, Rollout


@dataclass(frozen=True)
class SPO(Algorithm):
    """Simple policy optimisation."""

    summary: ClassVar[str] = "epochs of minibatches on a surrogate that brings ratios back"
    paper: ClassVar[str] = "Xie et al. 2025, arXiv:2401.16025"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "discrete": {
            "algorithm": {"epochs": 4, "minibatch": 256, "entropy_weight": 0.01, "normalize_advantages": True},
            "training": {"lanes": 8, "horizon": 128, "learning_rate": {"from": 1e-3, "to": 0.0}},
        },
    }

    discount: float = searched(0.99, 0.9, 0.999, scale="complement")  # γ: weight of the reward one step later
    trace: float = searched(0.95, 0.8, 1.0)  # λ of generalised advantage estimation
    clip: Schedule = searched(
        constant(0.2), 0.05, 0.5, scale="log"
    )  # ε: where the probability ratio pays most, as a distance from 1
    epochs: int = searched(10, 3, 20, scale="log")  # passes over each rollout
    minibatch: int = searched(64, choices=(32, 64, 128, 256, 512))  # samples in a minibatch
    entropy_weight: Schedule = searched(constant(0.0), 0.0, 0.02)  # β: reward for being undecided, nats
    value_weight: float = searched(0.25, 0.05, 2.0, scale="log")  # c: weight of the squared value error
    normalize_advantages: bool = searched(False, choices=(False, True))  # to mean 0 and deviation 1, per minibatch
    recompute_advantages: bool = True  # before every epoch, with the critic as it then is

    def __post_init__(self) -> None:
        bounds.between(0, 1, self, "discount", "trace")
        bounds.above(0, self, "clip")
        bounds.at_least(1, self, "epochs", "minibatch")
        bounds.at_least(0, self, "value_weight")

    def estimate(self, policy: Policy, rollout: Rollout) -> Batch:
        """Advantages by GAE(λ) and λ-returns as value targets."""
        return advantages.estimate(policy, rollout, self.discount, self.trace)

    def loss(self, policy: Policy, batch: Batch, clip: float, entropy_weight: float) -> Loss:
        """The objective of the module's head, negated."""
        now = policy.evaluate(batch.observation, batch.action)
        advantage = advantages.of(batch, self.normalize_advantages)
        surrogate = objectives.quadratic_surrogate(now.log_prob, batch.log_prob, advantage, clip, batch.weight)
        entropy = objectives.weighted_mean(now.entropy, batch.weight)
        error = objectives.squared_error(now.critic_value(), batch.target, batch.weight)
        loss = self.value_weight * error - surrogate - entropy_weight * entropy
        return loss, {
            "surrogate": surrogate.detach(),
            "entropy": entropy.detach(),
            "value_error": error.detach(),
            "kl": objectives.approximate_kl(now.log_prob.detach(), batch.log_prob, batch.weight),
            "clip_fraction": objectives.clip_fraction(now.log_prob.detach(), batch.log_prob, clip, batch.weight),
        }

    def improve(  # type: ignore[override] # `experience` says which of the two it is
        self, learner: Learner, experience: Rollout, state: AlgorithmState, progress: float
    ) -> tuple[AlgorithmState, Metrics]:
        """``epochs`` passes of minibatch steps."""
        clip, entropy_weight = self.clip.at(progress), self.entropy_weight.at(progress)
        again = partial(self.estimate, learner.policy, experience)
        batch = again()
        metrics = epochs.descend(
            learner,
            partial(self.loss, clip=clip, entropy_weight=entropy_weight),
            batch,
            epochs=self.epochs,
            minibatch=self.minibatch,
            anew=again if self.recompute_advantages else None,
        )
        return state, {**metrics, "explained_variance": explained_variance(batch), "clip": clip}

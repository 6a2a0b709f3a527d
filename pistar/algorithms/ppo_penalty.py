"""PPO with a KL penalty: epochs of minibatch ascent that pay for every step away, at a price that adapts.

    maximise  E[r A − κ KL(π_old ‖ π)] + β H[π] − c (V − V_target)²,    r = π(a|s) / π_old(a|s)

Schulman et al. (2017), arXiv:1707.06347, equation 8 and what follows it: after an iteration that moved the policy by more than
1.5 times the wanted KL, κ doubles; by less than a 1.5th, it halves. KL is exact, from the distributions themselves, and not
estimated from the actions taken. κ is remembered between iterations: it is state, in every checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pistar import bounds, objectives
from pistar.algorithms import advantages, epochs, natural_step
from pistar.algorithms.algorithm import Algorithm, AlgorithmState, Loss, Metrics
from pistar.algorithms.metrics import explained_variance
from pistar.ranges import searched
from pistar.schedules import Schedule, constant

if TYPE_CHECKING:
    from pistar.distributions import Distribution
    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.rollout import Batch, Rollout

FACTOR, TOLERANCE = 2.0, 1.5  # the paper's
LOWEST, HIGHEST = 1e-4, 1e4  # κ: a policy that stands still for long must not make its next step free


@dataclass(frozen=True)
class PPOPenalty(Algorithm):
    """Proximal policy optimisation with an adaptive KL penalty."""

    summary: ClassVar[str] = "epochs of minibatches with an adaptive price on the KL divergence"
    paper: ClassVar[str] = "Schulman et al. 2017, arXiv:1707.06347, section 4"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "discrete": {
            "algorithm": {"epochs": 4, "minibatch": 256, "entropy_weight": 0.01},
            "training": {"lanes": 8, "horizon": 128, "learning_rate": {"from": 1e-3, "to": 0.0}},
        },
    }

    discount: float = searched(0.99, 0.9, 0.999, scale="complement")  # γ: weight of the reward one step later
    trace: float = searched(0.95, 0.8, 1.0)  # λ of generalised advantage estimation
    wanted_kl: float = searched(0.01, 0.002, 0.1, scale="log")  # how far an iteration should move the policy, nats
    penalty: float = 1.0  # κ before the first iteration
    epochs: int = searched(10, 3, 20, scale="log")  # passes over each rollout
    minibatch: int = searched(64, choices=(32, 64, 128, 256, 512))  # samples in a minibatch
    entropy_weight: Schedule = searched(constant(0.0), 0.0, 0.02)  # β: reward for being undecided, nats
    value_weight: float = searched(0.25, 0.05, 2.0, scale="log")  # c: weight of the squared value error
    recompute_advantages: bool = True  # before every epoch, with the critic as it then is

    def __post_init__(self) -> None:
        bounds.between(0, 1, self, "discount", "trace")
        bounds.above(0, self, "wanted_kl", "penalty")
        bounds.at_least(1, self, "epochs", "minibatch")
        bounds.at_least(0, self, "value_weight")

    def init(self, policy: Policy, lanes: int) -> AlgorithmState:
        """κ."""
        return {"penalty": self.penalty}

    def estimate(self, policy: Policy, rollout: Rollout, old: Distribution | None = None) -> Batch:
        """Advantages by GAE(λ) and λ-returns as value targets, beside the acting policy's distributions ``old``."""
        return dataclasses.replace(advantages.estimate(policy, rollout, self.discount, self.trace), old=old)

    def loss(self, policy: Policy, batch: Batch, penalty: float, entropy_weight: float) -> Loss:
        """Equation 8, negated. κ is a price in units of the surrogate, which standardised advantages give a scale."""
        assert batch.old is not None
        now = policy.evaluate(batch.observation, batch.action)
        advantage = advantages.of(batch, normalize=True)
        surrogate = objectives.importance_weighted(now.log_prob, batch.log_prob, advantage, batch.weight)
        kl = objectives.weighted_mean(batch.old.kl(now.distribution), batch.weight)
        entropy = objectives.weighted_mean(now.entropy, batch.weight)
        error = objectives.squared_error(now.critic_value(), batch.target, batch.weight)
        loss = penalty * kl + self.value_weight * error - surrogate - entropy_weight * entropy
        return loss, {
            "surrogate": surrogate.detach(),
            "entropy": entropy.detach(),
            "value_error": error.detach(),
        }

    def improve(  # type: ignore[override] # `experience` says which of the two it is
        self, learner: Learner, experience: Rollout, state: AlgorithmState, progress: float
    ) -> tuple[AlgorithmState, Metrics]:
        """``epochs`` passes of minibatch steps, then a new κ."""
        penalty, policy = float(state["penalty"]), learner.policy
        batch = self.estimate(policy, experience)
        old = natural_step.acting(policy, batch)
        batch = dataclasses.replace(batch, old=old)
        metrics = epochs.descend(
            learner,
            partial(self.loss, penalty=penalty, entropy_weight=self.entropy_weight.at(progress)),
            batch,
            epochs=self.epochs,
            minibatch=self.minibatch,
            anew=partial(self.estimate, policy, experience, old) if self.recompute_advantages else None,
        )
        kl = float(objectives.weighted_mean(old.kl(natural_step.acting(policy, batch)), batch.weight))
        report = {**metrics, "kl": kl, "penalty": penalty, "explained_variance": explained_variance(batch)}
        return {"penalty": self.adapted(penalty, kl)}, report

    def adapted(self, penalty: float, kl: float) -> float:
        """κ for the next iteration, after one that moved the policy by ``kl``."""
        if kl > TOLERANCE * self.wanted_kl:
            return min(penalty * FACTOR, HIGHEST)
        return max(penalty / FACTOR, LOWEST) if kl < self.wanted_kl / TOLERANCE else penalty

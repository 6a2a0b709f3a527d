"""IMPALA: an actor-critic that corrects, by V-trace, for experience of a policy that lags behind.

    maximise  E_μ[log π(a|s) Â] + β H[π] − c (V − v)²,    Â = ρ (r + γ v' − V),  ρ = min(ρ̄, π(a|s) / μ(a|s))

with the V-trace targets v of `estimators.v_trace`, both held fixed. Espeholt et al. (2018), arXiv:1802.01561, equation 1
and section 4.2. It differs from A2C by those ratios alone, which let the acting policy μ be some updates old: with
``training.lag`` (its recipes: 1) a rollout is collected while the one before it is learned from. Every sample is used once.

The paper's actors take the newest parameters at hand; here the lag is fixed, so that a run can be repeated. Left out: its
distribution over machines, and the clipping of rewards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pistar import bounds, closed_form, estimators, objectives
from pistar.algorithms import advantages, epochs
from pistar.algorithms.algorithm import Algorithm, AlgorithmState, Loss, Metrics
from pistar.ranges import searched
from pistar.schedules import Schedule, constant

if TYPE_CHECKING:
    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.rollout import Batch, Rollout


@dataclass(frozen=True)
class IMPALA(Algorithm):
    """Importance-weighted actor-critic with V-trace."""

    summary: ClassVar[str] = "V-trace corrects for rollouts of an older policy, collected while learning"
    paper: ClassVar[str] = "Espeholt et al. 2018, arXiv:1802.01561"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "continuous": {
            "algorithm": {"trace": 0.95},
            "training": {"lag": 1, "lanes": 8, "horizon": 32, "learning_rate": {"from": 2e-3, "to": 0.0}},
        },
        "discrete": {
            "algorithm": {"minibatch": 256, "entropy_weight": 0.01},
            "training": {"lag": 1, "lanes": 16, "horizon": 64, "learning_rate": {"from": 2e-3, "to": 0.0}},
        },
    }

    discount: float = searched(0.99, 0.9, 0.999, scale="complement")  # γ: weight of the reward one step later
    trace: float = searched(1.0, 0.8, 1.0)  # λ: share of the correction that is carried from step to step
    ratio_bound: float = 1.0  # ρ̄: largest ratio that a step's own error counts with
    trace_bound: float = 1.0  # c̄: largest ratio that later errors are carried with
    minibatch: int | None = None  # samples of one gradient step, in one pass; none: the whole rollout
    entropy_weight: Schedule = searched(constant(0.0), 0.0, 0.02)  # β: reward for being undecided, nats
    value_weight: float = searched(0.5, 0.05, 2.0, scale="log")  # c: weight of the squared value error
    normalize_advantages: bool = searched(False, choices=(False, True))  # to mean 0 and deviation 1, per gradient step

    def __post_init__(self) -> None:
        bounds.between(0, 1, self, "discount", "trace")
        bounds.at_least(1, self, "minibatch")
        bounds.at_least(0, self, "value_weight")
        bounds.above(0, self, "ratio_bound", "trace_bound")

    def estimate(self, policy: Policy, rollout: Rollout) -> tuple[Batch, Metrics]:
        """V-trace's advantages and targets under ``policy`` as it is, and how far it is from the one that acted."""
        value, next_value, log_prob = rollout.values_and_log_probs(policy)
        ratio = (log_prob - rollout.log_prob).exp()
        ends = (rollout.terminated, rollout.truncated)
        target, advantage = estimators.v_trace(
            ratio,
            rollout.reward,
            value,
            next_value,
            *ends,
            self.discount,
            self.trace,
            self.ratio_bound,
            self.trace_bound,
        )
        return rollout.batch(advantage, target), {
            "explained_variance": float(objectives.explained_variance(value, target, rollout.weight)),
            "lag_kl": float(objectives.approximate_kl(log_prob, rollout.log_prob, rollout.weight)),
        }

    def form(self, entropy_weight: float) -> closed_form.ClosedForm:
        """``loss`` in numbers, for kernels."""
        return closed_form.ClosedForm(
            "score", entropy_weight, self.value_weight, normalize_advantages=self.normalize_advantages
        )

    @closed_form.has(form)
    def loss(self, policy: Policy, batch: Batch, entropy_weight: float) -> Loss:
        """The negated objective of the module's head; the ratios are in the advantages."""
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
        """One pass of gradient steps."""
        loss = partial(self.loss, entropy_weight=self.entropy_weight.at(progress))
        batch, seen = self.estimate(learner.policy, experience)
        if self.minibatch is None:
            found = {name: float(value) for name, value in learner.descend(loss, batch).items()}
        else:
            found = epochs.descend(learner, loss, batch, epochs=1, minibatch=self.minibatch)
        return state, {**found, **seen}

"""TRPO: the largest natural step that keeps the mean KL divergence from the acting policy within a bound.

    maximise  E[r A]  subject to  E_s[KL(π_old(·|s) ‖ π(·|s))] <= δ,    r = π(a|s) / π_old(a|s)

Schulman, Levine, Moritz, Jordan & Abbeel (2015), arXiv:1502.05477, equation 14. The direction F⁻¹ g and the length
√(2δ / xᵀF x) solve it to first and second order (appendix C); a line search then shortens the step until the exact mean KL over
the whole batch is at most δ and the surrogate has risen. It differs from NPG by that search, which makes δ a bound and not a
hope, and from PPO by moving the actor once an iteration. The critic is learned by minibatch steps of its own, after the actor:
advantages must not come from a critic that has seen their rewards. Left out: F from a part of the batch, the vine method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pistar import bounds, objectives
from pistar.algorithms import advantages, critic, natural_step
from pistar.algorithms.algorithm import Algorithm, AlgorithmState, Loss, Metrics
from pistar.algorithms.metrics import explained_variance
from pistar.ranges import searched
from pistar.schedules import Schedule, constant

if TYPE_CHECKING:
    from torch import Tensor

    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.rollout import Batch, Rollout


@dataclass(frozen=True)
class TRPO(Algorithm):
    """Trust region policy optimisation."""

    summary: ClassVar[str] = "one natural step a rollout, within an exact bound on the KL divergence"
    paper: ClassVar[str] = "Schulman et al. 2015, arXiv:1502.05477"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # Long steps at first leave little of the noise that makes Hopper fall; long ones at the end only undo each other.
        "continuous": {
            "algorithm": {"max_kl": {"from": 0.04, "to": 0.001}},
            "training": {"learning_rate": 1e-3},
        },
        "discrete": {"training": {"lanes": 8, "horizon": 128, "learning_rate": 1e-3}},
    }

    discount: float = searched(0.99, 0.9, 0.999, scale="complement")  # γ: weight of the reward one step later
    trace: float = searched(0.95, 0.8, 1.0)  # λ of generalised advantage estimation
    max_kl: Schedule = searched(
        constant(0.01), 0.001, 0.1, scale="log"
    )  # δ: bound on the mean KL divergence from the acting policy, nats
    damping: float = searched(
        0.1, 0.01, 1.0, scale="log"
    )  # added to the diagonal of F, which has no more rank than the batch gives it
    conjugate_steps: int = 10  # of conjugate gradients, each one product with F
    line_search: int = 10  # lengths that are tried before the actor stays where it is
    shrink: float = 0.8  # from one length that is tried to the next
    epochs: int = searched(10, 3, 20, scale="log")  # passes of the critic over each rollout
    minibatch: int = searched(128, choices=(32, 64, 128, 256, 512))  # samples in a minibatch of the critic

    def __post_init__(self) -> None:
        bounds.between(0, 1, self, "discount", "trace")
        bounds.above(0, self, "max_kl", "shrink")
        bounds.at_least(0, self, "damping", "epochs")
        bounds.at_least(1, self, "conjugate_steps", "line_search", "minibatch")
        bounds.between(0, 1, self, "shrink")

    def estimate(self, policy: Policy, rollout: Rollout) -> Batch:
        """Advantages by GAE(λ) and λ-returns as value targets."""
        return advantages.estimate(policy, rollout, self.discount, self.trace)

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """The surrogate of equation 14, negated."""
        now = policy.evaluate(batch.observation, batch.action)
        surrogate = objectives.importance_weighted(now.log_prob, batch.log_prob, batch.advantage, batch.weight)
        entropy = objectives.weighted_mean(now.entropy, batch.weight)
        return -surrogate, {"surrogate": surrogate.detach(), "entropy": entropy.detach()}

    def improve(  # type: ignore[override] # `experience` says which of the two it is
        self, learner: Learner, experience: Rollout, state: AlgorithmState, progress: float
    ) -> tuple[AlgorithmState, Metrics]:
        """One step of the actor, then ``epochs`` passes of the critic."""
        batch = self.estimate(learner.policy, experience)
        explained, batch = explained_variance(batch), natural_step.standardized(batch)
        x, curvature, before = natural_step.direction(learner, self.loss, batch, self.conjugate_steps, self.damping)
        bound = self.max_kl.at(progress)
        step = natural_step.length(bound, curvature) * x
        moved = self.search(learner, batch, step, before["surrogate"], bound)
        fitted = critic.fit(learner, batch, self.epochs, self.minibatch)
        return state, {**before, **moved, **fitted, "explained_variance": explained}

    def search(self, learner: Learner, batch: Batch, step: Tensor, before: float, bound: float) -> Metrics:
        """Move the actor along ``step`` as far as is allowed; what that made of KL and surrogate."""
        from pistar import natural_gradient  # here, so that listings need no torch

        start = learner.vector("actor").clone()
        old = natural_step.acting(learner.policy, batch)
        found: Metrics = {"kl": 0.0, "improvement": 0.0}

        def accept(fraction: float) -> bool:
            learner.set("actor", start + fraction * step)
            now = natural_step.acting(learner.policy, batch)
            log_prob = now.log_prob(batch.action)
            surrogate = objectives.importance_weighted(log_prob, batch.log_prob, batch.advantage, batch.weight)
            found["improvement"] = float(surrogate) - before
            found["kl"] = natural_gradient.mean_kl(old, now, batch.weight)
            return found["kl"] <= bound and found["improvement"] > 0

        fraction = natural_gradient.backtrack(accept, self.line_search, self.shrink)
        if fraction == 0.0:
            learner.set("actor", start)
            found = {"kl": 0.0, "improvement": 0.0}
        return {**found, "step": fraction}

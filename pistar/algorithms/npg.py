"""Natural policy gradient: the step that changes the *policy* least for what it gains, whatever its parameters are.

    θ ← θ + η F⁻¹ ∇J(θ),    F = E_s E_a[∇log π(a|s) ∇log π(a|s)ᵀ]

Kakade (2001), A natural policy gradient, sections 2 and 3. With tabular softmax F⁻¹ ∇J is the advantage A(s, a) up to a
constant in each state (Kakade 2002; Agarwal et al. 2021, arXiv:1908.00261). η is fixed, or √(2δ / gᵀF⁻¹g), which
makes the KL divergence δ to second order (Peters & Schaal 2008). It differs from TRPO by taking that step as it is, unchecked,
and from A2C by the metric alone.
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
    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.rollout import Batch, Rollout


@dataclass(frozen=True)
class NPG(Algorithm):
    """Natural policy gradient with a critic."""

    summary: ClassVar[str] = "one natural step a rollout, of a length that the Fisher matrix gives"
    paper: ClassVar[str] = "Kakade 2001, A natural policy gradient"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "continuous": {"training": {"learning_rate": 1e-3}},
        "discrete": {"training": {"lanes": 8, "horizon": 128, "learning_rate": 1e-3}},
    }

    discount: float = searched(0.99, 0.9, 0.999, scale="complement")  # γ: weight of the reward one step later
    trace: float = searched(0.95, 0.8, 1.0)  # λ of generalised advantage estimation
    step: Schedule | None = None  # η: fixed length of the step along F⁻¹ g; none: as max_kl has it
    max_kl: Schedule = searched(
        constant(0.01), 0.001, 0.1, scale="log"
    )  # δ: mean KL divergence of a step as F foresees it, nats; where step is none
    damping: float = searched(
        0.1, 0.01, 1.0, scale="log"
    )  # added to the diagonal of F, which has no more rank than the batch gives it
    conjugate_steps: int = 10  # of conjugate gradients, each one product with F
    epochs: int = searched(10, 3, 20, scale="log")  # passes of the critic over each rollout
    minibatch: int = searched(128, choices=(32, 64, 128, 256, 512))  # samples in a minibatch of the critic

    def __post_init__(self) -> None:
        bounds.between(0, 1, self, "discount", "trace")
        bounds.above(0, self, "max_kl")
        bounds.at_least(0, self, "step", "damping", "epochs")
        bounds.at_least(1, self, "conjugate_steps", "minibatch")

    def estimate(self, policy: Policy, rollout: Rollout) -> Batch:
        """Advantages by GAE(λ) and λ-returns as value targets."""
        return advantages.estimate(policy, rollout, self.discount, self.trace)

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """−E[log π A], whose gradient is −g."""
        now = policy.evaluate(batch.observation, batch.action)
        score = objectives.score_function(now.log_prob, batch.advantage, batch.weight)
        entropy = objectives.weighted_mean(now.entropy, batch.weight)
        return -score, {"score": score.detach(), "entropy": entropy.detach()}

    def improve(  # type: ignore[override] # `experience` says which of the two it is
        self, learner: Learner, experience: Rollout, state: AlgorithmState, progress: float
    ) -> tuple[AlgorithmState, Metrics]:
        """One step of the actor, then ``epochs`` passes of the critic."""
        from pistar import natural_gradient  # here, so that listings need no torch

        batch = self.estimate(learner.policy, experience)
        explained, batch = explained_variance(batch), natural_step.standardized(batch)
        x, curvature, metrics = natural_step.direction(learner, self.loss, batch, self.conjugate_steps, self.damping)
        foreseen = natural_step.length(self.max_kl.at(progress), curvature)
        length = foreseen if self.step is None else self.step.at(progress)
        old = natural_step.acting(learner.policy, batch)
        learner.set("actor", learner.vector("actor") + length * x)
        kl = natural_gradient.mean_kl(old, natural_step.acting(learner.policy, batch), batch.weight)
        fitted = critic.fit(learner, batch, self.epochs, self.minibatch)
        return state, {**metrics, **fitted, "kl": kl, "step": length, "explained_variance": explained}

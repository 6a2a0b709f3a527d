"""PPO: several epochs of minibatch ascent on a surrogate that stops paying once the policy has moved far enough.

    maximise  E[min(r A, clip(r, 1 − ε, 1 + ε) A)] + β H[π] − c (V − V_target)²,    r = π(a|s) / π_old(a|s)

Schulman, Wolski, Dhariwal, Radford & Klimov (2017), arXiv:1707.06347, equations 7 and 9. It differs from A2C by reusing
each rollout for several epochs, which the clip makes safe. Advantages can be computed anew before every epoch with the
critic as it then is (Andrychowicz et al. 2021, arXiv:2006.05990, section 3.5). The learning rate can follow the KL
divergence instead of a schedule (``wanted_kl``). Left out, for want of a measured gain: the clipping of the value function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pistar import bounds, closed_form, objectives
from pistar.algorithms import advantages
from pistar.algorithms.adaptive_rate import adapt
from pistar.algorithms.algorithm import Algorithm, AlgorithmState, Loss, Metrics
from pistar.algorithms.metrics import MetricsMean, explained_variance, ratio_error
from pistar.ranges import searched
from pistar.schedules import Schedule, constant

if TYPE_CHECKING:
    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.rollout import Batch, Rollout


@dataclass(frozen=True)
class PPO(Algorithm):
    """Proximal policy optimisation with a clipped surrogate."""

    summary: ClassVar[str] = "epochs of minibatches on a clipped surrogate; the default"
    paper: ClassVar[str] = "Schulman et al. 2017, arXiv:1707.06347"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # Ten epochs over some hundred observations can move the policy further than the clip answers for.
        "continuous": {"algorithm": {"max_kl": 0.03}},
        "discrete": {
            "algorithm": {"epochs": 4, "minibatch": 256, "entropy_weight": 0.01, "normalize_advantages": True},
            "training": {"lanes": 8, "horizon": 128, "learning_rate": {"from": 1e-3, "to": 0.0}},
        },
    }

    discount: float = searched(0.99, 0.9, 0.999, scale="complement")  # γ: weight of the reward one step later
    trace: float = searched(0.95, 0.8, 1.0)  # λ of generalised advantage estimation
    clip: Schedule = searched(constant(0.2), 0.05, 0.5, scale="log")  # ε: how far the probability ratio may pay
    epochs: int = searched(10, 3, 20, scale="log")  # passes over each rollout
    minibatch: int = searched(64, choices=(32, 64, 128, 256, 512))  # samples in a minibatch
    entropy_weight: Schedule = searched(constant(0.0), 0.0, 0.02)  # β: reward for being undecided, nats
    value_weight: float = searched(0.25, 0.05, 2.0, scale="log")  # c: weight of the squared value error
    normalize_advantages: bool = searched(False, choices=(False, True))  # to mean 0 and deviation 1, per minibatch
    recompute_advantages: bool = True  # before every epoch, with the critic as it then is
    max_kl: float | None = None  # stop the epochs once the mean KL to the acting policy exceeds this, nats
    wanted_kl: float | None = None  # move the learning rate from its start by minibatches' KL, towards this, nats

    def __post_init__(self) -> None:
        bounds.between(0, 1, self, "discount", "trace")
        bounds.at_least(1, self, "epochs", "minibatch")
        bounds.at_least(0, self, "clip", "value_weight", "max_kl")
        bounds.above(0, self, "wanted_kl")

    def estimate(self, policy: Policy, rollout: Rollout) -> Batch:
        """Advantages by GAE(λ) and λ-returns as value targets."""
        return advantages.estimate(policy, rollout, self.discount, self.trace)

    def form(self, clip: float, entropy_weight: float) -> closed_form.ClosedForm:
        """``loss`` in numbers, for kernels."""
        return closed_form.ClosedForm(
            "clipped", entropy_weight, self.value_weight, clip, normalize_advantages=self.normalize_advantages
        )

    @closed_form.has(form)
    def loss(self, policy: Policy, batch: Batch, clip: float, entropy_weight: float) -> Loss:
        """Equation 9, negated."""
        now = policy.evaluate(batch.observation, batch.action)
        advantage = advantages.of(batch, self.normalize_advantages)
        surrogate = objectives.clipped_surrogate(now.log_prob, batch.log_prob, advantage, clip, batch.weight)
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
        loss = partial(self.loss, clip=clip, entropy_weight=entropy_weight)
        metrics = MetricsMean()
        for part, rate in state.get("learning_rate", {}).items():  # empty but where wanted_kl moves it
            learner.set_learning_rate(rate, part)
        batch = before = self.estimate(learner.policy, experience)
        for epoch in range(self.epochs):
            if epoch > 0 and self.recompute_advantages:
                batch = self.estimate(learner.policy, experience)
            kl = MetricsMean()
            for minibatch in batch.minibatches(self.minibatch, learner.generator):
                outcome = learner.descend(loss, minibatch)
                metrics.add(outcome)
                kl.add({"kl": outcome["kl"]})
                if self.wanted_kl is not None:
                    adapt(learner, float(outcome["kl"]), self.wanted_kl)
            if self.max_kl is not None and learner.stop(kl.mean("kl") > self.max_kl):
                break
        passes = metrics.steps() / kl.steps()
        explained = explained_variance(before)
        report = {**metrics.result(), "explained_variance": explained, "epochs": passes, "clip": clip}
        report["first_ratio_error"] = ratio_error(metrics.first["kl"])
        if self.wanted_kl is None:
            return state, report
        rates = learner.learning_rates()
        return {**state, "learning_rate": rates}, {**report, "learning_rate": rates["actor"]}

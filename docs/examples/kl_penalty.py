"""PPO with a penalty in the place of the clip, as an algorithm of your own outside the package.

    maximise  E[r A] − κ KL(π_old ‖ π) − c (V − V_target)²,    r = π(a|s) / π_old(a|s)

Schulman et al. (2017), arXiv:1707.06347, equation 8: κ doubles when an iteration moved the policy by more than 1.5 times
the wanted KL, and halves when by less than a 1.5th. κ is remembered between iterations, so it is *state*: in every
checkpoint, and bit for bit the same after a resume.

    pistar train cartpole --algorithm kl_penalty:KLPenalty --algorithm.wanted-kl 0.02
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pistar import bounds, estimators, objectives
from pistar.algorithms.algorithm import Algorithm, AlgorithmState, Loss, Metrics
from pistar.algorithms.metrics import MetricsMean
from pistar.ranges import searched

if TYPE_CHECKING:
    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.rollout import Batch, Rollout


@dataclass(frozen=True)
class KLPenalty(Algorithm):
    """Proximal policy optimisation with an adaptive KL penalty."""

    summary: ClassVar[str] = "epochs of minibatches with an adaptive KL penalty"
    paper: ClassVar[str] = "Schulman et al. 2017, arXiv:1707.06347"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {  # by the task's kind of actions
        "discrete": {"training": {"lanes": 8, "horizon": 128, "learning_rate": {"from": 1e-3, "to": 0.0}}},
    }

    discount: float = 0.99  # γ: weight of the reward one step later
    trace: float = 0.95  # λ of generalised advantage estimation
    wanted_kl: float = searched(0.01, 0.002, 0.1, scale="log")  # how far an iteration should move the policy, nats
    penalty: float = 1.0  # κ before the first iteration
    epochs: int = 4  # passes over each rollout
    minibatch: int = 256  # samples in a minibatch
    value_weight: float = 0.25  # c: weight of the squared value error

    def __post_init__(self) -> None:
        bounds.between(0, 1, self, "discount", "trace")
        bounds.above(0, self, "wanted_kl", "penalty")
        bounds.at_least(1, self, "epochs", "minibatch")
        bounds.at_least(0, self, "value_weight")

    def init(self, policy: Policy, lanes: int) -> AlgorithmState:
        """κ."""
        return {"penalty": self.penalty}

    def estimate(self, policy: Policy, rollout: Rollout) -> Batch:
        """Advantages by GAE(λ), brought to mean 0 and deviation 1, and λ-returns as value targets."""
        value, after = rollout.values(policy)
        ends = (rollout.terminated, rollout.truncated)
        advantage = estimators.gae(rollout.reward, value, after, *ends, self.discount, self.trace)
        return rollout.batch(objectives.standardize(advantage, rollout.weight), advantage + value)

    def loss(self, policy: Policy, batch: Batch, penalty: float) -> Loss:
        """The objective of the module's head, negated."""
        now = policy.evaluate(batch.observation, batch.action)
        climbed = objectives.importance_weighted(now.log_prob, batch.log_prob, batch.advantage, batch.weight)
        moved = now.log_prob - batch.log_prob
        kl = objectives.weighted_mean(moved.expm1() - moved, batch.weight)  # differentiable, never negative
        error = objectives.squared_error(now.critic_value(), batch.target, batch.weight)
        loss = penalty * kl + self.value_weight * error - climbed
        return loss, {"surrogate": climbed.detach(), "kl": kl.detach(), "value_error": error.detach()}

    def improve(  # type: ignore[override] # `experience` is a Rollout, as the class variable of that name says
        self, learner: Learner, experience: Rollout, state: AlgorithmState, progress: float
    ) -> tuple[AlgorithmState, Metrics]:
        """``epochs`` passes of minibatch steps, then a new κ."""
        penalty, metrics = float(state["penalty"]), MetricsMean()
        batch = self.estimate(learner.policy, experience)
        for _ in range(self.epochs):
            last = MetricsMean()
            for minibatch in batch.minibatches(self.minibatch, learner.generator):
                outcome = learner.descend(lambda policy, steps: self.loss(policy, steps, penalty), minibatch)
                metrics.add(outcome)
                last.add({"kl": outcome["kl"]})
        moved = last.result()["kl"]
        if moved > 1.5 * self.wanted_kl:
            penalty *= 2.0
        elif moved < self.wanted_kl / 1.5:
            penalty /= 2.0
        return {"penalty": penalty}, {**metrics.result(), "penalty": penalty}

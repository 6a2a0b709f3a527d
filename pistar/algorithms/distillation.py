"""Distillation: a student learns from a teacher what to do where its own actions lead it.

    minimise  E_{s ~ student}[KL(π_teacher(·|s) ‖ π(·|s))] + c E[(V − V_target)²]

Rusu et al. (2015), arXiv:1511.06295, distil by that divergence; Czarnecki et al. (2019), arXiv:1902.02186, compare whose states
it is taken on, and this is their on-policy form: the student acts, as in DAgger (Ross, Gordon & Bagnell 2011), so that it is
told how to come back from its own mistakes. The teacher may see more, such as entries of the observation that no
sensor gives later, and be of another architecture. It differs from cloning (`pistar.cloning`) by a teacher that answers on
every state, and from the other algorithms by learning nothing from rewards, but for a critic that serves whoever goes on
from the student.

Left out: that actions lead to states, which the gradient ignores as DAgger's does; a mixture of teacher and student at the
start; rewards beside the divergence (kickstarting).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pistar import bounds, objectives
from pistar.algorithms import advantages, epochs
from pistar.algorithms.algorithm import Algorithm, AlgorithmState, Loss, Metrics
from pistar.errors import UsageError

if TYPE_CHECKING:
    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.rollout import Batch, Rollout


@dataclass(frozen=True)
class Distillation(Algorithm):
    """On-policy distillation of a teacher's policy file."""

    summary: ClassVar[str] = "a student learns what a teacher would do where the student goes"
    paper: ClassVar[str] = "Czarnecki et al. 2019, arXiv:1902.02186; Rusu et al. 2015, arXiv:1511.06295"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "discrete": {"training": {"lanes": 8, "learning_rate": {"from": 1e-3, "to": 0.0}}},
        "continuous": {"training": {"learning_rate": {"from": 1e-3, "to": 0.0}}},
    }

    teacher: str | None = None  # run or policy file to learn from; there is no default
    trust: str | None = None  # module:Class of code of your own that the teacher's file may use
    epochs: int = 4  # passes over each rollout
    minibatch: int = 256  # samples in a minibatch
    value_weight: float = 0.25  # c: weight of the squared value error, where the student has a critic
    discount: float = 0.99  # γ: weight of the reward one step later, for the critic
    trace: float = 0.95  # λ of the critic's targets

    def __post_init__(self) -> None:
        bounds.between(0, 1, self, "discount", "trace")
        bounds.at_least(1, self, "epochs", "minibatch")
        bounds.at_least(0, self, "value_weight")

    def init(self, policy: Policy, lanes: int) -> AlgorithmState:
        """The teacher's file as it now is, which checkpoints hold from here on. Raises UsageError where it cannot teach."""
        from pistar import teachers  # imports torch

        if self.teacher is None:
            raise UsageError("distillation needs a teacher: --distillation.teacher RUN, or a policy file")
        return {"teacher": teachers.contents(self.teacher, self.trust, policy)}

    def estimate(self, policy: Policy, rollout: Rollout) -> Batch:
        """λ-returns as value targets, where there is a critic."""
        if "critic" not in policy.parts():
            return rollout.batch(rollout.reward, rollout.reward)
        return advantages.estimate(policy, rollout, self.discount, self.trace)

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """The divergence from the teacher's distributions in ``batch.old``, and the critic's error."""
        assert batch.old is not None
        now = policy.evaluate(batch.observation, batch.action)
        kl = objectives.weighted_mean(batch.old.kl(now.distribution), batch.weight)
        entropy = objectives.weighted_mean(now.entropy, batch.weight)
        found = {"teacher_kl": kl.detach(), "entropy": entropy.detach()}
        if now.value is None:
            return kl, found
        error = objectives.squared_error(now.value, batch.target, batch.weight)
        return kl + self.value_weight * error, {**found, "value_error": error.detach()}

    def improve(  # type: ignore[override] # `experience` says which of the two it is
        self, learner: Learner, experience: Rollout, state: AlgorithmState, progress: float
    ) -> tuple[AlgorithmState, Metrics]:
        """``epochs`` passes of minibatch steps towards what the teacher would have done."""
        from pistar.teachers import Teacher  # imports torch

        teacher = Teacher(state["teacher"], self.trust, str(self.teacher))
        taught, memory = teacher.along(experience, state.get("memory"))
        batch = dataclasses.replace(self.estimate(learner.policy, experience), old=experience.arranged(taught))
        metrics = epochs.descend(learner, partial(self.loss), batch, epochs=self.epochs, minibatch=self.minibatch)
        kept = {"teacher": state["teacher"]}
        return (kept if memory is None else {**kept, "memory": memory}), metrics

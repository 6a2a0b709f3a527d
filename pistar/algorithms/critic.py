"""A critic that is learned by itself: minibatch steps towards its targets, while the actor stands still."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pistar import closed_form, objectives
from pistar.algorithms import epochs

if TYPE_CHECKING:
    from pistar.algorithms.algorithm import Loss, Metrics
    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.rollout import Batch


@dataclass(frozen=True)
class Regression:
    """The squared error of V(s), in torch and in numbers."""

    def form(self) -> closed_form.ClosedForm:
        """``loss`` in numbers, for kernels."""
        return closed_form.ClosedForm("none", entropy_weight=0.0, value_weight=1.0)

    @closed_form.has(form)
    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """E[(V − V_target)²]."""
        error = objectives.squared_error(policy.value(batch.observation), batch.target, batch.weight)
        return error, {"value_error": error.detach()}


def fit(learner: Learner, batch: Batch, passes: int, minibatch: int) -> Metrics:
    """Gradient steps of the critic alone."""
    loss = partial(Regression().loss)
    return epochs.descend(learner, loss, batch, epochs=passes, minibatch=minibatch, parts=("critic",))

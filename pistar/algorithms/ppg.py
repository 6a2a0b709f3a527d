"""Phasic policy gradient: phases of PPO, and after each a distillation of the values into the policy's own features.

    policy phase, N_π iterations:  maximise  E[min(r A, clip(r, 1 − ε, 1 + ε) A)] + β H[π] − c (V − V_target)²
    auxiliary phase, E_aux epochs: minimise  c E[(V_π − V_target)²] + β_clone E[KL(π_old ‖ π)] + c E[(V − V_target)²]

Cobbe, Hilton, Klimov & Schulman (2020), arXiv:2009.04416, section 2 and algorithm 1, c = ½. V is the critic, a network of
its own; V_π an auxiliary value on the actor's features (`pistar.auxiliary`), π_old the policy as the auxiliary phase finds
it, V_target those of the policy phase. It differs from PPO by that second phase, where values shape the policy's features
while the KL term keeps its actions, and by learning values from each sample many times more than the policy.

Left out: different numbers of epochs for policy and critic in the policy phase (the paper has one of each), and its
variant with one network.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pistar import bounds, objectives
from pistar.algorithms import epochs
from pistar.algorithms.algorithm import Algorithm, AlgorithmState, Loss, Metrics
from pistar.algorithms.metrics import explained_variance
from pistar.algorithms.ppo import PPO
from pistar.errors import UsageError
from pistar.ranges import searched
from pistar.schedules import Schedule, constant

if TYPE_CHECKING:
    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.rollout import Batch, Rollout


@dataclass(frozen=True)
class PPG(Algorithm):
    """Phasic policy gradient with a clipped surrogate."""

    summary: ClassVar[str] = "PPO, with phases that distil values into the policy's features"
    paper: ClassVar[str] = "Cobbe et al. 2020, arXiv:2009.04416"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "discrete": {
            "algorithm": {"entropy_weight": 0.01, "normalize_advantages": True},
            "training": {"lanes": 8, "horizon": 128, "learning_rate": {"from": 1e-3, "to": 0.0}},
        },
    }

    discount: float = searched(0.99, 0.9, 0.999, scale="complement")  # γ: weight of the reward one step later
    trace: float = searched(0.95, 0.8, 1.0)  # λ of generalised advantage estimation
    clip: Schedule = searched(constant(0.2), 0.05, 0.5, scale="log")  # ε: how far the probability ratio may pay
    epochs: int = searched(1, choices=(1, 2, 4))  # passes over each rollout in the policy phase
    minibatch: int = searched(64, choices=(32, 64, 128, 256, 512))  # samples in a minibatch of the policy phase
    entropy_weight: Schedule = searched(constant(0.0), 0.0, 0.02)  # β: reward for being undecided, nats
    value_weight: float = searched(0.5, 0.05, 2.0, scale="log")  # c: weight of each squared value error
    normalize_advantages: bool = searched(False, choices=(False, True))  # to mean 0 and deviation 1, per minibatch
    policy_iterations: int = searched(32, choices=(4, 8, 16, 32))  # N_π: iterations of a policy phase
    auxiliary_epochs: int = searched(6, 2, 10)  # E_aux: passes over the phase's steps in the auxiliary phase
    auxiliary_minibatch: int = 256  # samples in a minibatch of the auxiliary phase
    clone_weight: float = searched(
        1.0, 0.1, 10.0, scale="log"
    )  # β_clone: weight of the mean KL that keeps the policy, per nat

    def __post_init__(self) -> None:
        bounds.between(0, 1, self, "discount", "trace")
        bounds.at_least(1, self, "epochs", "minibatch", "policy_iterations", "auxiliary_epochs", "auxiliary_minibatch")
        bounds.at_least(0, self, "clip", "value_weight", "clone_weight")

    def policy_kind(self, configured: Any) -> Any:
        """The configured kind with an auxiliary value; raises UsageError where it can have none."""
        if "auxiliary_value" not in {field.name for field in dataclasses.fields(configured)}:
            raise UsageError(
                f"ppg trains an auxiliary value on the actor's features, which a {type(configured).__name__} policy does "
                "not offer (no setting auxiliary_value); choose --policy mlp, or another algorithm"
            )
        return dataclasses.replace(configured, auxiliary_value=True)

    def init(self, policy: Policy, lanes: int) -> AlgorithmState:
        """The steps of the running policy phase: none."""
        return {"phase": {}}

    @property
    def policy_phase(self) -> PPO:
        """What estimates and climbs in the policy phase: PPO with these settings."""
        return PPO(
            discount=self.discount,
            trace=self.trace,
            clip=self.clip,
            epochs=self.epochs,
            minibatch=self.minibatch,
            entropy_weight=self.entropy_weight,
            value_weight=self.value_weight,
            normalize_advantages=self.normalize_advantages,
        )

    def auxiliary_loss(self, policy: Policy, batch: Batch, old: Policy) -> Loss:
        """What the auxiliary phase descends; ``old`` is the policy as it was, without gradient."""
        head: Any = policy.head  # an AuxiliaryHead
        outputs, _ = policy.outputs(batch.observation)
        moved = old.head(old.outputs(batch.observation)[0]).kl(head(outputs))
        kl = objectives.weighted_mean(moved, batch.weight)
        auxiliary = objectives.squared_error(head.value(outputs), batch.target, batch.weight)
        error = objectives.squared_error(policy.value(batch.observation), batch.target, batch.weight)
        loss = self.value_weight * (auxiliary + error) + self.clone_weight * kl
        return loss, {
            "auxiliary_error": auxiliary.detach(),
            "auxiliary_value_error": error.detach(),
            "clone_kl": kl.detach(),
        }

    def improve(  # type: ignore[override] # `experience` says which of the two it is
        self, learner: Learner, experience: Rollout, state: AlgorithmState, progress: float
    ) -> tuple[AlgorithmState, Metrics]:
        """An iteration of the policy phase; with the last of them the auxiliary phase."""
        ppo, clip = self.policy_phase, self.clip.at(progress)
        loss = partial(ppo.loss, clip=clip, entropy_weight=self.entropy_weight.at(progress))
        batch = ppo.estimate(learner.policy, experience)
        metrics = epochs.descend(learner, loss, batch, epochs=self.epochs, minibatch=self.minibatch)
        metrics |= {"explained_variance": explained_variance(batch), "clip": clip}
        phase = {**state["phase"], str(len(state["phase"])): batch.to_state()}
        if len(phase) < self.policy_iterations:
            return {"phase": phase}, metrics
        in_order = (phase[str(index)] for index in range(len(phase)))  # files sort names: 10 comes before 2
        return {"phase": {}}, {**metrics, **self.distil(learner, type(batch).joined(in_order))}

    def distil(self, learner: Learner, batch: Batch) -> Metrics:
        """The auxiliary phase on all steps of the policy phase."""
        loss = partial(self.auxiliary_loss, old=copy.deepcopy(learner.policy).requires_grad_(False))
        found = epochs.descend(learner, loss, batch, epochs=self.auxiliary_epochs, minibatch=self.auxiliary_minibatch)
        found.pop("gradient_norm")  # under this name, the policy phase's is told
        return found

"""The contract of an algorithm: a frozen dataclass of hyperparameters with a few short methods.

An algorithm turns experience into calls of the learner; it never steps an environment and never touches an optimizer. What
it must remember between iterations (target networks, temperatures, unfinished episodes, stored experience) is *state*: a
tree that it receives and returns, and that every checkpoint holds. Algorithm modules import no torch at run time: their
formulas are methods of tensors, so that `pistar algorithms` answers at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.ranges import Range
    from pistar.replay import Replay
    from pistar.rollout import Rollout

Metrics = dict[str, float]
AlgorithmState = dict[str, Any]  # str keys; tensors, JSON scalars, further dicts


@dataclass(frozen=True)
class Algorithm(ABC):
    """Hyperparameters as fields; ``summary`` and ``paper`` are what `pistar algorithms` prints."""

    summary: ClassVar[str]
    paper: ClassVar[str]
    experience: ClassVar[Literal["rollout", "replay"]] = "rollout"  # what `improve` is given
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # "continuous" / "discrete" -> tables of defaults
    training_ranges: ClassVar[
        Mapping[str, Range | None]
    ] = {}  # fields of [training] searched otherwise; None: not at all

    @property
    def replay_capacity(self) -> int:
        """Steps kept per lane, where `experience` is "replay"; a field of this name makes it a hyperparameter."""
        return 0

    def policy_kind(self, configured: Any) -> Any:
        """The policy kind that is trained: the configured one, or one of the algorithm's own made from its fields.

        A kind is a frozen dataclass with ``build(spaces, generator) -> Policy``. Asked once, before the policy is built,
        so that policy files name the kind that acts.
        """
        return configured

    def init(self, policy: Policy, lanes: int) -> AlgorithmState:
        """What is remembered before the first iteration."""
        return {}

    @abstractmethod
    def improve(
        self, learner: Learner, experience: Rollout | Replay, state: AlgorithmState, progress: float
    ) -> tuple[AlgorithmState, Metrics]:
        """Climb J with one iteration's experience; ``progress`` in [0, 1] drives schedules."""


Loss = tuple["Tensor", dict[str, "Tensor"]]  # a scalar to descend, and detached scalars to report

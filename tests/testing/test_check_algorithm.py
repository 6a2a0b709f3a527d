"""check_algorithm passes the library's own algorithms and names the rule that a broken one breaks."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from pistar.algorithms.a2c import A2C
from pistar.algorithms.algorithm import Algorithm
from pistar.algorithms.ppo import PPO
from pistar.algorithms.reinforce import Reinforce
from pistar.errors import UsageError
from pistar.testing import ContractViolation, check_algorithm


@pytest.mark.parametrize("algorithm", [Reinforce(), A2C()], ids=["reinforce", "a2c"])
def test_the_librarys_own_keep_the_contract_and_learn(algorithm: Algorithm) -> None:
    check_algorithm(algorithm, quick=True)


def test_ppo_keeps_the_contract() -> None:
    check_algorithm(PPO(), improvement=False)


@pytest.mark.slow
@pytest.mark.parametrize("actions", ["discrete", "continuous"])
@pytest.mark.parametrize("algorithm", [Reinforce(), A2C(), PPO()], ids=["reinforce", "a2c", "ppo"])
def test_all_of_it(algorithm: Algorithm, actions: Any) -> None:
    check_algorithm(algorithm, actions=actions)


@dataclass(frozen=True)
class NotDeterministic(A2C):
    """Draws from a stream that no seed reaches."""

    draws: ClassVar[Any] = itertools.count()

    def improve(self, learner: Any, experience: Any, state: Any, progress: float) -> Any:
        with torch.no_grad():
            next(iter(learner.policy.parameters())).add_(1e-3 * next(self.draws))
        return super().improve(learner, experience, state, progress)


@dataclass(frozen=True)
class Forgetful(A2C):
    """Remembers on the class what belongs into the state."""

    seen: ClassVar[dict[int, int]] = {}

    def improve(self, learner: Any, experience: Any, state: Any, progress: float) -> Any:
        count = self.seen[id(learner)] = self.seen.get(id(learner), 0) + 1
        with torch.no_grad():
            next(iter(learner.policy.parameters())).add_(1e-3 * count)
        return super().improve(learner, experience, state, progress)


@dataclass(frozen=True)
class BadMetrics(A2C):
    """Reports what is not a number."""

    def improve(self, learner: Any, experience: Any, state: Any, progress: float) -> Any:
        state, metrics = super().improve(learner, experience, state, progress)
        return state, {**metrics, "wrong": float("nan")}


@dataclass(frozen=True)
class WrongWay(A2C):
    """Descends what it should climb."""

    def loss(self, *arguments: Any) -> Any:
        loss, metrics = super().loss(*arguments)
        return -loss, metrics


@dataclass(frozen=True)
class Idle(A2C):
    """Moves nothing."""

    def improve(self, learner: Any, experience: Any, state: Any, progress: float) -> Any:
        return state, {"entropy": 0.0}


FAULTS = {
    NotDeterministic: "determinism",
    Forgetful: "resume",
    BadMetrics: "metrics",
    WrongWay: "improvement",
    Idle: "descent",
}


@pytest.mark.parametrize("broken", FAULTS, ids=lambda broken: broken.__name__)
def test_every_fault_is_named_by_its_rule(broken: type[Algorithm]) -> None:
    with pytest.raises(ContractViolation) as caught:
        check_algorithm(broken(), quick=True)
    assert caught.value.rule == FAULTS[broken], caught.value


def test_a_class_instead_of_an_instance_is_refused() -> None:
    with pytest.raises(UsageError, match="expects an instance"):
        check_algorithm(A2C)  # type: ignore[arg-type]

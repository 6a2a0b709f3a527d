"""`check_algorithm` passes the package's algorithms and names the rule that a broken one breaks."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pistar import configuration
from pistar.algorithms import ALGORITHMS
from pistar.algorithms.a2c import A2C
from pistar.algorithms.algorithm import Algorithm, AlgorithmState, Loss, Metrics
from pistar.algorithms.ppo import PPO
from pistar.algorithms.reinforce import Reinforce
from pistar.envs.environment import Spaces
from pistar.errors import UsageError
from pistar.evaluation import play
from pistar.learner import Learner
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.rollout import Batch, Rollout
from pistar.tasks.task import Execution, Task
from pistar.testing import ContractViolation, check_algorithm, check_environment
from pistar.testing.algorithms import RULES
from pistar.testing.algorithms.worlds import Bandit, Corridor

# Distillation needs a teacher for each world: tests/test_distillation.py.
KINDS = [kind for kind in ALGORITHMS.names() if kind != "distillation"]


def recipe(cls: type[Algorithm], actions: str) -> Algorithm:
    """An algorithm with its own recipe, as `pistar train` would choose it."""
    return configuration.build(cls, cls.recipes.get(actions, {}).get("algorithm", {}), "the recipe")


# Those that keep the contract.


@pytest.mark.parametrize("kind", KINDS)
def test_the_algorithms_of_this_package_keep_the_contract_and_learn(kind: str) -> None:
    check_algorithm(recipe(ALGORITHMS.get(kind), "discrete"), quick=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_the_algorithms_of_this_package_learn_cartpole(kind: str, seed: int) -> None:
    check_algorithm(recipe(ALGORITHMS.get(kind), "discrete"), seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_algorithms_of_this_package_learn_with_continuous_actions(kind: str) -> None:
    check_algorithm(recipe(ALGORITHMS.get(kind), "continuous"), actions="continuous")


def test_the_check_leaves_the_callers_process_as_it_was() -> None:
    threads = torch.get_num_threads()
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["pos"], random.getstate()
    check_algorithm(A2C(), improvement=False)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state(legacy=False)["state"]["pos"], random.getstate()) == before[1:]


# Those that break it: each is A2C but for one fault, at the top level so that configuration can find them.


@dataclass(frozen=True)
class Breaks(A2C):
    """A2C, whose results pass through ``spoil``."""

    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"discrete": {"training": {"lanes": 8, "horizon": 8}}}

    def improve(
        self, learner: Learner, experience: Any, state: AlgorithmState, progress: float
    ) -> tuple[AlgorithmState, Metrics]:
        return self.spoil(learner, *super().improve(learner, experience, state, progress))

    def spoil(self, learner: Learner, state: AlgorithmState, metrics: Metrics) -> tuple[AlgorithmState, Metrics]:
        return state, metrics


CALLS = [0]


@dataclass(frozen=True)
class RemembersInTheModule(Breaks):
    def improve(self, learner: Learner, experience: Any, state: AlgorithmState, progress: float) -> Any:
        CALLS[0] += 1
        return super().improve(learner, scaled(experience, 1 + 0.1 * CALLS[0]), state, progress)


@dataclass(frozen=True)
class DrawsFromTheProcess(Breaks):
    def improve(self, learner: Learner, experience: Any, state: AlgorithmState, progress: float) -> Any:
        return super().improve(learner, scaled(experience, random.random()), state, progress)


@dataclass(frozen=True)
class RemembersOnItself(Breaks):
    def improve(self, learner: Learner, experience: Any, state: AlgorithmState, progress: float) -> Any:
        calls = vars(self).get("calls", 0) + 1
        object.__setattr__(self, "calls", calls)
        return super().improve(learner, scaled(experience, 1 + 0.1 * calls), state, progress)


@dataclass(frozen=True)
class RemembersOnItsClass(Breaks):
    """By learner, so that two trainings are alike and only a resumed one is not."""

    calls: ClassVar[dict[int, tuple[Any, int]]] = {}  # holds the learner too, so that its id is not given again

    def improve(self, learner: Learner, experience: Any, state: AlgorithmState, progress: float) -> Any:
        _, calls = self.calls[id(learner)] = learner, self.calls.get(id(learner), (learner, 0))[1] + 1
        return super().improve(learner, scaled(experience, 1 + 0.1 * calls), state, progress)


@dataclass(frozen=True)
class RemembersInAnOptimizerOfItsOwn(Breaks):
    def improve(self, learner: Learner, experience: Any, state: AlgorithmState, progress: float) -> Any:
        if "momentum" not in vars(self):
            object.__setattr__(self, "momentum", torch.zeros_like(learner.parameters))
        before = learner.parameters.clone()
        outcome = super().improve(learner, experience, state, progress)
        self.momentum.mul_(0.9).add_(learner.parameters - before)  # type: ignore[attr-defined]
        learner.parameters.copy_(before + self.momentum)  # type: ignore[attr-defined]
        return outcome


@dataclass(frozen=True)
class ReportsNothingFinite(Breaks):
    def spoil(self, learner: Learner, state: AlgorithmState, metrics: Metrics) -> tuple[AlgorithmState, Metrics]:
        return state, {**metrics, "ratio": math.nan}


@dataclass(frozen=True)
class ReportsTensors(Breaks):
    def spoil(self, learner: Learner, state: AlgorithmState, metrics: Metrics) -> tuple[AlgorithmState, Metrics]:
        return state, {**metrics, "ratio": torch.zeros(())}  # type: ignore[dict-item]


@dataclass(frozen=True)
class ClimbsDown(Breaks):
    def loss(self, policy: Policy, batch: Batch, entropy_weight: float) -> Loss:
        return super().loss(policy, dataclasses.replace(batch, advantage=-batch.advantage), entropy_weight)


@dataclass(frozen=True)
class LearnsTheCriticAlone(Breaks):
    def loss(self, policy: Policy, batch: Batch, entropy_weight: float) -> Loss:
        return super().loss(policy, dataclasses.replace(batch, advantage=batch.advantage * 0), 0.0)


@dataclass(frozen=True)
class MovesNothing(Breaks):
    def improve(self, learner: Learner, experience: Any, state: AlgorithmState, progress: float) -> Any:
        return state, {"score": 0.0}


@dataclass(frozen=True)
class PutsBackWhatItLearned(Breaks):
    def improve(self, learner: Learner, experience: Any, state: AlgorithmState, progress: float) -> Any:
        before = learner.parameters.clone()
        outcome = super().improve(learner, experience, state, progress)
        learner.parameters.copy_(before)
        return outcome


@dataclass(frozen=True)
class HidesWhatIsNotFinite(Breaks):
    def estimate(self, policy: Policy, rollout: Rollout) -> Batch:
        batch = super().estimate(policy, rollout)
        return dataclasses.replace(
            batch, advantage=batch.advantage.nan_to_num(0, 0, 0), target=batch.target.nan_to_num(0, 0, 0)
        )


@dataclass(frozen=True)
class MovesBeforeItLooks(Breaks):
    def improve(self, learner: Learner, experience: Any, state: AlgorithmState, progress: float) -> Any:
        learner.set("critic", learner.vector("critic") * 0.99)
        return super().improve(learner, experience, state, progress)


@dataclass(frozen=True)
class RaisesSomethingElse(Breaks):
    def estimate(self, policy: Policy, rollout: Rollout) -> Batch:
        if not bool(rollout.reward.isfinite().all()):
            raise ValueError("that is no reward")
        return super().estimate(policy, rollout)


@dataclass(frozen=True)
class KeepsAnObject(Breaks):
    def spoil(self, learner: Learner, state: AlgorithmState, metrics: Metrics) -> tuple[AlgorithmState, Metrics]:
        return {"schedule": self.entropy_weight}, metrics


@dataclass(frozen=True)
class StartsWithAList(Breaks):
    def init(self, policy: Policy, lanes: int) -> AlgorithmState:
        return [torch.zeros(lanes)]  # type: ignore[return-value]


@dataclass(frozen=True)
class HasNoPaper(Breaks):
    paper: ClassVar[str] = ""


@dataclass(frozen=True)
class WantsSomethingElse(Breaks):
    experience: ClassVar[Any] = "demonstrations"


@dataclass(frozen=True)
class ReplaysNothing(Breaks):
    experience: ClassVar[Any] = "replay"


@dataclass(frozen=True)
class HasAWrongRecipe(Breaks):
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"discrete": {"training": {"lane": 8}}}


class IsNotDecorated(A2C):
    temperature: float = 1.0


@dataclass(frozen=True)
class HoldsATensor(Breaks):
    scale: Any = dataclasses.field(default_factory=lambda: torch.ones(2))


@dataclass(frozen=True)
class HoldsAList(Breaks):
    sizes: tuple[int, ...] = dataclasses.field(default_factory=lambda: cast(Any, [1, 2]))


class PlainKind(MLP):
    pass


@dataclass(frozen=True)
class BiasedKind(MLP):
    """A policy with a parameter that no part lists."""

    def build(self, spaces: Spaces, generator: torch.Generator) -> Policy:
        policy = super().build(spaces, generator)
        policy.register_parameter("bias", nn.Parameter(torch.zeros(())))
        return policy


@dataclass(frozen=True)
class ForeignKind(MLP):
    """A policy that says it was built by another kind."""

    def build(self, spaces: Spaces, generator: torch.Generator) -> Policy:
        return MLP().build(spaces, generator)


@dataclass(frozen=True)
class UnseededKind(MLP):
    """A policy whose weights come from the process's own random stream."""

    def build(self, spaces: Spaces, generator: torch.Generator) -> Policy:
        return super().build(spaces, torch.default_generator)


@dataclass(frozen=True)
class Trains(Breaks):
    """A2C with a policy kind of its own."""

    which: str = "plain"

    def policy_kind(self, configured: MLP) -> Any:
        kinds = {"plain": PlainKind, "biased": BiasedKind, "foreign": ForeignKind, "unseeded": UnseededKind}
        return kinds[self.which](hidden=configured.hidden)


def scaled(rollout: Rollout, factor: float) -> Rollout:
    return dataclasses.replace(rollout, reward=rollout.reward * factor)


@pytest.mark.parametrize(
    ("rule", "algorithm"),
    [
        ("declaration", HasNoPaper()),
        ("declaration", WantsSomethingElse()),
        ("declaration", ReplaysNothing()),
        ("declaration", HasAWrongRecipe()),
        ("declaration", IsNotDecorated()),
        ("declaration", MLP()),
        ("configuration", HoldsATensor()),
        ("configuration", HoldsAList()),
        ("policy", Trains(which="plain")),
        ("policy", Trains(which="biased")),
        ("policy", Trains(which="foreign")),
        ("state", KeepsAnObject()),
        ("state", StartsWithAList()),
        ("metrics", ReportsNothingFinite()),
        ("metrics", ReportsTensors()),
        ("descent", MovesNothing()),
        ("descent", PutsBackWhatItLearned()),
        ("determinism", RemembersInTheModule()),
        ("determinism", DrawsFromTheProcess()),
        ("determinism", Trains(which="unseeded")),
        ("resume", RemembersOnItself()),
        ("resume", RemembersOnItsClass()),
        ("resume", RemembersInAnOptimizerOfItsOwn()),
        ("refusal", HidesWhatIsNotFinite()),
        ("refusal", MovesBeforeItLooks()),
        ("refusal", RaisesSomethingElse()),
        ("improvement", ClimbsDown()),
        ("improvement", LearnsTheCriticAlone()),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_fault_is_caught_under_the_name_of_its_rule(rule: str, algorithm: Any) -> None:
    with pytest.raises(ContractViolation) as caught:
        check_algorithm(algorithm, quick=True)
    assert caught.value.rule == rule
    assert RULES[rule] in str(caught.value)


def test_one_that_gives_no_credit_over_time_learns_the_bandit_and_not_the_corridor() -> None:
    with pytest.raises(ContractViolation, match="on corridor") as caught:
        check_algorithm(A2C(discount=0.0), quick=True)
    assert caught.value.rule == "improvement"


def test_the_model_of_the_broken_ones_is_sound() -> None:
    check_algorithm(Breaks(), improvement=False)


def test_a_class_that_cannot_be_found_again_is_refused() -> None:
    @dataclass(frozen=True)
    class Local(Breaks):
        pass

    with pytest.raises(ContractViolation, match="top level of a module") as caught:
        check_algorithm(Local())
    assert caught.value.rule == "configuration"


def test_a_class_in_the_place_of_an_instance_is_refused() -> None:
    with pytest.raises(UsageError, match="an instance"):
        check_algorithm(PPO)  # type: ignore[arg-type]


def test_settings_of_the_caller_count() -> None:
    with pytest.raises(ContractViolation) as caught:
        check_algorithm(Reinforce(), training={"steps": 2048}, quick=True)
    assert caught.value.rule == "improvement"
    with pytest.raises(UsageError, match="lane"):
        check_algorithm(Reinforce(), training={"lane": 3})


def test_what_an_algorithm_raises_itself_says_what_was_asked() -> None:
    with pytest.raises(UsageError, match="value function") as caught:
        check_algorithm(A2C(), policy={"kind": "mlp", "critic": False})
    assert "while check_algorithm asked" in caught.value.__notes__[0]


# The worlds.


@pytest.mark.parametrize("actions", ["discrete", "continuous"])
@pytest.mark.parametrize("world", [Bandit, Corridor])
def test_the_worlds_keep_the_environments_contract(world: type[Any], actions: str) -> None:
    check_environment(lambda lanes: world(actions).environment(lanes, Execution(), training=True), steps=80)


def mean_return(task: Task, choose: Any, episodes: int = 4000) -> float:
    environment = task.environment(episodes, Execution(), training=False)
    return float(play(environment, choose, 1, seed=5).returns.mean())


def exact_return(right: float) -> float:
    """Of the corridor, stepping right with probability ``right`` before slips: all ways, by position, over 30 steps."""
    right = 0.9 * right + 0.1 * (1 - right)
    here, expected = {2: 1.0}, 0.0
    for _ in range(30):
        there: dict[int, float] = {}
        for position, probability in here.items():
            for successor, share in ((position + 1, right), (position - 1, 1 - right)):
                there[successor] = there.get(successor, 0.0) + probability * share
        expected += there.pop(7, 0.0) + 0.1 * there.pop(0, 0.0)
        here = there
    return expected


@pytest.mark.parametrize("actions", ["discrete", "continuous"])
def test_the_corridor_pays_what_its_rules_say(actions: str) -> None:
    def always(observation: Tensor) -> Tensor:
        return (
            torch.ones(len(observation), dtype=torch.int64) if actions == "discrete" else torch.ones_like(observation)
        )

    task = Corridor(actions)  # type: ignore[arg-type]
    assert mean_return(task, always) == pytest.approx(exact_return(1.0), abs=0.01)
    assert task.threshold is not None
    assert exact_return(0.0) < exact_return(0.5) < 0.5 < task.threshold < exact_return(1.0) - 0.1


@pytest.mark.parametrize("actions", ["discrete", "continuous"])
def test_the_bandit_pays_the_right_arm(actions: str) -> None:
    def right(observation: Tensor) -> Tensor:
        arm = observation.argmax(-1) % 3
        return arm if actions == "discrete" else (arm.float().unsqueeze(-1) - 1) * 0.6

    def wrong(observation: Tensor) -> Tensor:
        arm = (observation.argmax(-1) + 1) % 3
        return arm if actions == "discrete" else (arm.float().unsqueeze(-1) - 1) * 0.6

    assert mean_return(Bandit(actions), right) == pytest.approx(1.0, abs=0.02)  # type: ignore[arg-type]
    assert mean_return(Bandit(actions), wrong) == pytest.approx(0.0, abs=0.02)  # type: ignore[arg-type]

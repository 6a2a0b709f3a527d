"""`check_environment` passes what keeps the contract and names the rule that a broken environment breaks."""

from __future__ import annotations

import importlib.util
import math
import random
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.envs.environment import Environment, Restoring, Spaces, State, Step
from pistar.envs.gym_lanes import GymnasiumLanes
from pistar.envs.gym_vector import GymnasiumVector
from pistar.errors import UsageError
from pistar.seeding import episode_seed
from pistar.testing import ContractViolation, check_environment
from pistar.testing.environments import RULES

LIMIT = 12  # steps of an episode at most


class Walk(Environment):
    """A point on a line, pushed left or right; ends beyond ±2, cut after ``LIMIT`` steps. Keeps the whole contract."""

    name = "walk"
    restoring: Restoring = "state"
    declared: spaces.Space[Any] = spaces.Box(-10.0, 10.0, (1,), np.float32)

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.spaces = Spaces(self.declared, spaces.Discrete(3))
        self.position, self.elapsed = torch.zeros(lanes), torch.zeros(lanes, dtype=torch.int64)
        self.episode = torch.zeros(lanes, dtype=torch.int64)
        self.seed = 0

    def start(self, lane: int, episode: int) -> float:
        return random.Random(episode_seed(self.seed, lane, episode)).uniform(-1, 1)

    def begin(self, lanes: Tensor) -> None:
        for lane in lanes.nonzero().flatten().tolist():
            self.position[lane], self.elapsed[lane] = self.start(lane, int(self.episode[lane])), 0

    def observe(self) -> Tensor:
        return self.position.clone().unsqueeze(1)

    def reset(self, seed: int) -> Tensor:
        self.seed = seed
        self.episode.zero_()
        self.begin(torch.ones(self.lanes, dtype=torch.bool))
        return self.observe()

    def move(self, action: Tensor) -> None:
        self.position += 0.7 * (action - 1).float()

    def step(self, action: Tensor) -> Step:
        self.move(action)
        self.elapsed += 1
        reward, final = -self.position.abs(), self.observe()
        terminated = self.position.abs() > 2
        truncated = ~terminated & (self.elapsed >= LIMIT)
        ended = terminated | truncated
        self.episode += ended
        self.begin(ended)
        return Step(
            self.observe(),
            reward,
            terminated,
            truncated,
            final if bool(ended.any()) else None,
            info={"distance": reward.neg()},
        )

    def cut(self, lanes: Tensor) -> Tensor:
        self.episode += lanes
        self.begin(lanes)
        return self.observe()

    def save(self) -> State:
        return {
            "seed": self.seed,
            "position": self.position.clone(),
            "elapsed": self.elapsed.clone(),
            "episode": self.episode.clone(),
        }

    def restore(self, state: State) -> Tensor:
        self.seed = state["seed"]
        for name in ("position", "elapsed", "episode"):
            setattr(self, name, state[name].clone())
        return self.observe()


class WrongLanes(Walk):
    def __init__(self, lanes: int) -> None:
        super().__init__(lanes + 1)


class UnknownTier(Walk):
    restoring: Any = "always"


class OutsideTheSpace(Walk):
    declared = spaces.Box(-1.5, 1.5, (1,), np.float32)


class FlatObservation(Walk):
    def observe(self) -> Tensor:
        return self.position.clone()


class DoubleObservation(Walk):
    def observe(self) -> Tensor:
        return super().observe().double()


class NotFinite(Walk):
    def observe(self) -> Tensor:
        return super().observe().log()


class Altered(Walk):
    """Steps like `Walk`, then changes the outcome."""

    def alter(self, step: Step) -> None:
        raise NotImplementedError

    def step(self, action: Tensor) -> Step:
        outcome = super().step(action)
        self.alter(outcome)
        return outcome


class DoubleReward(Altered):
    def alter(self, step: Step) -> None:
        step.reward = step.reward.double()


class RewardColumn(Altered):
    def alter(self, step: Step) -> None:
        step.reward = step.reward.unsqueeze(1)


class RewardNotFinite(Altered):
    def alter(self, step: Step) -> None:
        step.reward[-1] = math.inf


class InfoOfOne(Altered):
    def alter(self, step: Step) -> None:
        step.info = {"distance": step.reward.mean()}


class IntegerFlags(Altered):
    def alter(self, step: Step) -> None:
        step.terminated = step.terminated.int()


class NoFinalObservation(Altered):
    def alter(self, step: Step) -> None:
        step.final_observation = None


class InvalidInMidEpisode(Altered):
    def alter(self, step: Step) -> None:
        step.valid = torch.tensor([False] + [True] * (self.lanes - 1))


class GlobalNumpy(Walk):
    def move(self, action: Tensor) -> None:
        super().move(action)
        np.random.rand()


class GlobalTorchStart(Walk):
    def start(self, lane: int, episode: int) -> float:
        return float(torch.rand(()))


class Noisy(Walk):
    fresh = random.SystemRandom()

    def move(self, action: Tensor) -> None:
        self.position += self.fresh.uniform(-0.1, 0.1)


class Remembers(Walk):
    """`reset` forgets to forget the push of the wind, which grows with every step."""

    wind = 0.0

    def move(self, action: Tensor) -> None:
        super().move(action)
        self.wind += 1e-3
        self.position += self.wind


class Seedless(Walk):
    def start(self, lane: int, episode: int) -> float:
        return random.Random(episode_seed(0, lane, episode)).uniform(-1, 1)


class SameEpisodes(Walk):
    def start(self, lane: int, episode: int) -> float:
        return super().start(lane, 0)


class SameLanes(Walk):
    def start(self, lane: int, episode: int) -> float:
        return super().start(0, episode)


class LanesShareAStream(Walk):
    """The classic: one generator for all lanes, so a start depends on who ended before."""

    def reset(self, seed: int) -> Tensor:
        self.stream = random.Random(seed)
        return super().reset(seed)

    def start(self, lane: int, episode: int) -> float:
        return self.stream.uniform(-1, 1)


class StartsFromThePast(Walk):
    def reset(self, seed: int) -> Tensor:
        self.elapsed.zero_()
        return super().reset(seed)

    def start(self, lane: int, episode: int) -> float:
        return super().start(lane, episode) + 0.01 * float(self.elapsed[lane])


class LanesTouch(Walk):
    def move(self, action: Tensor) -> None:
        super().move(action)
        self.position += 0.01 * self.position.mean()


class SharedBetweenInstances(Walk):
    count = 0

    def move(self, action: Tensor) -> None:
        type(self).count += 1
        super().move(action)
        self.position += 1e-3 * (type(self).count % 7)

    def reset(self, seed: int) -> Tensor:
        type(self).count = 0
        return super().reset(seed)


class ObservationIsTheState(Walk):
    """Whoever normalises the observation in place moves the world."""

    def observe(self) -> Tensor:
        return self.position.unsqueeze(1)


class KeepsItsAction(Walk):
    """Acts one step late on a tensor that belongs to the caller."""

    last: Tensor | None = None

    def begin(self, lanes: Tensor) -> None:
        super().begin(lanes)
        if bool(lanes.all()):
            self.last = None

    def move(self, action: Tensor) -> None:
        super().move(action if self.last is None else self.last)
        self.last = action

    def save(self) -> State:
        return super().save() | {"last": None if self.last is None else self.last.clone()}

    def restore(self, state: State) -> Tensor:
        self.last = state["last"]
        return super().restore(state)


class ChangesItsAction(Walk):
    def move(self, action: Tensor) -> None:
        super().move(action)
        action.zero_()


class CutsEveryLane(Walk):
    def cut(self, lanes: Tensor) -> Tensor:
        return super().cut(torch.ones_like(lanes))


class CutRepeatsTheEpisode(Walk):
    """Starts the running episode again instead of the next one."""

    def cut(self, lanes: Tensor) -> Tensor:
        self.begin(lanes)
        return self.observe()


class CutKeepsTheClock(Walk):
    def cut(self, lanes: Tensor) -> Tensor:
        elapsed = self.elapsed.clone()
        observation = super().cut(lanes)
        self.elapsed = elapsed
        return observation


class SavesAnObject(Walk):
    def save(self) -> State:
        return super().save() | {"stream": random.Random(0)}


class SaveMoves(Walk):
    def save(self) -> State:
        self.elapsed += 1
        return super().save()


class SavesViews(Walk):
    def save(self) -> State:
        return super().save() | {"position": self.position, "elapsed": self.elapsed}


class RestoresHalf(Walk):
    def restore(self, state: State) -> Tensor:
        return super().restore(state | {"elapsed": torch.zeros_like(state["elapsed"])})


class RestoresNoEpisode(Walk):
    def restore(self, state: State) -> Tensor:
        return super().restore(state | {"episode": torch.zeros_like(state["episode"])})


class ClosesOnce(Walk):
    file: Any = object()

    def close(self) -> None:
        if self.file is None:
            raise RuntimeError("closed already")
        self.file = None


FAULTS: Mapping[type[Walk], str] = {
    WrongLanes: "declaration",
    UnknownTier: "declaration",
    OutsideTheSpace: "observation",
    FlatObservation: "observation",
    DoubleObservation: "observation",
    NotFinite: "observation",
    DoubleReward: "reward",
    RewardColumn: "reward",
    RewardNotFinite: "reward",
    InfoOfOne: "reward",
    IntegerFlags: "flags",
    NoFinalObservation: "final observation",
    InvalidInMidEpisode: "valid",
    GlobalNumpy: "global randomness",
    GlobalTorchStart: "global randomness",
    Noisy: "determinism",
    Remembers: "reset",
    Seedless: "seed",
    SameEpisodes: "seed",
    SameLanes: "seed",
    LanesShareAStream: "seed",
    StartsFromThePast: "episode starts",
    LanesTouch: "lanes",
    SharedBetweenInstances: "instances",
    ObservationIsTheState: "ownership",
    KeepsItsAction: "ownership",
    ChangesItsAction: "ownership",
    CutsEveryLane: "cut",
    CutRepeatsTheEpisode: "seed",
    CutKeepsTheClock: "cut",
    SavesAnObject: "save",
    SaveMoves: "save",
    SavesViews: "restore",
    RestoresHalf: "restore",
    RestoresNoEpisode: "restore",
    ClosesOnce: "close",
}


@pytest.mark.parametrize("broken", FAULTS, ids=lambda broken: broken.__name__)
def test_every_fault_is_named_by_its_rule(broken: type[Walk]) -> None:
    with pytest.raises(ContractViolation) as caught:
        check_environment(broken, steps=40)
    assert caught.value.rule == FAULTS[broken], caught.value
    assert RULES[caught.value.rule] in str(caught.value)


def test_every_rule_has_a_fault() -> None:
    assert set(FAULTS.values()) == set(RULES)


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_sound_environment_passes(lanes: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_environment(Walk, lanes=lanes, steps=60)


def test_a_noisy_environment_may_declare_the_boundary_tier() -> None:
    class Honest(Noisy):
        restoring: Restoring = "boundary"

    check_environment(Honest, steps=60)


def test_lanes_of_one_world_may_touch() -> None:
    check_environment(LanesTouch, steps=60, independent_lanes=False)


def test_too_few_steps_to_meet_an_end_are_reported() -> None:
    with pytest.warns(UserWarning, match="no episode ended within 1 random steps"):
        check_environment(Walk, steps=1)


def test_an_error_of_the_environment_says_what_was_asked() -> None:
    class Raises(Walk):
        def restore(self, state: State) -> Tensor:
            raise RuntimeError("no such thing")

    with pytest.raises(RuntimeError, match="no such thing") as caught:
        check_environment(Raises, steps=60)
    assert "while check_environment asked" in caught.value.__notes__[0]


def test_an_instance_instead_of_a_maker_is_refused() -> None:
    with pytest.raises(UsageError, match="makes a fresh environment"):
        check_environment(Walk(3))  # type: ignore[arg-type]


def native_cartpole(lanes: int) -> Environment:
    from pistar.envs.cartpole import CartPole

    return CartPole(lanes)


def reacher(lanes: int) -> Environment:
    from pistar.envs.mujoco import MujocoBatch

    return MujocoBatch("Reacher-v5", lanes)


def workers(lanes: int) -> Environment:
    from pistar.envs.workers import WorkerLanes

    return WorkerLanes("CartPole-v1", lanes, 1)


def requires(*modules: str) -> Any:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{missing} not there")


@pytest.mark.parametrize(
    "make",
    [
        lambda lanes: GymnasiumLanes("CartPole-v1", lanes),
        lambda lanes: GymnasiumLanes("CartPole-v1", lanes, restoring="boundary"),
        lambda lanes: GymnasiumLanes("FrozenLake-v1", lanes),
        pytest.param(native_cartpole, marks=requires("pistar.envs.cartpole")),
        pytest.param(reacher, marks=requires("mujoco", "pistar.envs.mujoco")),
        pytest.param(workers, marks=requires("pistar.envs.workers")),
    ],
    ids=["lanes", "boundary", "lake", "native", "mujoco", "workers"],
)
def test_the_environments_of_this_package_keep_the_contract(make: Callable[[int], Environment]) -> None:
    check_environment(make, lanes=2, steps=60)


def test_lanes_of_a_vector_environment_share_one_random_stream() -> None:
    """Gymnasium's own CartPole of many lanes: they keep the contract, but for being independent."""

    def vector(lanes: int) -> Environment:
        return GymnasiumVector("CartPole-v1", lanes)

    check_environment(vector, lanes=2, steps=60, independent_lanes=False)
    with pytest.raises(ContractViolation, match="starts differently with one more lane"):
        check_environment(vector, lanes=2, steps=60)

"""Wrappers: the contract in every tier and order, and what each of them promises, on worlds that count their steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.envs.arm_joint import ArmJoint
from pistar.envs.arm_reach import ArmReach
from pistar.envs.cartpole import CartPole
from pistar.envs.environment import Environment, Spaces
from pistar.envs.gym_lanes import GymnasiumLanes
from pistar.envs.native import NativeEnvironment, Transition, World
from pistar.envs.puzzles.grid import Grid
from pistar.envs.wrappers import ActionDelay, FrameStack, ObservationNoise, TimeLimit, neutral_action
from pistar.errors import UnsupportedSpace, UsageError
from pistar.testing import check_environment


class Counter(NativeEnvironment):
    """Observes (step of the episode, last action); terminates after 7 steps; the reward is the executed action."""

    name = "counter"
    time_limit = 1000
    draws = 1

    def __init__(self, lanes: int) -> None:
        self.spaces = Spaces(spaces.Box(0.0, 100.0, (2,), np.float32), spaces.Box(0.0, 50.0, (), np.float32))
        super().__init__(lanes)

    def start(self, uniform: Tensor) -> World:
        return {"step": torch.zeros(len(uniform)), "action": torch.zeros(len(uniform))}

    def dynamics(self, world: World, action: Tensor) -> Transition:
        step = world["step"] + 1
        return Transition({"step": step, "action": action.clone()}, action.clone(), step >= 7)

    def observe(self, world: World) -> Tensor:
        return torch.stack((world["step"], world["action"]), -1)


WRAPPED: dict[str, Callable[[int], Environment]] = {
    "limit": lambda lanes: TimeLimit(CartPole(lanes), 9),
    "delay": lambda lanes: ActionDelay(CartPole(lanes), 2),
    "delay of a box": lambda lanes: ActionDelay(ArmReach(lanes), 1),
    "noise": lambda lanes: ObservationNoise(CartPole(lanes), 0.1),
    "stack": lambda lanes: FrameStack(CartPole(lanes), 3),
    "all": lambda lanes: FrameStack(ObservationNoise(ActionDelay(TimeLimit(ArmJoint(lanes), 13), 3), 0.2), 4),
    "all, another order": lambda lanes: TimeLimit(
        ActionDelay(ObservationNoise(FrameStack(CartPole(lanes), 2), 0.1), 1), 8
    ),
    "all, replay": lambda lanes: FrameStack(
        ObservationNoise(ActionDelay(TimeLimit(GymnasiumLanes("CartPole-v1", lanes), 9), 1), 0.1), 2
    ),
    "all, boundary": lambda lanes: FrameStack(
        ActionDelay(TimeLimit(GymnasiumLanes("CartPole-v1", lanes, restoring="boundary"), 9), 1), 2
    ),
}


@pytest.mark.parametrize("make", WRAPPED.values(), ids=WRAPPED)
def test_the_contract_is_kept(make: Callable[[int], Environment]) -> None:
    check_environment(make, steps=60)


def test_the_time_limit_truncates_and_shows_the_last_observation() -> None:
    world = TimeLimit(Counter(2), 3)
    world.reset(0)
    for t in range(1, 10):
        step = world.step(torch.full((2,), float(t)))
        at_limit = t % 3 == 0
        assert step.truncated.tolist() == [at_limit] * 2
        assert not bool(step.terminated.any())
        assert step.observation[:, 0].tolist() == [float(t % 3)] * 2
        assert step.reward.tolist() == [float(t)] * 2
        if at_limit:
            assert step.final_observation is not None
            assert step.final_observation.tolist() == [[3.0, float(t)]] * 2


def test_an_episode_that_ends_at_the_limit_is_terminated() -> None:
    world = TimeLimit(Counter(1), 7)
    world.reset(0)
    steps = [world.step(torch.zeros(1)) for _ in range(7)]
    assert bool(steps[-1].terminated[0])
    assert not bool(steps[-1].truncated[0])


def test_lanes_reach_the_limit_each_in_its_own_time() -> None:
    world = TimeLimit(Counter(2), 5)
    world.reset(0)
    for _ in range(2):
        world.step(torch.zeros(2))
    world.cut(torch.tensor([True, False]))
    found = [world.step(torch.zeros(2)).truncated.tolist() for _ in range(5)]
    assert found == [[False, False], [False, False], [False, True], [False, False], [True, False]]


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_the_delayed_action_is_executed_and_none_outlives_its_episode(delay: int) -> None:
    world = ActionDelay(Counter(1), delay)
    world.reset(0)
    executed = [float(world.step(torch.tensor([10.0 + t])).reward[0]) for t in range(14)]
    first = [0.0] * delay + [10.0 + t for t in range(7 - delay)]
    second = [0.0] * delay + [17.0 + t for t in range(7 - delay)]
    assert executed == first + second


def test_the_delay_keeps_its_own_copy_of_an_action() -> None:
    world, action = ActionDelay(Counter(1), 1), torch.tensor([5.0])
    world.reset(0)
    world.step(action)
    action.fill_(9.0)
    assert float(world.step(action).reward[0]) == 5.0


def test_the_stack_holds_this_episodes_observations_the_newest_last() -> None:
    world = FrameStack(Counter(1), 3)
    assert world.reset(0)[0, :, 0].tolist() == [0, 0, 0]
    seen, finals = [], []
    for _ in range(8):
        step = world.step(torch.zeros(1))
        seen.append(step.observation[0, :, 0].tolist())
        if bool(step.ended[0]):
            assert step.final_observation is not None
            finals.append(step.final_observation[0, :, 0].tolist())
    assert seen == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 6], [0, 0, 0], [0, 0, 1]]
    assert finals == [[5, 6, 7]]


def test_noise_has_its_deviation_is_fresh_and_leaves_the_world_alone() -> None:
    world, plain = ObservationNoise(ArmJoint(500), 0.3), ArmJoint(500)
    noise = [world.reset(4) - plain.reset(4)]
    for _ in range(20):
        action = torch.randint(9, (500,), generator=torch.Generator().manual_seed(len(noise)))
        noisy, exact = world.step(action), plain.step(action)
        assert torch.equal(noisy.reward, exact.reward)
        noise.append(noisy.observation - exact.observation)
    drawn = torch.stack(noise)
    assert float(drawn.std()) == pytest.approx(0.3, rel=0.01)
    assert float(drawn.mean()) == pytest.approx(0.0, abs=0.01)
    flat = drawn.flatten(1)
    correlation = np.corrcoef(flat.numpy()) - np.eye(len(flat))
    assert np.abs(correlation).max() < 0.08


def test_neutral_actions_are_in_their_space() -> None:
    space = spaces.Dict(
        {
            "gear": spaces.Discrete(3, start=2),
            "pedal": spaces.Box(0.5, 1.0, (2,)),
            "lights": spaces.MultiBinary(3),
            "knobs": spaces.Tuple((spaces.MultiDiscrete([2, 3]), spaces.Box(-1.0, 1.0, ()))),
        }
    )
    neutral = neutral_action(space)
    assert int(neutral["gear"]) == 2
    assert neutral["pedal"].tolist() == [0.5, 0.5]
    assert neutral["lights"].tolist() == [0, 0, 0]
    assert neutral["knobs"][0].tolist() == [0, 0]
    with pytest.raises(UnsupportedSpace, match="no neutral action"):
        neutral_action(spaces.Text(3))


def test_what_cannot_be_wrapped_is_refused() -> None:
    lake = GymnasiumLanes("FrozenLake-v1", 1)
    for make in (lambda: FrameStack(lake, 2), lambda: ObservationNoise(lake, 0.1)):
        with pytest.raises(UnsupportedSpace, match="Box"):
            make()
    for wrong in (
        lambda: TimeLimit(Counter(1), 0),
        lambda: ActionDelay(Counter(1), -1),
        lambda: ObservationNoise(Counter(1), float("nan")),
        lambda: FrameStack(Counter(1), 0),
    ):
        with pytest.raises(UsageError, match="expected"):
            wrong()
    masked = Grid(1, torch.device("cpu"))
    assert ActionDelay(masked, 0).mask is not None
    with pytest.raises(UsageError, match="forbidden by then"):
        ActionDelay(masked, 1)
    saved = Counter(1)
    saved.reset(0)
    with pytest.raises(UsageError, match="not saved by FrameStack"):
        FrameStack(Counter(1), 2).restore(saved.save())

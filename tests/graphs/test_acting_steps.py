"""Replayed rollouts beside the collector's ordinary ones: bit for bit the same, resets, moments and statistics included."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tape import again, capture, never, still_world
from torch import Tensor

from pistar.collector import Collector
from pistar.envs.arm_joint import ArmJoint
from pistar.envs.arm_reach import ArmReach
from pistar.envs.cartpole import CartPole
from pistar.envs.environment import Environment
from pistar.envs.native import NativeEnvironment, Transition, World
from pistar.envs.pendulum import Pendulum
from pistar.envs.puzzles.corridor import Corridor
from pistar.families import FAMILIES
from pistar.graphs.acting_steps import ActingStep
from pistar.graphs.capture import Capture, Still
from pistar.kernels.library import switched
from pistar.normalization import RewardScale
from pistar.policies.mlp import MLP
from pistar.tree import leaves

WORLDS = {"cartpole": CartPole, "pendulum": Pendulum, "arm-reach": ArmReach, "arm-joint": ArmJoint}


@pytest.fixture(autouse=True)
def without_kernels() -> Any:
    """Kernels are for CPUs; what is compared here is torch's arithmetic with torch's."""
    with switched(False):
        yield


def short(kind: Any, lanes: int = 6, limit: int = 7) -> Environment:
    """A world whose episodes end within a rollout, by the limit at least."""
    world: NativeEnvironment = kind(lanes, random_elapsed=True)
    world.time_limit = limit
    return world


def collector(world: Environment, how: Capture | None = None, distribution: str | None = None) -> Collector:
    settings = {} if distribution is None else {"distribution": distribution}
    policy = MLP(hidden=(16,), **settings).build(world.spaces, torch.Generator().manual_seed(1))
    if how is not None:
        still_world(world)
    made = Collector(world, policy, seed=3, reward_scale=RewardScale(world.lanes, 0.99), capture=how)
    made.start(12)
    return made


def assert_equal(mine: Any, theirs: Any) -> None:
    for (path, x), (_, y) in zip(leaves(mine), leaves(theirs), strict=True):
        assert torch.equal(x, y) if isinstance(x, Tensor) else x == y, "/".join(path)


@pytest.mark.parametrize("name", WORLDS)
def test_replayed_rollouts_are_the_ordinary_ones_bit_for_bit(name: str) -> None:
    ordinary, captured = collector(short(WORLDS[name])), collector(short(WORLDS[name]), capture)
    for number in range(4):
        expected, found = ordinary.collect(10), captured.collect(10)
        assert_equal(found, expected)
        assert ordinary.episodes > 0
        assert captured.info == pytest.approx(ordinary.info, rel=1e-6)  # a mean by torch, and one by NumPy
        assert (captured.steps, captured.episodes) == (ordinary.steps, ordinary.episodes)
        assert (captured.returns, captured.lengths) == (ordinary.returns, ordinary.lengths)
        for each, rollout in ((ordinary, expected), (captured, found)):
            each.absorb(rollout)  # moments move, in place
            with torch.no_grad():  # and so do weights
                for parameter in each.policy.parameters():
                    parameter.mul_(1.01 + 0.01 * number)
        if number == 1:
            for each, rollout in ((ordinary, expected), (captured, found)):
                each.cut(rollout)
    assert captured._graphs._step is not None
    assert_equal(captured.environment.save(), ordinary.environment.save())


@pytest.mark.parametrize("distribution", FAMILIES.names())
def test_every_family_of_actions_can_be_replayed(distribution: str) -> None:
    ordinary, captured = (collector(short(Pendulum), how, distribution) for how in (None, capture))
    for _ in range(2):
        assert_equal(captured.collect(9), ordinary.collect(9))
    assert captured._graphs._step is not None


def test_a_rollout_that_was_handed_out_is_not_written_to_by_the_next() -> None:
    captured = collector(short(CartPole), again)
    first = captured.collect(8)
    kept = copy.deepcopy(first)
    captured.collect(8)
    assert_equal(first, kept)


def test_another_horizon_and_a_new_beginning_are_captured_anew() -> None:
    ordinary, captured = collector(short(CartPole)), collector(short(CartPole), capture)
    for horizon in (8, 3, 8):
        assert_equal(captured.collect(horizon), ordinary.collect(horizon))
    for each in (ordinary, captured):
        each.seed = 4
        each.start()
    assert_equal(captured.collect(8), ordinary.collect(8))


def test_a_collector_goes_on_from_a_state_bit_for_bit() -> None:
    whole = collector(short(CartPole), capture)
    whole.collect(8)
    saved = copy.deepcopy(whole.state())
    expected = whole.collect(8)
    fresh = collector(short(CartPole), capture)
    fresh.collect(8)
    fresh.collect(8)
    fresh.returns.clear(), fresh.lengths.clear()
    fresh.load_state(saved)
    assert_equal(fresh.collect(8), expected)
    assert fresh.returns == whole.returns


class Silent(CartPole):
    """One that steps in a way of its own."""

    def step(self, action: Any) -> Any:
        return super().step(action)


class Looking(CartPole):
    """One whose dynamics read a number."""

    def dynamics(self, world: World, action: Tensor) -> Transition:
        return super().dynamics(world, action * int(float(world["state"].sum()) < 1e9))


class Drifting(CartPole):
    """One that keeps a number to itself, which a graph would repeat."""

    time = 0.0

    def dynamics(self, world: World, action: Tensor) -> Transition:
        self.time += 0.3
        after = super().dynamics(world, action)
        return Transition({"state": after.world["state"] + 1e-3 * self.time}, after.reward, after.terminated)


@pytest.mark.parametrize(
    ("kind", "how", "why"),
    [
        (Silent, capture, "does not say what it carries"),
        (Looking, capture, "makes the host wait"),
        (Drifting, capture, "of the lanes went otherwise than in eager steps"),
        (CartPole, never, "operation not permitted when stream is capturing"),
        (CartPole, lambda function: lambda: None, "of the lanes went otherwise than in eager steps"),
    ],
    ids=["says-nothing", "waits", "hides-state", "refused", "replays-nothing"],
)
def test_what_cannot_be_replayed_is_stepped_eagerly_and_told_once(
    kind: Any, how: Capture, why: str, caplog: Any
) -> None:
    captured = collector(short(kind), how)
    ordinary = collector(still_world(short(kind)))
    for _ in range(3):
        expected, found = ordinary.collect(8), captured.collect(8)
        if kind is not Drifting:  # whose own number has gone on meanwhile
            assert_equal(found, expected)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert told[0].startswith("rollouts are not captured as a CUDA graph and run eagerly: ")
    assert why in told[0]


def test_a_policy_with_a_memory_acts_as_ever() -> None:
    world = still_world(Corridor(4))
    policy = MLP(hidden=(8,), memory="gru", memory_size=4, segment=4).build(
        world.spaces, torch.Generator().manual_seed(0)
    )
    made = Collector(world, policy, seed=0, capture=capture)
    made.start()
    assert made.collect(8).memory is not None
    assert made._graphs._step is None


@pytest.mark.parametrize("name", WORLDS)
def test_a_step_stays_on_the_device(name: str) -> None:
    """On "meta", which has no numbers to read and refuses to meet another device, as a GPU would."""
    world = WORLDS[name](4, device="meta")
    world._seed = 0
    world._world = world._fresh()
    policy = MLP(hidden=(8,)).build(world.spaces, torch.Generator().manual_seed(0)).to("meta")
    noise = policy.head.noise((3, 4), None, torch.float32, "meta")  # type: ignore[arg-type]
    with torch.no_grad():
        step = ActingStep(world, policy, 3, world.observe(world._world), noise)
        with Still():
            step()

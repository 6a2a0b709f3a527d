"""Worlds written in torch: the contract, Gymnasium's equations, conserved energy, gradients, starts, restoring."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from pistar.envs import native_kernel
from pistar.envs.arm_joint import ArmJoint
from pistar.envs.arm_reach import MASSES, ArmReach, fingertip, inertia, runge_kutta
from pistar.envs.cartpole import CartPole
from pistar.envs.native import NativeEnvironment
from pistar.envs.pendulum import Pendulum
from pistar.errors import NumericalError, UsageError
from pistar.kernels import library
from pistar.testing import check_environment
from pistar.tree import map_leaves

WORLDS: list[Callable[..., NativeEnvironment]] = [CartPole, Pendulum, ArmReach, ArmJoint]
every_world = pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)


def actions_for(environment: NativeEnvironment, steps: int, seed: int = 0) -> list[Tensor]:
    """Random actions [B, ...] for each step."""
    space = environment.spaces.action
    space.seed(seed)
    return [torch.as_tensor(np.stack([space.sample() for _ in range(environment.lanes)])) for _ in range(steps)]


@every_world
def test_the_contract_is_kept(world: Callable[..., NativeEnvironment]) -> None:
    check_environment(world, steps=220)


@every_world
def test_a_staggered_environment_keeps_the_contract_of_its_steps(world: Callable[..., NativeEnvironment]) -> None:
    environment = world(64, random_elapsed=True)
    environment.reset(0)
    elapsed = environment.save()["elapsed"]
    assert int(elapsed.min()) >= 0
    assert int(elapsed.max()) < environment.time_limit
    assert len(elapsed.unique()) > 15
    environment.cut(torch.ones(64, dtype=torch.bool))
    assert int(environment.save()["elapsed"].max()) == 0


@pytest.mark.parametrize("kernels", [False, True])
@every_world
def test_stepping_equals_unrolling(world: Callable[..., NativeEnvironment], kernels: bool) -> None:
    """Bit for bit, and to float32 rounding where a kernel steps."""
    with library.switched(kernels):
        environment = world(3)
        environment.reset(1)
    exact = environment._kernel is None
    assert exact or kernels
    tolerance = {"rtol": 0.0, "atol": 0.0 if exact else 2e-5}
    actions = actions_for(environment, 8)
    rewards, last = environment.unroll(environment.world, torch.stack(actions))
    steps = [map_leaves(torch.clone, environment.step(action)) for action in actions]
    assert not any(bool(step.ended.any()) for step in steps)
    torch.testing.assert_close(torch.stack([step.reward for step in steps]), rewards, **tolerance)
    for name, value in environment.world.items():
        torch.testing.assert_close(value, last[name], **tolerance)


@pytest.mark.skipif(library.library() is None, reason="the kernels cannot be built here")
class TestKernels:
    KNOWN: tuple[Any, ...] = (CartPole, Pendulum, partial(ArmReach, gravity=9.81))

    @pytest.mark.parametrize("world", KNOWN)
    def test_a_kernel_goes_the_way_of_torch_through_ends_and_resets(self, world: Any) -> None:
        """Steps of both from the same states: what is seen, paid, flagged and begun is the same."""
        environment, other = world(16, random_elapsed=True), world(16)
        environment.time_limit = other.time_limit = 15
        environment.reset(3)
        assert environment._kernel is not None
        ends = 0
        for action in actions_for(environment, 60):
            with library.switched(False):
                other.restore(environment.save())
            assert other._kernel is None
            found, expected = environment.step(action), other.step(action)
            ends += int(found.ended.sum())
            for name in ("observation", "reward"):
                torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-4)
            assert torch.equal(found.terminated, expected.terminated)
            assert torch.equal(found.truncated, expected.truncated)
            assert (found.final_observation is None) == (expected.final_observation is None)
            if found.final_observation is not None and expected.final_observation is not None:
                rows = found.ended
                torch.testing.assert_close(
                    found.final_observation[rows], expected.final_observation[rows], rtol=1e-4, atol=1e-4
                )
            assert set(found.info) == set(expected.info)
            for name, value in found.info.items():
                torch.testing.assert_close(value, expected.info[name], rtol=1e-4, atol=1e-4)
            mine, theirs = environment.save(), other.save()
            for name in ("episode", "elapsed", "steps"):
                assert bool((torch.as_tensor(mine[name]) == torch.as_tensor(theirs[name])).all())
        assert ends > 60

    @pytest.mark.parametrize("world", KNOWN)
    def test_the_order_of_a_restored_state_does_not_matter(self, world: Any) -> None:
        one, other = world(4), world(4)
        one.reset(0)
        state = one.save()
        state["world"] = dict(reversed(state["world"].items()))
        other.restore(state)
        for action in actions_for(one, 5):
            found, expected = other.step(action), one.step(action)
            assert torch.equal(found.observation, expected.observation)
            assert torch.equal(found.reward, expected.reward)

    def test_a_world_of_ones_own_is_stepped_by_its_own_dynamics(self) -> None:
        class Heavier(CartPole):
            pass

        assert native_kernel.of(Heavier(2)) is None
        patched = CartPole(2)
        patched.dynamics = lambda world, action: CartPole.dynamics(patched, world, 1 - action)  # type: ignore[method-assign]
        assert native_kernel.of(patched) is None
        assert native_kernel.of(CartPole(2)) is not None

    def test_a_kernel_that_is_wrong_is_not_believed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(native_kernel, "_believed", {})
        monkeypatch.setattr("pistar.envs.cartpole.FORCE", 10.01)
        assert native_kernel.of(CartPole(2)) is None

    @pytest.mark.parametrize("field", ["reward", "observation", "final_observation"])
    def test_no_number_of_a_wrong_kernel_goes_unseen(self, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
        step = native_kernel.Kernel.step

        def broken(kernel: native_kernel.Kernel, action: Tensor) -> Any:
            found = step(kernel, action)
            assert found is not None
            tensor = getattr(found, field)
            return found if tensor is None else dataclasses.replace(found, **{field: tensor * torch.nan})

        monkeypatch.setattr(native_kernel, "_believed", {})
        monkeypatch.setattr(native_kernel.Kernel, "step", broken)
        assert native_kernel.of(ArmReach(2)) is None

    @pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
    def test_actions_of_any_integer_type_mean_the_same(self, dtype: torch.dtype) -> None:
        environment = CartPole(8)
        environment.reset(0)
        action = torch.tensor([0, 1, 0, 1, 1, 1, 0, 0])
        expected = environment.dynamics(environment.world, action).world["state"]
        environment.step(action.to(dtype))
        torch.testing.assert_close(environment.world["state"], expected)


def test_a_step_tells_how_an_episode_ended_and_what_was_seen_last() -> None:
    cart = CartPole(16, random_elapsed=True)
    cart.time_limit = 15  # about as long as random actions keep the pole up
    with library.switched(False):  # bit for bit
        cart.reset(0)
    elapsed, endings = cart.save()["elapsed"], set()
    for action in actions_for(cart, 100):
        after = cart.dynamics(cart.world, action)
        assert after.terminated is not None
        elapsed = elapsed + 1
        step = cart.step(action)
        assert torch.equal(step.terminated, after.terminated)
        assert torch.equal(step.truncated, elapsed >= cart.time_limit)
        assert (step.final_observation is None) == (not bool(step.ended.any()))
        if step.final_observation is not None:
            assert torch.equal(step.final_observation[step.ended], cart.observe(after.world)[step.ended])
        assert torch.equal(step.observation[~step.ended], cart.observe(after.world)[~step.ended])
        assert torch.equal(step.observation, cart.observe(cart.world))
        elapsed = elapsed.masked_fill(step.ended, 0)
        endings |= set(zip(step.terminated.tolist(), step.truncated.tolist(), strict=True))
    assert {(True, False), (False, True), (False, False)} <= endings


@every_world
def test_an_action_of_the_wrong_kind_is_refused(world: Callable[..., NativeEnvironment]) -> None:
    environment = world(3)
    with pytest.raises(UsageError, match="no episode yet"):
        environment.step(actions_for(environment, 1)[0])
    environment.reset(0)
    good = actions_for(environment, 1)[0]
    for bad in (good[:2], good.unsqueeze(-1), good.float() if not good.is_floating_point() else good.long()):
        with pytest.raises(UsageError, match="expects actions of shape"):
            environment.step(bad)


@pytest.mark.parametrize("world", [Pendulum, ArmReach])
def test_an_action_that_is_not_finite_is_refused_before_it_does_harm(world: Callable[..., NativeEnvironment]) -> None:
    environment = world(3)
    environment.reset(0)
    before = environment.world
    action = actions_for(environment, 1)[0]
    action[1] = torch.nan
    with pytest.raises(NumericalError, match="lane 1, step 0"):
        environment.step(action)
    for name, value in environment.world.items():
        assert torch.equal(value, before[name])


@every_world
def test_frames_show_what_changes(world: Callable[..., NativeEnvironment]) -> None:
    environment = world(2)
    environment.reset(0)
    first = environment.render(0)
    assert first is not None
    assert first.dtype == np.uint8
    assert first.shape == (480, 480, 3)
    for action in actions_for(environment, 6):
        environment.step(action)
    after, other = environment.render(0), environment.render(1)
    assert after is not None
    assert other is not None
    assert (after != first).any()
    assert (after != other).any()


@pytest.mark.parametrize(
    ("world", "identifier", "limits"),
    [(CartPole, "CartPole-v1", (2.0, 2.0, 0.18, 2.0)), (Pendulum, "Pendulum-v1", (3.1, 7.9))],
)
def test_one_step_equals_gymnasiums(
    world: Callable[..., NativeEnvironment], identifier: str, limits: tuple[float, ...]
) -> None:
    lanes = 200
    environment = world(lanes)
    other: Any = gymnasium.make(identifier).unwrapped
    other.reset(seed=0)
    generator = np.random.default_rng(0)
    states = generator.uniform(-1, 1, (lanes, len(limits))) * limits
    actions = actions_for(environment, 1)[0]
    as_world = (
        {"state": torch.tensor(states)}
        if world is CartPole
        else {"angle": torch.tensor(states[:, 0]), "turning": torch.tensor(states[:, 1])}
    )
    after = environment.dynamics(as_world, actions)
    seen = environment.observe(after.world)
    for lane in range(lanes):
        other.state = states[lane].copy()
        if world is CartPole:
            other.steps_beyond_terminated = None
        observation, reward, terminated, _, _ = other.step(actions[lane].numpy())
        np.testing.assert_allclose(seen[lane].numpy(), observation, rtol=1e-6, atol=1e-6)
        assert float(after.reward[lane]) == pytest.approx(float(reward), rel=1e-6)
        if after.terminated is not None:
            assert bool(after.terminated[lane]) == terminated
    for name in ("observation_space", "action_space"):
        mine = getattr(environment.spaces, name.removesuffix("_space"))
        theirs = getattr(other, name)
        assert type(mine) is type(theirs)
        assert mine.shape == theirs.shape
        if hasattr(mine, "low"):
            np.testing.assert_allclose(mine.low, theirs.low, rtol=1e-6)
            np.testing.assert_allclose(mine.high, theirs.high, rtol=1e-6)


def test_cartpole_ends_where_gymnasiums_does() -> None:
    limit = 12 * 2 * np.pi / 360
    rows = torch.tensor([[2.41, 0, 0, 0], [2.39, 0, 0, 0], [0, 0, limit + 1e-3, 0], [0, 0, -limit - 1e-3, 0.0]])
    after = CartPole(4).dynamics({"state": rows.double()}, torch.zeros(4, dtype=torch.int64))
    assert after.terminated is not None
    assert after.terminated.tolist() == [True, False, True, True]


class TestArmReach:
    def random_world(self, lanes: int = 16) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        draw = torch.randn(lanes, 6, generator=generator, dtype=torch.float64)
        return {"angle": draw[:, :2] * 2, "velocity": draw[:, 2:4] * 2, "target": draw[:, 4:]}

    @pytest.mark.parametrize("gravity", [0.0, 9.81])
    def test_energy_is_conserved_to_fourth_order(self, gravity: float, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pistar.envs.arm_reach.DAMPING", 0.0)
        arm, world = ArmReach(16, gravity=gravity), self.random_world()
        drift = []
        for step in (0.02, 0.01):
            q, v = world["angle"], world["velocity"]
            for _ in range(round(1.0 / step)):
                q, v = runge_kutta(arm, q, v, torch.zeros_like(q), step)
            change = arm.energy({"angle": q, "velocity": v}) - arm.energy(world)
            drift.append(float(change.abs().mean()))
        assert drift[1] < 1e-3 * float(arm.energy(world).abs().mean())
        assert drift[0] / drift[1] > 12  # a half step, at least 2⁴ times less error, up to higher orders

    def test_damping_takes_energy_and_torque_brings_power(self) -> None:
        arm, world = ArmReach(16), self.random_world()
        torque = torch.randn(16, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        step = 1e-4
        q, v = runge_kutta(arm, world["angle"], world["velocity"], torque, step)
        gained = (arm.energy({"angle": q, "velocity": v}) - arm.energy(world)) / step
        middle = (v + world["velocity"]) / 2
        power = ((torque - 0.1 * middle) * middle).sum(-1)
        torch.testing.assert_close(gained, power, rtol=1e-3, atol=1e-3)

    def test_the_equation_of_motion_is_lagranges(self) -> None:
        """d/dt ∂L/∂q̇ − ∂L/∂q = τ − D q̇, with L from the masses' own positions by automatic differentiation."""
        arm, world = ArmReach(16, gravity=9.81), self.random_world()
        torque = torch.randn(16, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

        def kinetic(q: Tensor, v: Tensor) -> Tensor:
            # Each rod as 2,000 slices, from their velocities: nothing of the formulas in the module.
            s = (torch.arange(2000, dtype=torch.float64)[:, None] + 0.5) / 2000
            elbow = torch.func.jvp(lambda a: 0.5 * torch.stack((a[0].cos(), a[0].sin())), (q,), (v,))[1]
            along = torch.func.jvp(lambda a: 0.4 * torch.stack((a.sum().cos(), a.sum().sin())), (q,), (v,))[1]
            upper, lower = (s * elbow).square().sum(-1).mean(), (elbow + s * along).square().sum(-1).mean()
            return MASSES[0] / 2 * upper + MASSES[1] / 2 * lower

        for lane in range(3):
            q, v, tau = world["angle"][lane], world["velocity"][lane], torque[lane]
            a = arm.acceleration(q[None], v[None], tau[None])[0]
            t1 = kinetic(q, v)
            m11, m12, m22 = (m[0] for m in inertia(q[None]))
            t2 = 0.5 * (m11 * v[0] ** 2 + 2 * m12 * v[0] * v[1] + m22 * v[1] ** 2)
            torch.testing.assert_close(t1, t2, rtol=1e-6, atol=1e-9)

            def momentum(q: Tensor, v: Tensor) -> Tensor:
                return torch.func.grad(kinetic, argnums=1)(q, v)

            def potential(q: Tensor) -> Tensor:
                return arm.energy({"angle": q[None], "velocity": torch.zeros(1, 2, dtype=torch.float64)})[0]

            change = torch.func.jvp(momentum, (q, v), (v, a))[1]
            force = torch.func.grad(kinetic)(q, v) - torch.func.grad(potential)(q)
            torch.testing.assert_close(change - force, tau - 0.1 * v, rtol=1e-5, atol=1e-5)

    def test_gradients_flow_through_the_dynamics(self) -> None:
        arm = ArmReach(2)
        world = {name: value[:2] for name, value in self.random_world().items()}
        actions = (
            0.3 * torch.randn(4, 2, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        ).requires_grad_()
        assert torch.autograd.gradcheck(lambda a: arm.unroll(world, a)[0], (actions,), atol=1e-6)

    def test_the_observation_holds_the_reward_and_targets_can_be_reached(self) -> None:
        arm = ArmReach(500)
        observation = arm.reset(0)
        radius = observation[:, 4:6].square().sum(-1).sqrt()
        assert float(radius.min()) >= 0.149
        assert float(radius.max()) <= 0.851
        torch.testing.assert_close(observation[:, 8:], fingertip(arm.world["angle"]) - observation[:, 4:6])
        step = arm.step(torch.zeros(500, 2))
        torch.testing.assert_close(step.reward, -step.observation[:, 8:].square().sum(-1).sqrt())
        assert torch.equal(step.info["success"] > 0, step.info["distance"] < 0.03)


class TestArmJoint:
    def test_the_reward_is_minus_the_squared_error_after_the_move(self) -> None:
        arm = ArmJoint(50)
        arm.reset(0)
        for action in actions_for(arm, 30):
            step = arm.step(action)
            error = step.observation[:, 4:]
            torch.testing.assert_close(step.observation[:, 2:4] - step.observation[:, :2], error)
            torch.testing.assert_close(step.reward, -error.square().sum(-1))

    def test_moves_stop_at_the_limits_and_at_forbidden_cells(self) -> None:
        wall = torch.zeros(5, 5, dtype=torch.bool)
        wall[2, 1:] = True
        arm = ArmJoint(1, positions=5, forbidden=wall)
        every = torch.cartesian_prod(torch.arange(5), torch.arange(5))
        free = every[~wall.flatten()]
        after = arm.moved(free.unsqueeze(1), torch.arange(9))
        assert not wall[after[..., 0], after[..., 1]].any()
        assert int((after - free.unsqueeze(1)).abs().max()) == 1
        assert int(after.min()) == 0
        assert int(after.max()) == 4
        crossed = (free[:, None, 0] < 2) & (after[..., 0] > 2)
        assert not crossed.any()
        east = arm.moves.tolist().index([1, 0])
        assert arm.moved(torch.tensor([[1, 3], [1, 0]]), torch.tensor([east, east])).tolist() == [[1, 3], [2, 0]]

    @pytest.mark.parametrize("joints", [1, 2, 3])
    def test_any_number_of_joints(self, joints: int) -> None:
        arm = ArmJoint(4, joints=joints, positions=5)
        assert arm.spaces.action.n == 3**joints  # type: ignore[attr-defined]
        assert arm.reset(0).shape == (4, 3 * joints)
        number = torch.arange(5**joints)
        assert torch.equal(arm.number(arm.cell(number)), number)

    def test_starts_and_goals_are_uniform_over_free_cells(self) -> None:
        wall = torch.zeros(4, 4, dtype=torch.bool)
        wall[1, 1:3] = True
        arm = ArmJoint(14_000, positions=4, forbidden=wall)
        arm.reset(0)
        for cells in arm.world.values():
            count = torch.bincount(arm.number(cells), minlength=16)
            assert int(count[wall.flatten()].sum()) == 0
            expected = 14_000 / 14
            assert float(((count[~wall.flatten()] - expected) ** 2 / expected).sum()) < 40  # χ², 13 degrees of freedom

    @pytest.mark.parametrize(
        "settings",
        [
            {"joints": 0},
            {"positions": 1},
            {"limit": 4.0},
            {"goal": (1,)},
            {"goal": (0, 21)},
            {"forbidden": torch.ones(21, 21, dtype=torch.bool)},
            {"joints": 9, "positions": 21},
        ],
    )
    def test_impossible_arms_are_refused(self, settings: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match=r"expected|must"):
            ArmJoint(1, **settings)

"""Captured gradient steps beside the learner's ordinary ones: the same parameters, metrics, stops and refusals."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tape import again, capture, never

from pistar.algorithms.a2c import A2C
from pistar.algorithms.ppo import PPO
from pistar.algorithms.ppo_penalty import PPOPenalty
from pistar.algorithms.spo import SPO
from pistar.collector import Collector
from pistar.envs.cartpole import CartPole
from pistar.envs.environment import Spaces
from pistar.envs.pendulum import Pendulum
from pistar.errors import NumericalError
from pistar.families import FAMILIES
from pistar.graphs.capture import Capture, NotStill, Still
from pistar.graphs.gradient_steps import MOST, Flags, GradientStep, Loss
from pistar.kernels.library import switched
from pistar.learner import Learner
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.rollout import Batch, Rollout
from pistar.schedules import constant, linear
from pistar.tree import map_leaves

ROUNDING = {"rtol": 2e-4, "atol": 2e-6}  # Adam divides by √v, which makes rounding larger where v is small


@pytest.fixture(autouse=True)
def without_kernels() -> Any:
    """Kernels are for CPUs; what is compared here is torch's arithmetic with torch's."""
    with switched(False):
        yield


def rollout_of(discrete: bool) -> tuple[Policy, Rollout]:
    world = (CartPole if discrete else Pendulum)(8, random_elapsed=True)
    policy = MLP(hidden=(16,)).build(world.spaces, torch.Generator().manual_seed(1))
    collector = Collector(world, policy, seed=3)
    collector.start(64)
    return policy, collector.collect(20)


def pair(policy: Policy, how: Capture = capture, **options: Any) -> tuple[Learner, Learner]:
    """An ordinary learner, and one whose steps are captured, of the same policy and seed."""
    settings = {"learning_rate": 1e-2, "max_gradient_norm": 0.5, "seed": 5, **options}
    return Learner(copy.deepcopy(policy), **settings), Learner(copy.deepcopy(policy), capture=how, **settings)


def after_some_steps() -> tuple[Learner, Any, Any]:
    """A learner whose steps on a loss and a batch are captured and trusted by now; loss and batch."""
    policy, rollout = rollout_of(True)
    _, learner = pair(policy)
    algorithm = PPO()
    loss, batch = partial(algorithm.loss, clip=0.2, entropy_weight=0.0), algorithm.estimate(policy, rollout)
    for _ in range(4):
        learner.descend(loss, batch)
    learner.settle()
    return learner, loss, batch


def both(algorithm: Any, rollout: Rollout, learners: tuple[Learner, Learner], iterations: int = 3) -> list[Any]:
    """Some iterations of each; their metrics, pairwise."""
    found = []
    states = [algorithm.init(each.policy, rollout.shape[1]) for each in learners]
    for number in range(iterations):
        metrics = []
        for which, learner in enumerate(learners):
            learner.set_learning_rate(1e-2 / (1 + number))
            states[which], told = algorithm.improve(learner, rollout, states[which], number / iterations)
            learner.settle()
            metrics.append(told)
        found.append(metrics)
    return found


ALGORITHMS = [
    PPO(epochs=3, minibatch=48, entropy_weight=linear(0.02, 0.0), normalize_advantages=True),
    PPO(epochs=2, minibatch=64, max_kl=1e-3),
    PPO(epochs=2, minibatch=64, wanted_kl=0.01),
    PPOPenalty(epochs=2, minibatch=64),
    SPO(epochs=2, minibatch=64),
    A2C(),
]


@pytest.mark.parametrize("discrete", [True, False], ids=["discrete", "continuous"])
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: f"{type(a).__name__}-{ALGORITHMS.index(a)}")
def test_replayed_steps_learn_what_ordinary_steps_learn(algorithm: Any, discrete: bool) -> None:
    policy, rollout = rollout_of(discrete)
    ordinary, captured = learners = pair(policy)
    for expected, found in both(algorithm, rollout, learners):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    torch.testing.assert_close(captured.parameters, ordinary.parameters, **ROUNDING)
    assert captured.updates == ordinary.updates
    assert torch.equal(captured.generator.get_state(), ordinary.generator.get_state())
    steps = captured._graphs
    assert steps is not None
    assert not steps._refused
    assert steps._steps


@pytest.mark.parametrize("distribution", FAMILIES.names())
def test_steps_of_every_family_of_actions_can_be_replayed(distribution: str) -> None:
    world = Pendulum(8, random_elapsed=True)
    policy = MLP(hidden=(16,), distribution=distribution).build(world.spaces, torch.Generator().manual_seed(1))
    collector = Collector(world, policy, seed=3)
    collector.start(64)
    ordinary, captured = learners = pair(policy)
    both(PPO(epochs=2, minibatch=80, entropy_weight=constant(0.01)), collector.collect(20), learners, 2)
    torch.testing.assert_close(captured.parameters, ordinary.parameters, **ROUNDING)
    assert captured._graphs is not None
    assert not captured._graphs._refused


@pytest.mark.parametrize("distribution", FAMILIES.names())
def test_a_step_stays_on_the_device(distribution: str, monkeypatch: Any) -> None:
    """On "meta", which has no numbers to read and refuses to meet another device, as a GPU would."""
    generator = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device=None: generator())
    world = Pendulum(4)
    policy = MLP(hidden=(8,), distribution=distribution).build(world.spaces, generator().manual_seed(1)).to("meta")
    learner = Learner(
        policy, optimizer="sgd", capture=capture, max_gradient_norm=0.5
    )  # torch's fused Adam knows no "meta"
    action = policy.head(policy.outputs(torch.zeros(6, 3, device="meta"))[0]).mode()
    batch = Batch(torch.zeros(6, 3, device="meta"), action.detach(), *torch.zeros(3, 6, device="meta"))
    loss = Loss(partial(PPO(normalize_advantages=True).loss, clip=0.2, entropy_weight=0.01))
    step = GradientStep(learner, Flags(learner.parameters.device), loss, batch, list(learner.slices))
    step()  # makes what is made once
    with Still():
        step()
    assert step.outcome()["kl"].device.type == "meta"


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_every_number_of_a_step_may_change_between_replays(optimizer: Any) -> None:
    policy, rollout = rollout_of(True)
    ordinary, captured = pair(policy, optimizer=optimizer)
    algorithm = PPO(normalize_advantages=True)
    batch = algorithm.estimate(policy, rollout)
    for rate, clip, weight in ((1e-2, 0.2, 0.1), (3e-3, 0.05, 0.0), (1e-4, 0.5, 1.0)):
        for learner in (ordinary, captured):
            learner.set_learning_rate(rate)
            learner.descend(partial(algorithm.loss, clip=clip, entropy_weight=weight), batch)
    torch.testing.assert_close(captured.parameters, ordinary.parameters, **ROUNDING)
    assert captured._graphs is not None
    assert len(captured._graphs._steps) == 1


def kl_stops(policy: Policy, rollout: Rollout, how: Capture | None) -> tuple[list[dict[str, float]], Learner]:
    """Four iterations with a limit that most of them meet, each on the rollout as the policy would then have acted."""
    algorithm = PPO(epochs=6, minibatch=40, max_kl=0.003)
    learner = Learner(copy.deepcopy(policy), learning_rate=5e-3, seed=5, capture=how)
    metrics = []
    for _ in range(4):
        acted = dataclasses.replace(rollout, log_prob=rollout.log_probs(learner.policy))
        metrics.append(algorithm.improve(learner, acted, {}, 0.0)[1])
        learner.settle()
    return metrics, learner


def test_stopping_on_the_device_is_stopping_on_the_host() -> None:
    """Parameters, moments, metrics, counts and the random stream, iteration after iteration."""
    policy, rollout = rollout_of(True)
    expected, ordinary = kl_stops(policy, rollout, None)
    found, captured = kl_stops(policy, rollout, capture)
    epochs = [each["epochs"] for each in expected]
    assert any(1 < each < 6 for each in epochs), f"nothing is shown by runs of {epochs} epochs"
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    torch.testing.assert_close(captured.parameters, ordinary.parameters, **ROUNDING)
    assert captured.updates == ordinary.updates
    assert captured.state()["moments"]["actor"]["step"] == ordinary.state()["moments"]["actor"]["step"]
    assert torch.equal(captured.generator.get_state(), ordinary.generator.get_state())
    assert captured._graphs is not None
    assert not captured._graphs._refused


def test_a_skipped_step_changes_no_bit() -> None:
    learner, loss, batch = after_some_steps()
    before, updates = learner.state(), learner.updates
    before = {"parameters": before["parameters"].clone(), "moments": copy.deepcopy(before["moments"])}
    assert learner.stop(torch.tensor(True)) is False
    outcome = learner.descend(loss, batch)
    learner.settle()
    assert torch.equal(learner.parameters, before["parameters"])
    for part, moments in before["moments"].items():
        for name, value in moments.items():
            assert torch.equal(learner.state()["moments"][part][name], value), name
    assert learner.updates == updates
    assert not any(float(value) for value in outcome.values())
    learner.descend(loss, batch)  # the next iteration goes on
    assert not torch.equal(learner.parameters, before["parameters"])


@pytest.mark.parametrize("poison", ["advantage", "target"])
def test_nothing_moves_from_a_step_on_that_is_not_finite(poison: str) -> None:
    learner, loss, batch = after_some_steps()
    good, updates = learner.parameters.clone(), learner.updates
    bad = dataclasses.replace(batch, **{poison: torch.full_like(batch.target, math.nan)})
    learner.descend(loss, bad)
    learner.descend(loss, batch)
    assert torch.equal(learner.parameters, good)
    with pytest.raises(NumericalError, match="not finite after 4 updates: norm nan"):
        learner.settle()
    assert learner.updates == updates


def test_what_is_captured_never_makes_the_host_wait() -> None:
    """`capture` itself looks; here the look is shown to see what it is for."""
    x, flags = torch.arange(4.0), torch.tensor([True, False, True, False])
    for wait in (
        lambda: float(x.sum()),
        lambda: bool(flags.any()),
        lambda: x[flags],
        lambda: x.nonzero(),
        lambda: x.masked_select(flags),
        lambda: x.index_put_((flags,), torch.zeros(())),
        lambda: torch.tensor([1.0, 2.0]),
        lambda: x.new_tensor([1.0]),
        lambda: x.unique(),
        lambda: x.to("meta"),
        lambda: torch.equal(x, x),
        lambda: torch.repeat_interleave(x, x.long()),
    ):
        with pytest.raises(NotStill), Still():
            wait()
    with Still():
        torch.where(flags, x, 0.0).masked_fill(flags, 1.0)
        assert x[torch.zeros(1, dtype=torch.int64)].shape == (1,)


@pytest.mark.parametrize("how", [never, lambda function: lambda: None], ids=["refused", "replays-nothing"])
def test_a_capture_that_fails_or_differs_leaves_the_ordinary_steps(how: Capture, caplog: Any) -> None:
    policy, rollout = rollout_of(True)
    ordinary, captured = learners = pair(policy, how, max_gradient_norm=0.0)
    with caplog.at_level(logging.WARNING, "pistar"):
        for expected, found in both(PPO(epochs=2, minibatch=80, max_kl=0.02), rollout, learners):
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    torch.testing.assert_close(captured.parameters, ordinary.parameters, **ROUNDING)
    assert captured.updates == ordinary.updates
    assert len(caplog.records) == 1
    assert "PPO.loss with 80 rows are not captured as a CUDA graph and run eagerly" in caplog.text


def test_a_step_is_compared_again_with_other_numbers(caplog: Any) -> None:
    policy, rollout = rollout_of(True)

    class Forgetful(PPO):
        """One that computes with Python's numbers, which change."""

        def loss(self, policy: Policy, batch: Batch, clip: float, entropy_weight: float) -> Any:
            value, metrics = super().loss(policy, batch, clip, entropy_weight)
            return value * (1.0 + now[0]), metrics

    now = [0.0]
    _, learner = pair(policy, max_gradient_norm=0.0, optimizer="sgd")
    algorithm = Forgetful()
    batch = algorithm.estimate(policy, rollout)
    for factor in (0.0, 1.0, 2.0):
        now[0] = factor
        learner.descend(partial(algorithm.loss, clip=0.2, entropy_weight=0.0), batch)
    assert "off by 0.5 of the step's length" in caplog.text


class Waiting(PPO):
    """A loss that reads a number of the device."""

    def loss(self, policy: Policy, batch: Batch, clip: float, entropy_weight: float) -> Any:
        value, metrics = super().loss(policy, batch, clip, entropy_weight)
        return value * (1.0 if float(value.detach()) > -1e9 else 0.0), metrics


def test_a_loss_that_waits_for_the_device_runs_eagerly(caplog: Any) -> None:
    policy, rollout = rollout_of(True)
    ordinary, captured = learners = pair(policy)
    both(Waiting(epochs=1, minibatch=80), rollout, learners)
    torch.testing.assert_close(captured.parameters, ordinary.parameters, **ROUNDING)
    assert "makes the host wait" in caplog.text


def test_closures_and_arguments_that_are_no_numbers_run_eagerly_and_are_told_once(caplog: Any) -> None:
    policy, rollout = rollout_of(True)
    ordinary, captured = pair(policy)
    algorithm = PPO()
    batch = algorithm.estimate(policy, rollout)
    for number in range(3):
        for learner in (ordinary, captured):
            learner.descend(lambda policy, steps, n=number: algorithm.loss(policy, steps, 0.2, 0.01 * n), batch)
            learner.descend(partial(algorithm.loss, clip=torch.tensor(0.2), entropy_weight=0.0), batch)
    torch.testing.assert_close(captured.parameters, ordinary.parameters, **ROUNDING)
    told = [record.getMessage() for record in caplog.records]
    assert len([each for each in told if "argument clip is a Tensor" in each]) == 1
    assert captured.updates == 6


def test_shapes_that_never_come_again_are_not_captured_for_ever(caplog: Any) -> None:
    policy, rollout = rollout_of(True)
    _, learner = pair(policy, again)
    algorithm = PPO()
    batch = algorithm.estimate(policy, rollout)
    for rows in range(2, MOST + 6):
        some = map_leaves(lambda x, rows=rows: x[:rows], batch)
        for _ in range(2):
            learner.descend(partial(algorithm.loss, clip=0.2, entropy_weight=0.0), some)
    learner.settle()
    assert learner._graphs is not None
    assert len(learner._graphs._steps) == MOST
    assert learner.updates == 2 * (MOST + 4)
    assert [f"{MOST} different steps are captured already" in each.getMessage() for each in caplog.records] == [True]


def test_a_learner_with_captured_steps_goes_on_from_a_state_bit_for_bit() -> None:
    policy, rollout = rollout_of(True)
    algorithm = PPO(epochs=2, minibatch=80)
    whole, used, fresh = (Learner(copy.deepcopy(policy), learning_rate=1e-2, seed=2, capture=capture) for _ in range(3))
    saved: dict[str, Any] = {}
    for number in range(4):
        algorithm.improve(whole, rollout, {}, 0.0)
        whole.settle()
        if number == 1:
            saved = copy.deepcopy(whole.state())
    algorithm.improve(used, rollout, {}, 0.0)  # something is captured already
    used.settle()
    ordinary = Learner(copy.deepcopy(policy), learning_rate=1e-2, seed=2)
    for learner in (used, fresh, ordinary):
        learner.load_state(saved)
        for _ in range(2):
            algorithm.improve(learner, rollout, {}, 0.0)
            learner.settle()
        assert learner.updates == whole.updates
    assert torch.equal(used.parameters, whole.parameters)
    assert torch.equal(fresh.parameters, whole.parameters)
    torch.testing.assert_close(ordinary.parameters, whole.parameters, **ROUNDING)


def test_the_products_of_dense_layers_can_be_bfloat16_in_acting_and_learning_alike() -> None:
    from pistar.networks import Tower, set_precision

    space = Spaces(spaces.Box(-1.0, 1.0, (4,), np.float32), spaces.Discrete(2))
    policy = MLP(hidden=(16,)).build(space, torch.Generator().manual_seed(0))
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
    exact = policy.outputs(x)[0].detach()
    set_precision(policy, "bfloat16")
    rounded = policy.outputs(x)[0].detach()
    assert rounded.dtype == torch.float32
    assert 0 < float((rounded - exact).abs().max()) < 0.02
    action = torch.zeros(32, dtype=torch.int64)
    assert torch.equal(policy.evaluate(x, action).log_prob, policy.head(rounded).log_prob(action))
    policy.evaluate(x, action).critic_value().sum().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in policy.parameters())
    assert any(isinstance(module, Tower) for module in policy.modules())


def test_captured_steps_in_bfloat16_are_the_eager_ones() -> None:
    from pistar.networks import set_precision

    policy, rollout = rollout_of(True)
    set_precision(policy, "bfloat16")
    ordinary, captured = learners = pair(policy)
    both(PPO(epochs=2, minibatch=80), rollout, learners)
    torch.testing.assert_close(captured.parameters, ordinary.parameters, rtol=1e-2, atol=1e-4)
    assert captured._graphs is not None
    assert not captured._graphs._refused

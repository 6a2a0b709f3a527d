"""What bounds a step of TRPO, of natural policy gradient and of PPO's relatives, recomputed by formulas of this file's own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pistar.algorithms import natural_step
from pistar.algorithms.adaptive_rate import HIGHEST, LOWEST, adapt
from pistar.algorithms.npg import NPG
from pistar.algorithms.ppo import PPO
from pistar.algorithms.ppo_penalty import PPOPenalty
from pistar.algorithms.trpo import TRPO
from pistar.heads import HIGHEST_LOG_STD, LOWEST_LOG_STD
from pistar.learner import Learner
from pistar.objectives import standardize
from pistar.policy import ActorCritic, Policy
from pistar.rollout import Rollout
from pistar.schedules import constant, linear
from pistar.session import Session
from pistar.tasks.task import Actions
from pistar.testing import check_algorithm
from pistar.testing.algorithms.trials import Trial, iterate, session
from pistar.testing.algorithms.worlds import Corridor

SLACK = 1 + 1e-4
SMALL = {"lanes": 4, "horizon": 64}


@pytest.fixture(params=["discrete", "continuous"])
def actions(request: pytest.FixtureRequest) -> Any:
    return request.param


def opened(algorithm: Any, actions: Actions, **training: Any) -> Any:
    return session(Trial(algorithm, None, {**SMALL, **training}, actions, 3).experiment(Corridor(actions)))


def outputs(policy: Policy, rollout: Rollout) -> tuple[np.ndarray, np.ndarray | None]:
    """In double precision and by torch's own layers: log-probabilities [N, n] of indices, or means and log σ [N, A]."""
    exact = copy.deepcopy(policy).double()
    with torch.no_grad():
        raw = exact.outputs(rollout.observation.double().flatten(0, 1))[0].numpy()
    if not any(name.endswith("log_std") for name, _ in policy.named_parameters()):
        return raw - np.log(np.exp(raw).sum(-1, keepdims=True)), None
    assert isinstance(exact, ActorCritic)
    deviation = exact.head.get_parameter("log_std").detach().numpy()
    return raw, np.clip(deviation, LOWEST_LOG_STD, HIGHEST_LOG_STD) + 0 * raw


def mean_kl(before: Policy, after: Policy, rollout: Rollout) -> float:
    """E_s[KL(before ‖ after)]."""
    (p, p_log_std), (q, q_log_std) = outputs(before, rollout), outputs(after, rollout)
    if p_log_std is None or q_log_std is None:
        return float((np.exp(p) * (p - q)).sum(-1).mean())
    variance, other = np.exp(2 * p_log_std), np.exp(2 * q_log_std)
    return float((q_log_std - p_log_std + (variance + (p - q) ** 2) / (2 * other) - 0.5).sum(-1).mean())


def surrogate(before: Policy, after: Policy, rollout: Rollout, advantage: Tensor) -> float:
    """E[r A]."""
    action = rollout.action.flatten(0, 1).numpy()
    found = []
    for policy in (before, after):
        mean, log_std = outputs(policy, rollout)
        if log_std is None:
            found.append(mean[np.arange(len(action)), action])
        else:
            found.append((-0.5 * ((action - mean) / np.exp(log_std)) ** 2 - log_std).sum(-1))
    return float((np.exp(found[1] - found[0]) * advantage.numpy()).mean())


def updates(running: Session, count: int) -> Iterator[tuple[Policy, Policy, Rollout, dict[str, float]]]:
    """Policies before and after each of some updates, the experience between, and what was reported."""
    improve: Callable[[Any], dict[str, float]] = running.improve
    seen: list[Any] = []

    def watched(experience: Any) -> dict[str, float]:
        before = copy.deepcopy(running.policy)
        metrics = improve(experience)
        seen.append((before, copy.deepcopy(running.policy), copy.deepcopy(experience), metrics))
        return metrics

    running.improve = watched  # type: ignore[method-assign]
    for _ in range(count):
        iterate(running)
        yield seen.pop()


def actor(policy: Policy) -> Tensor:
    return nn.utils.parameters_to_vector(policy.parts()["actor"]).detach()


@pytest.mark.parametrize("max_kl", [1e-5, 0.01, 0.3])
def test_every_step_of_trpo_keeps_the_exact_mean_divergence_within_its_bound(actions: Actions, max_kl: float) -> None:
    algorithm, accepted, far = TRPO(max_kl=constant(max_kl)), 0, 0
    with opened(algorithm, actions) as running:
        for before, after, rollout, metrics in updates(running, 12):
            found = mean_kl(before, after, rollout)
            assert found <= max_kl * SLACK
            assert metrics["kl"] == pytest.approx(found, rel=1e-3, abs=1e-9)
            advantage = standardize(algorithm.estimate(before, rollout).advantage)
            risen = surrogate(before, after, rollout, advantage)
            if metrics["step"] > 0:
                accepted += 1
                far += found > 0.1 * max_kl
                assert risen > 0
                assert metrics["improvement"] == pytest.approx(risen, rel=0.01, abs=1e-5)
            else:
                assert torch.equal(actor(before), actor(after))
                assert metrics["kl"] == metrics["improvement"] == 0.0
    assert accepted >= 8
    assert far >= 3  # or the bound would say nothing


def test_a_bound_that_falls_is_that_of_each_update(actions: Actions) -> None:
    bound, count = linear(0.03, 1e-4), 12
    with opened(TRPO(max_kl=bound), actions, schedule_steps=count * SMALL["lanes"] * SMALL["horizon"]) as running:
        found = [mean_kl(*rest) / bound.at(k / count) for k, (*rest, _) in enumerate(updates(running, count))]
    assert max(found) <= SLACK
    assert sum(ratio > 0.1 for ratio in found) >= 8
    assert max(found[8:]) > 0.3  # where the first bound would be far away


def test_a_step_that_the_quadratic_form_makes_too_long_is_shortened(actions: Actions) -> None:
    """Without damping F foresees the divergence; where it is wrong by much, the first length does not do."""
    with opened(TRPO(max_kl=constant(2.0), damping=1e-3), actions) as running:
        outcomes = [(metrics["step"], mean_kl(*rest)) for *rest, metrics in updates(running, 12)]
    steps = [step for step, _ in outcomes]
    assert any(0 < step < 1 for step in steps)
    assert all(kl <= 2.0 * SLACK for _, kl in outcomes)
    assert all(
        step == 0 or np.log(step) / np.log(0.8) == pytest.approx(round(np.log(step) / np.log(0.8))) for step in steps
    )


def test_where_no_length_is_accepted_the_actor_stays_and_the_critic_learns(actions: Actions) -> None:
    with opened(TRPO(max_kl=constant(50.0), damping=1e-4, line_search=1), actions) as running:
        refused = 0
        for before, after, _, metrics in updates(running, 8):
            refused += metrics["step"] == 0
            assert torch.equal(actor(before), actor(after)) == (metrics["step"] == 0)
            critics = [nn.utils.parameters_to_vector(policy.parts()["critic"]) for policy in (before, after)]
            assert not torch.equal(*critics)
    assert refused > 0


def test_npg_reports_the_divergence_of_its_step(actions: Actions) -> None:
    with opened(NPG(damping=1e-3), actions) as running:
        found = [(mean_kl(*rest), metrics["kl"]) for *rest, metrics in updates(running, 8)]
    for truth, reported in found:
        assert reported == pytest.approx(truth, rel=1e-3)
    assert 0.003 < np.mean([truth for truth, _ in found]) < 0.03  # 0.01 to second order


def test_a_fixed_step_of_npg_is_as_long_as_its_schedule_says(actions: Actions) -> None:
    with opened(NPG(step=constant(0.01)), actions) as one, opened(NPG(step=constant(0.02)), actions) as two:
        lengths = []
        for running in (one, two):
            ((before, after, _, metrics),) = updates(running, 1)
            lengths.append(actor(after) - actor(before))
            assert metrics["step"] == running.algorithm.step.start
    torch.testing.assert_close(2 * lengths[0], lengths[1], rtol=1e-3, atol=1e-6)
    assert float(lengths[0].norm()) > 1e-3


# PPO with a penalty.


def test_the_penalty_follows_the_exact_divergence_over_the_whole_rollout(actions: Actions) -> None:
    algorithm, penalty, moves = PPOPenalty(epochs=4, minibatch=32), 1.0, set()
    with opened(algorithm, actions, learning_rate=3e-3) as running:
        for before, after, rollout, metrics in updates(running, 12):
            found = mean_kl(before, after, rollout)
            assert metrics["kl"] == pytest.approx(found, rel=1e-2, abs=1e-6)
            assert metrics["penalty"] == penalty
            factor = 2.0 if found > 0.015 else 0.5 if found < 0.01 / 1.5 else 1.0
            penalty *= factor
            moves.add(factor)
            assert running.state == {"penalty": penalty}
    assert len(moves) > 1


def test_the_penalty_keeps_within_its_bounds() -> None:
    algorithm, penalty = PPOPenalty(), 1.0
    for kl in [1.0] * 40:
        penalty = algorithm.adapted(penalty, kl)
    assert penalty == 1e4
    for kl in [0.0] * 60:
        penalty = algorithm.adapted(penalty, kl)
    assert penalty == 1e-4
    assert algorithm.adapted(penalty, 1.0) == 2e-4


def test_a_dearer_divergence_is_a_smaller_one(actions: Actions) -> None:
    moved = []
    for penalty in (0.1, 30.0):
        with opened(PPOPenalty(penalty=penalty, epochs=4, minibatch=32), actions, learning_rate=3e-3) as running:
            ((before, after, rollout, _),) = updates(running, 1)
            moved.append(mean_kl(before, after, rollout))
    assert moved[1] < 0.5 * moved[0]


def test_the_slope_of_the_penalty_is_that_of_the_exact_divergence(actions: Actions) -> None:
    """Far from the old policy, since near it there is none."""
    algorithm = PPOPenalty()
    with opened(algorithm, actions) as running:
        iterate(running)
        policy, rollout = running.policy, running.collector.collect(16)
        batch = algorithm.estimate(policy, rollout)
        batch.old = natural_step.acting(policy, batch)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in policy.parts()["actor"]:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        slopes = [
            torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(algorithm.loss(policy, batch, price, 0.0)[0], policy.parts()["actor"])
                ]
            )
            for price in (0.0, 1.0)
        ]
        kl = batch.old.kl(natural_step.distribution(policy, batch)).mean()
        truth = torch.cat([g.flatten() for g in torch.autograd.grad(kl, policy.parts()["actor"])])
    torch.testing.assert_close(slopes[1] - slopes[0], truth, rtol=1e-3, atol=1e-5)
    assert float(truth.norm()) > 1e-2


# A learning rate that follows the divergence.


def a_learner(rate: float) -> Learner:
    with opened(PPO(), "discrete") as running:
        return Learner(running.policy, learning_rate=rate)


@pytest.mark.parametrize(
    ("kl", "factor"), [(0.03, 1 / 1.5), (0.0201, 1 / 1.5), (0.0199, 1), (0.0051, 1), (0.0049, 1.5), (0, 1)]
)
def test_the_rate_moves_by_half_where_the_divergence_is_off_by_twice(kl: float, factor: float) -> None:
    learner = a_learner(1e-3)
    learner.set_learning_rate(2e-3, "critic")
    adapt(learner, kl, 0.01)
    assert learner.learning_rates() == pytest.approx({"actor": 1e-3 * factor, "critic": 2e-3 * factor})


def test_the_rate_keeps_within_its_bounds() -> None:
    learner = a_learner(1e-3)
    for _ in range(20):
        adapt(learner, 1.0, 0.01)
    assert learner.learning_rates() == {"actor": LOWEST, "critic": LOWEST}
    for _ in range(40):
        adapt(learner, 0.001, 0.01)
    assert learner.learning_rates() == {"actor": HIGHEST, "critic": HIGHEST}


def test_ppo_carries_the_rate_from_iteration_to_iteration_whatever_the_schedule_says() -> None:
    once = PPO(wanted_kl=0.01, epochs=1, minibatch=10**6)  # before the only step there is no divergence to follow
    with opened(once, "discrete", learning_rate={"from": 1e-4, "to": 0.0}) as running:
        first = [metrics["learning_rate"] for *_, metrics in updates(running, 3)]
        assert first == [1e-4] * 3
        running.state = {"learning_rate": {"actor": 5e-3, "critic": 2e-3}}
        ((before, after, _, metrics),) = updates(running, 1)
        assert running.state == {"learning_rate": {"actor": 5e-3, "critic": 2e-3}}
        assert metrics["learning_rate"] == 5e-3
        assert float((actor(after) - actor(before)).abs().max()) > 2e-3  # Adam's steps are as long as the rate


@pytest.mark.parametrize(("wanted", "up"), [(0.1, True), (1e-6, False)])
def test_ppo_moves_the_rate_towards_the_divergence_that_is_wanted(wanted: float, up: bool) -> None:
    with opened(PPO(wanted_kl=wanted, epochs=1, minibatch=32), "discrete", learning_rate=1e-4) as running:
        ((*_, metrics),) = updates(running, 1)
    assert (metrics["learning_rate"] > 1.5e-4) if up else (metrics["learning_rate"] < 7e-5)


def test_without_it_ppo_remembers_nothing_and_leaves_the_rate_to_the_schedule() -> None:
    with opened(PPO(epochs=2, minibatch=32), "discrete", learning_rate=3e-4) as running:
        for *_, metrics in updates(running, 2):
            assert "learning_rate" not in metrics
        assert running.state == {}
        assert set(running.learner.learning_rates().values()) == {3e-4}


def test_a_moving_rate_resumes_bit_for_bit() -> None:
    check_algorithm(PPO(wanted_kl=0.005, epochs=2, minibatch=64), improvement=False)

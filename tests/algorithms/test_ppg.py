"""The auxiliary phase: when it comes, what it learns from and what it moves; and that PPG without it is PPO."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pistar import estimators
from pistar.algorithms.ppg import PPG
from pistar.auxiliary import AuxiliaryHead
from pistar.checkpoint import Checkpoints
from pistar.errors import UsageError
from pistar.experiment import Experiment, find_task, resolve
from pistar.learner import Learner
from pistar.policies.linear_softmax import LinearSoftmax
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.rollout import Batch, Rollout
from pistar.schedules import constant
from pistar.session import Session


def experiment(algorithm: str = "ppg", task: str = "CartPole-v1", **own: Any) -> Experiment:
    defaults = {"ppg": {"policy_iterations": 3, "auxiliary_epochs": 2, "auxiliary_minibatch": 50}}
    tables = {
        "algorithm": {"kind": algorithm, "epochs": 1, "minibatch": 32, **defaults.get(algorithm, {}), **own},
        "training": {"lanes": 2, "horizon": 32, "steps": 64 * 30, "warm_up": 16, "learning_rate": 3e-3},
        "policy": {"kind": "mlp", "hidden": [8], "last_gain": 1.0},
    }
    return resolve(find_task(task), (tables, "the test"))


@contextmanager
def begun(made: Experiment) -> Iterator[Session]:
    with closing(Session(made)) as session:
        session.collector.start(16)
        yield session


def whole_batch(session: Session) -> tuple[PPG, Batch]:
    """A PPG and the steps of one rollout, as its auxiliary phase would be given them."""
    algorithm = session.algorithm
    assert isinstance(algorithm, PPG)
    return algorithm, algorithm.policy_phase.estimate(session.policy, session.collector.collect(32))


# When, and from what.


def test_the_auxiliary_phase_follows_every_third_iteration_and_empties_the_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Batch] = []
    distil = PPG.distil

    def watched(self: PPG, learner: Learner, batch: Batch) -> Any:
        given.append(batch)
        return distil(self, learner, batch)

    monkeypatch.setattr(PPG, "distil", watched)
    rollouts: list[tuple[Rollout, Tensor]] = []
    with begun(experiment()) as session:
        for n in range(1, 7):
            before = frozen(session)
            rollout, metrics = session.iterate(cut=False)
            after, ends = rollout.values(before)[1], (rollout.terminated, rollout.truncated)
            rollouts.append((rollout, estimators.lambda_return(rollout.reward, after, *ends, 0.99, 0.95)))
            assert len(session.state["phase"]) == n % 3
            assert len(given) == n // 3
            assert ("clone_kl" in metrics) == (n % 3 == 0)
    for batch, phase in zip(given, (rollouts[:3], rollouts[3:]), strict=True):
        torch.testing.assert_close(batch.target, torch.cat([target.flatten() for _, target in phase]))
        assert torch.equal(batch.observation, torch.cat([rollout.observation.flatten(0, 1) for rollout, _ in phase]))


@pytest.mark.parametrize(("after", "iterations"), [(2, 3), (3, 3), (4, 3), (11, 12)])
def test_a_phase_that_was_broken_off_goes_on_bit_for_bit(after: int, iterations: int, tmp_path: Path) -> None:
    settings = {"policy_iterations": iterations}  # from ten, their names no longer sort as their numbers do
    with begun(experiment(**settings)) as first, closing(Session(experiment(**settings))) as second:
        for _ in range(after):
            first.iterate(cut=False)
        Checkpoints(tmp_path).save(after, first.checkpoint())
        second.restore(Checkpoints(tmp_path).load())
        for _ in range(4):
            assert first.iterate(cut=False)[1] == second.iterate(cut=False)[1]
            assert torch.equal(first.learner.parameters, second.learner.parameters)


def test_before_its_first_auxiliary_phase_it_is_ppo() -> None:
    settings: dict[str, Any] = {"value_weight": 0.5, "normalize_advantages": True, "entropy_weight": 0.01}
    kind = {"kind": "mlp", "hidden": [8], "last_gain": 1.0, "auxiliary_value": True}
    made = [
        experiment("ppg", policy_iterations=9, **settings),
        resolve(
            find_task("CartPole-v1"),
            ({**experiment("ppo", **settings).to_table(), "policy": kind}, "the test"),
        ),
    ]
    with begun(made[0]) as one, begun(made[1]) as other:
        for _ in range(4):
            mine, theirs = one.iterate(cut=False)[1], other.iterate(cut=False)[1]
            assert mine.items() <= theirs.items()
            assert torch.equal(one.learner.parameters, other.learner.parameters)


# What it moves.


def parts(loss: Tensor, policy: Policy) -> dict[str, Tensor]:
    """The gradient of a loss, by part; 0 where it does not reach."""
    found = {}
    for name, parameters in policy.parts().items():
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        zeros = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
        found[name] = torch.cat([g.flatten() for g in zeros])
    return found


@pytest.mark.parametrize("task", ["CartPole-v1", "pendulum"])
def test_the_auxiliary_loss_is_the_papers_joint_objective(task: str) -> None:
    """Recomputed term by term; at π = π_old the KL is at its minimum, and its gradient 0."""
    with begun(experiment(task=task)) as session:
        algorithm, batch = whole_batch(session)
        policy, before = session.policy, frozen(session)
        loss, metrics = algorithm.auxiliary_loss(policy, batch, before)
        outputs, _ = policy.outputs(batch.observation)
        auxiliary = (outputs[..., -1] - batch.target).square().mean()
        critic = (policy.value(batch.observation) - batch.target).square().mean()
        assert float(metrics["clone_kl"]) == pytest.approx(0.0, abs=1e-6)
        torch.testing.assert_close(loss, 0.5 * auxiliary + 0.5 * critic)
        found, expected = parts(loss, policy), parts(0.5 * auxiliary, policy)
        torch.testing.assert_close(found["actor"], expected["actor"], rtol=1e-4, atol=1e-6)
        assert float(expected["actor"].abs().max()) > 1e-3  # the policy's features are moved
        torch.testing.assert_close(found["critic"], parts(0.5 * critic, policy)["critic"])

        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
            _, metrics = algorithm.auxiliary_loss(policy, batch, before)
            old, new = (p.evaluate(batch.observation, batch.action).distribution for p in (before, policy))
        assert float(metrics["clone_kl"]) == pytest.approx(float(old.kl(new).mean()), rel=1e-5)
        assert abs(float(old.kl(new).mean() - new.kl(old).mean())) > 1e-4  # the order of the two matters here


def frozen(session: Session) -> Policy:
    """The session's policy as it is now."""
    return copy.deepcopy(session.policy).requires_grad_(False)


def test_distilling_fits_both_values_and_a_heavy_clone_weight_keeps_the_policy() -> None:
    moved = []
    for clone_weight in (0.0, 100.0):
        with begun(experiment(clone_weight=clone_weight, auxiliary_epochs=40, auxiliary_minibatch=64)) as session:
            algorithm, batch = whole_batch(session)
            before = frozen(session)
            session.learner.set_learning_rate(3e-3)
            with torch.no_grad():
                start = algorithm.auxiliary_loss(session.policy, batch, before)[1]
            metrics = algorithm.distil(session.learner, batch)
            with torch.no_grad():
                end = algorithm.auxiliary_loss(session.policy, batch, before)[1]
            for name in ("auxiliary_error", "auxiliary_value_error"):
                assert float(end[name]) < 0.7 * float(start[name])
            assert "gradient_norm" not in metrics
            moved.append(float(end["clone_kl"]))
    assert moved[1] < 0.1 * moved[0]


def test_steps_of_weight_0_are_silent_in_the_auxiliary_phase() -> None:
    with begun(experiment()) as session:
        algorithm, batch = whole_batch(session)
        before = frozen(session)
        batch.weight = (torch.arange(len(batch.target)) % 3 > 0).float()
        loss, _ = algorithm.auxiliary_loss(session.policy, batch, before)
        batch.target = batch.target.masked_fill(batch.weight == 0, float("nan"))
        again, _ = algorithm.auxiliary_loss(session.policy, batch, before)
        assert torch.equal(loss, again)


# Its policy.


def test_the_policy_kind_is_the_configured_one_with_an_auxiliary_value() -> None:
    kind = PPG().policy_kind(MLP(hidden=(7,), squash=True))
    assert kind == MLP(hidden=(7,), squash=True, auxiliary_value=True)
    with pytest.raises(UsageError, match="LinearSoftmax policy does not offer"):
        PPG().policy_kind(LinearSoftmax(critic="linear"))


def test_the_auxiliary_value_changes_nothing_of_how_a_policy_acts() -> None:
    with begun(experiment()) as session:
        head = session.policy.head
        assert isinstance(head, AuxiliaryHead)
        rollout = session.collector.collect(8)
        outputs, _ = session.policy.outputs(rollout.observation)
        assert outputs.shape[-1] == head.size == head.head.size + 1
        spoilt = torch.cat((outputs[..., :-1], outputs[..., -1:] + 100.0), dim=-1)
        assert torch.equal(head(outputs).log_prob(rollout.action), head(spoilt).log_prob(rollout.action))
        assert torch.equal(head.value(spoilt), outputs[..., -1] + 100.0)


def test_schedules_reach_the_policy_phase() -> None:
    with begun(experiment(clip=0.3)) as session:
        assert session.iterate(cut=False)[1]["clip"] == 0.3
        assert PPG(clip=constant(0.3)).clip == session.algorithm.clip  # type: ignore[attr-defined]

"""Which parameters act, that nothing depends on whether collecting and learning really overlap, and that they do."""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pistar import training
from pistar.algorithms.ppo import PPO
from pistar.checkpoint import Checkpoints
from pistar.collector import Collector
from pistar.envs.environment import Spaces
from pistar.errors import EnvironmentFailure
from pistar.experiment import Experiment, find_task, resolve
from pistar.lagged import LaggedCollector
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.rollout import Rollout
from pistar.session import Session
from pistar.tree import leaves

ITERATIONS = 6
SMALL: dict[str, Any] = {
    "training": {"lanes": 2, "horizon": 24, "steps": 48 * ITERATIONS, "warm_up": 16, "learning_rate": 1e-2},
    "evaluation": {"episodes": 2, "final_episodes": 2, "every": 96},
    "policy": {"kind": "mlp", "hidden": [8]},
}


def experiment(
    algorithm: str = "ppo", task: str = "CartPole-v1", policy: Any = None, own: Any = None, **training: Any
) -> Experiment:
    """A small run; [training] over the algorithm's recipe."""
    own = {"kind": algorithm, **({"epochs": 2} if algorithm == "ppo" else {}), **(own or {})}
    tables = {**SMALL, "algorithm": own, "training": {**SMALL["training"], "lag": 1, **training}}
    return resolve(find_task(task), (tables | ({} if policy is None else {"policy": policy}), "the test"))


@contextmanager
def begun(made: Experiment) -> Iterator[Session]:
    session = Session(made)
    with closing(session):
        session.collector.start(made.training.warm_up)
        yield session


def assert_same(one: Rollout, other: Rollout, but: tuple[str, ...] = ()) -> None:
    for (path, mine), (_, theirs) in zip(leaves(one), leaves(other), strict=True):
        same = torch.equal(mine, theirs) if isinstance(mine, Tensor) else mine == theirs
        assert path[0] in but or same, path


def log_probs(policy: Policy, rollout: Rollout) -> Tensor:
    with torch.no_grad():
        return policy.evaluate(rollout.observation, rollout.action).log_prob


# Which parameters act.


@pytest.mark.parametrize("task", ["CartPole-v1", "pendulum"])
@pytest.mark.parametrize("lag", [1, 2, 3])
def test_iteration_n_is_collected_with_the_policy_before_update_n_minus_lag(lag: int, task: str) -> None:
    before: list[Policy] = []
    with begun(experiment(task=task, lag=lag)) as session:
        for n in range(ITERATIONS):
            before.append(copy.deepcopy(session.policy))
            rollout, _ = session.iterate(cut=False)
            version = max(n - lag, 0)
            assert rollout.version is not None
            assert rollout.version.dtype == torch.int64
            assert bool((rollout.version == version).all())
            assert rollout.version.shape == rollout.shape
            gaps = [float((log_probs(policy, rollout) - rollout.log_prob).abs().max()) for policy in before]
            assert gaps[version] < 1e-4
            assert all(gap > 1e-3 for m, gap in enumerate(gaps) if m != version)


def test_without_a_lag_there_is_no_thread_and_no_version() -> None:
    with begun(experiment(lag=0)) as session:
        assert type(session.collector) is Collector
        assert session.iterate(cut=False)[0].version is None


@pytest.mark.parametrize("lag", [1, 2])
def test_of_a_policy_that_stands_still_nothing_is_changed_by_the_lag(lag: int) -> None:
    """Rewards are scaled as they are learned from, and statistics are those of what was learned from."""
    still: dict[str, Any] = {"learning_rate": 0.0, "policy": {"kind": "mlp", "hidden": [8], "normalize": False}}
    with begun(experiment(lag=0, **still)) as plain, begun(experiment(lag=lag, **still)) as lagged:
        scales = []
        for _ in range(ITERATIONS):
            one, other = plain.iterate(cut=False)[0], lagged.iterate(cut=False)[0]
            assert_same(dataclasses.replace(one, version=other.version), other)
            for name in ("steps", "returns", "lengths", "episodes", "info"):
                assert getattr(plain.collector, name) == getattr(lagged.collector, name), name
            assert plain.steps == lagged.steps
            assert plain.collector.reward_scale is not None
            assert lagged.collector.reward_scale is not None
            scales.append(plain.collector.reward_scale.factor)
            assert lagged.collector.reward_scale.factor == scales[-1]
        assert len(set(scales)) == ITERATIONS
        assert plain.collector.recent() == lagged.collector.recent()
        assert len(plain.collector.returns) > ITERATIONS


# Overlap.


@pytest.mark.parametrize("algorithm", ["ppo", "impala", "reinforce"])
@pytest.mark.parametrize(("task", "more"), [("cartpole", {}), ("CartPole-v1", {"workers": 2}), ("reacher", {})])
def test_whether_it_overlaps_changes_no_bit(algorithm: str, task: str, more: dict[str, Any]) -> None:
    settings = [experiment(algorithm, task, overlap=overlap, lag=2, **more) for overlap in (True, False)]
    with begun(settings[0]) as one, begun(settings[1]) as other:
        for _ in range(ITERATIONS):
            (mine, my_metrics), (theirs, their_metrics) = one.iterate(cut=False), other.iterate(cut=False)
            assert_same(mine, theirs)
            assert my_metrics == their_metrics
            assert torch.equal(one.learner.parameters, other.learner.parameters)
            assert one.collector.recent() == other.collector.recent() or not one.collector.returns


def threads_of(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """Grows by the thread of every step."""
    found, step = [], session.environment.step

    def watched(action: Any) -> Any:
        found.append(threading.current_thread())
        return step(action)

    monkeypatch.setattr(session.environment, "step", watched)
    return found


@pytest.mark.parametrize("overlap", [True, False])
def test_the_next_rollout_is_collected_while_this_one_is_learned_from(
    overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``improve`` does not return before the next rollout's first step has been taken, elsewhere."""
    with begun(experiment(overlap=overlap)) as session:
        threads, stepped, improve = threads_of(session, monkeypatch), threading.Event(), PPO.improve
        step, horizon = session.environment.step, session.experiment.training.horizon

        def waiting(*arguments: Any) -> Any:
            assert stepped.wait(10)
            return improve(*arguments)

        def watched(action: Any) -> Any:
            stepped.set()
            return step(action)

        session.iterate(cut=False)
        monkeypatch.setattr(PPO, "improve", waiting)
        monkeypatch.setattr(session.environment, "step", watched)
        for _ in range(3):
            session.collector.state()  # waits for what is coming
            stepped.clear()
            session.iterate(cut=False)
        session.collector.state()
        elsewhere = [thread is not threading.main_thread() for thread in threads]
        # The first rollout had to be waited for.
        assert elsewhere == [False] * horizon + [overlap] * 4 * horizon


@pytest.mark.parametrize("threads", [1, 2])
def test_the_thread_computes_with_as_many_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with begun(experiment(threads=threads)) as session:
        found, step = [], session.environment.step

        def watched(action: Any) -> Any:
            found.append(torch.get_num_threads())
            return step(action)

        monkeypatch.setattr(session.environment, "step", watched)
        for _ in range(3):
            session.iterate(cut=False)
        assert set(found) == {1 if session.learner.native else threads}  # beside kernels, torch has one
    torch.set_num_threads(1)


@dataclasses.dataclass(frozen=True)
class Dropping(MLP):
    """Draws from torch's global stream whenever it acts or learns."""

    def build(self, spaces: Spaces, generator: torch.Generator) -> Policy:
        policy: Any = super().build(spaces, generator)
        policy.actor = nn.Sequential(nn.Dropout(0.2), policy.actor)
        return policy


def test_a_policy_that_draws_from_the_global_stream_never_overlaps(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = {"kind": f"{__name__}:Dropping", "hidden": [8]}
    last = []
    for _ in range(2):
        with begun(experiment(policy=kind)) as session:
            threads = threads_of(session, monkeypatch)
            for _ in range(ITERATIONS):
                session.iterate(cut=False)
            assert set(threads) == {threading.main_thread()}
            last.append(session.learner.parameters.clone())
    assert torch.equal(*last)


def broken(action: Any) -> Any:
    raise EnvironmentFailure("broken")


def test_a_failure_of_the_environment_is_told_where_its_rollout_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with begun(experiment()) as session:
        session.iterate(cut=False)
        session.collector.state()
        monkeypatch.setattr(session.environment, "step", broken)
        session.iterate(cut=False)  # learns from what is whole, and has the next one begun
        with pytest.raises(EnvironmentFailure, match="broken"):
            session.iterate(cut=False)


def test_closing_waits_for_what_steps_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(experiment(horizon=200))
    session.collector.start(16)
    session.iterate(cut=False)
    closed, step, close = threading.Event(), session.environment.step, session.environment.close

    def watched(action: Any) -> Any:
        assert not closed.is_set()
        return step(action)

    monkeypatch.setattr(session.environment, "step", watched)
    monkeypatch.setattr(session.environment, "close", lambda: (closed.set(), close()))
    session.iterate(cut=False)
    coming = session.collector._coming  # type: ignore[union-attr]
    assert coming is not None
    session.close()
    assert coming.done()
    assert coming.exception() is None


def test_a_profile_has_everything_in_its_place(tmp_path: Path) -> None:
    """Clocks cannot tell apart what two threads do at once; so one thread does it."""
    result = training.train(experiment(), tmp_path / "run", quiet=True, profile=True)
    assert result.profile is not None
    assert result.profile.seconds["environment"] > 0
    assert result.profile.seconds["acting"] > 0


# Checkpoints.


@pytest.mark.parametrize("lag", [1, 3, 11])  # of eleven snapshots, files do not sort the names as numbers
@pytest.mark.parametrize("algorithm", ["impala", "ppo", "reinforce"])
@pytest.mark.parametrize("after", [1, 4])
def test_a_restored_session_goes_on_as_the_one_that_was_saved(
    after: int, algorithm: str, lag: int, tmp_path: Path
) -> None:
    made = experiment(algorithm, lag=lag, horizon=40)
    with begun(made) as first, closing(Session(made)) as second:
        for _ in range(after):
            first.iterate(cut=False)
        Checkpoints(tmp_path).save(after, first.checkpoint())
        second.restore(Checkpoints(tmp_path).load())
        for _ in range(ITERATIONS - 1):
            one, other = (session.iterate(cut=False) for session in (first, second))
            assert_same(one[0], other[0])
            assert one[1] == other[1]
            assert first.steps == second.steps
            assert list(first.collector.returns) == list(second.collector.returns)
            assert first.collector.episodes == second.collector.episodes
            assert torch.equal(first.learner.parameters, second.learner.parameters)


def test_a_cut_ends_what_was_collected_last_and_not_what_is_learned_from() -> None:
    with begun(experiment()) as session:
        assert isinstance(session.collector, LaggedCollector)
        session.iterate(cut=False)
        before, _ = session.iterate(cut=True)
        following, _ = session.iterate(cut=False)
        assert not bool(before.ended[-1].all())
        assert bool(following.ended[-1].all())
        assert bool(session.iterate(cut=False)[0].is_first[0].all())

"""The session's order of events, what schedules see, what evaluation meets, and that a state is the whole of it."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from pistar import artefact, training
from pistar.algorithms.ppo import PPO
from pistar.checkpoint import Checkpoints
from pistar.envs.gym_lanes import GymnasiumLanes
from pistar.errors import CheckpointError, UsageError
from pistar.evaluation import Evaluator
from pistar.experiment import Experiment, find_task, resolve
from pistar.judgement import Judgement
from pistar.report import jsonl

SMALL: dict[str, Any] = {
    "training": {"lanes": 2, "horizon": 16, "steps": 128, "warm_up": 16, "learning_rate": {"from": 1e-2, "to": 0.0}},
    "evaluation": {"episodes": 2, "every": 32, "final_episodes": 2},
    "policy": {"kind": "mlp", "hidden": [8]},
    "algorithm": {"kind": "ppo", "epochs": 1},
}


def experiment(algorithm: str = "ppo", steps: int = 128) -> Experiment:
    own = SMALL["algorithm"] if algorithm == "ppo" else {"kind": algorithm}
    table = {**SMALL, "algorithm": own, "training": {**SMALL["training"], "steps": steps}}
    return resolve(find_task("CartPole-v1"), (table, "the test"))


@pytest.fixture
def session() -> Any:
    made = training.Session(experiment())
    made.collector.start(16)
    yield made
    made.environment.close()


def test_moments_stand_still_from_the_first_step_of_a_rollout_to_the_end_of_its_update(
    session: training.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    normalizer: Any = session.policy.encoder.normalizer
    seen: list[tuple[float, torch.Tensor]] = []
    improve = PPO.improve

    def look() -> None:
        seen.append((float(normalizer.moments.count), normalizer.shift.clone()))

    def watched(*arguments: Any) -> Any:
        look()
        outcome = improve(*arguments)
        look()
        return outcome

    monkeypatch.setattr(PPO, "improve", watched)
    for _ in range(2):
        look()
        session.iterate(cut=False)
    look()
    counts = [count for count, _ in seen]
    assert counts == [16] * 3 + [48] * 3 + [80]
    assert all(torch.equal(seen[first][1], seen[first + k][1]) for first in (0, 3) for k in (1, 2))
    assert not torch.equal(seen[0][1], seen[3][1])


def test_schedules_see_the_share_of_steps_that_is_done(
    session: training.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, float]] = []
    improve = PPO.improve

    def watched(self: PPO, learner: Any, experience: Any, state: Any, progress: float) -> Any:
        rates = {optimizer.rate for optimizer in learner._optimizers.values()}
        assert len(rates) == 1
        seen.append((progress, rates.pop()))
        return improve(self, learner, experience, state, progress)

    monkeypatch.setattr(PPO, "improve", watched)
    for _ in range(4):
        session.iterate(cut=False)
    assert [progress for progress, _ in seen] == [0.0, 0.25, 0.5, 0.75]
    assert [rate for _, rate in seen] == pytest.approx([1e-2, 0.75e-2, 0.5e-2, 0.25e-2])


def test_evaluation_meets_other_episodes_than_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: dict[GymnasiumLanes, set[int]] = {}
    reset = GymnasiumLanes.reset

    def watched(self: GymnasiumLanes, seed: int) -> Any:
        seeds.setdefault(self, set()).add(seed)
        return reset(self, seed)

    monkeypatch.setattr(GymnasiumLanes, "reset", watched)
    training.train(experiment(), tmp_path / "run", quiet=True)
    assert len(seeds) == 3  # of training, of evaluations on the way, of the last one
    assert sum(map(len, seeds.values())) == len(set().union(*seeds.values()))


def test_the_best_policy_is_that_of_the_best_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    means, judged = iter([1.0, 3.0, 2.0, 0.0, 5.0]), []  # the last is the final evaluation, of the policy as it ends

    def judge(self: Evaluator, policy: Any, baselines: bool = False) -> Judgement:
        judged.append({name: value.detach().clone() for name, value in policy.named_parameters()})
        mean = next(means)
        return Judgement("CartPole-v1", 2, mean, (mean, mean), (mean, mean), 1.0)

    monkeypatch.setattr(Evaluator, "judge", judge)
    training.train(experiment(), tmp_path / "run", quiet=True)
    best = artefact.load(tmp_path / "run" / "best.safetensors").state_dict()
    assert len(judged) == 5
    same = [all(torch.equal(best[name], value) for name, value in state.items()) for state in judged]
    assert same == [False, True, False, False, False]


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool((torch.as_tensor(one) == torch.as_tensor(other)).all()) if hasattr(one, "shape") else one == other


def test_a_restored_session_is_the_one_that_was_saved(session: training.Session, tmp_path: Path) -> None:
    for _ in range(3):
        session.iterate(cut=False)
    session.best, session.seconds = 3.5, 7.25
    torch.rand(5)  # what a module with dropout would draw
    saved = session.checkpoint()
    Checkpoints(tmp_path).save(3, saved)
    following = torch.rand(3)
    other = training.Session(experiment())
    other.restore(Checkpoints(tmp_path).load())
    assert torch.equal(torch.rand(3), following)
    torch.set_rng_state(saved["torch"])
    again = other.checkpoint()
    assert again.keys() == saved.keys()
    for part in saved:
        assert equal(again[part], saved[part]), part
    other.environment.close()


@pytest.mark.parametrize("algorithm", ["reinforce", "ppo"])
def test_a_restored_session_goes_on_as_the_one_that_was_saved(algorithm: str, tmp_path: Path) -> None:
    first, second = (training.Session(experiment(algorithm, steps=512)) for _ in range(2))
    first.collector.start(16)
    for _ in range(4):
        first.iterate(cut=False)
    Checkpoints(tmp_path).save(4, first.checkpoint())
    second.restore(Checkpoints(tmp_path).load())
    for _ in range(3):
        one, other = (session.iterate(cut=False) for session in (first, second))
        assert torch.equal(one[0].reward, other[0].reward)
        assert torch.equal(one[0].action, other[0].action)
        assert one[1] == other[1]
        assert first.collector.recent() == second.collector.recent()
        assert torch.equal(first.learner.parameters, second.learner.parameters)
    assert first.progress < 0.5  # or the learning rate would be 0, and nothing could differ
    for session in (first, second):
        session.environment.close()


@pytest.mark.parametrize("lag", [0, 2])
def test_a_checkpoint_that_has_other_names_for_what_the_spaces_say_goes_on_bit_for_bit(
    lag: int, tmp_path: Path
) -> None:
    settings = {**SMALL, "training": {**SMALL["training"], "lag": lag}}
    made = resolve(find_task("pendulum"), (settings, "the test"))
    with closing(training.Session(made)) as first, closing(training.Session(made)) as second:
        first.collector.start(16)
        first.iterate(cut=False)
        Checkpoints(tmp_path).save(1, first.checkpoint())
        loaded = Checkpoints(tmp_path).load()
        constants = set(first.policy.constants())
        assert {"head/box/low", "head/box/high"} <= constants
        snapshots = loaded["collector"]["ahead"]["history"].values() if lag else []
        for tensors in (loaded["learner"]["buffers"], *(snapshot["tensors"] for snapshot in snapshots)):
            for name in constants:
                tensors[name.replace("box", "range")] = tensors.pop(name)
        second.restore(loaded)
        for _ in range(3):
            assert first.iterate(cut=False)[1] == second.iterate(cut=False)[1]
            assert torch.equal(first.learner.parameters, second.learner.parameters)
        del loaded["learner"]["buffers"]["encoder/normalizer/shift"]  # which nothing else says
        with pytest.raises(CheckpointError, match="encoder/normalizer/shift"):
            second.restore(loaded)


def test_an_extended_experiment_keeps_the_horizon_of_its_schedules() -> None:
    once = training.extend(experiment(), 256)
    twice = training.extend(once, 512)
    assert [each.training.steps for each in (once, twice)] == [256, 512]
    assert [each.training.schedule_steps for each in (once, twice)] == [128, 128]


def test_a_device_that_is_not_there_or_not_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    there = dataclasses.replace(experiment(), training=dataclasses.replace(experiment().training, device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="finds no CUDA"):
        training.Session(there)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UsageError, match="steps its lanes on the cpu, but device is 'cuda'"):
        training.Session(there)


def test_entries_that_the_environment_ignored_are_no_steps(tmp_path: Path) -> None:
    table = {**SMALL, "task": {"adapter": "vector"}, "training": {**SMALL["training"], "steps": 256}}
    result = training.train(resolve(find_task("CartPole-v1"), (table, "the test")), tmp_path / "run", quiet=True)
    records = list(jsonl.read(tmp_path / "run" / "metrics.jsonl"))
    ends = sum(record["episodes"] for record in records)
    assert ends > 1
    assert result.steps == records[-1]["steps"]
    assert 256 - ends <= result.steps < 256  # one ignored entry follows every end, unless the rollout ends before it


def test_the_first_weights_have_the_same_bits_whatever_the_threads() -> None:
    found = []
    before = torch.get_num_threads()
    try:
        for outside, threads in ((1, 1), (2, 1), (1, 2), (2, 2)):
            torch.set_num_threads(outside)
            table = {"training": {"threads": threads}, "policy": {"kind": "mlp", "hidden": [256, 256]}}
            found.append(training.Session(resolve(find_task("cartpole"), (table, "test"))).learner.parameters.clone())
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], each) for each in found[1:])

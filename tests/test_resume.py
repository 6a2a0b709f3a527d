"""A run that was killed and resumed equals the one that was never stopped, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pistar import artefact, training
from pistar.checkpoint import Checkpoints
from pistar.errors import CheckpointError, NumericalError, UsageError
from pistar.experiment import Experiment, find_task, resolve

SMALL: dict[str, Any] = {
    "training": {"lanes": 4, "horizon": 32, "steps": 1536, "warm_up": 64},
    "evaluation": {"episodes": 4, "every": 512, "final_episodes": 4},
    "checkpoints": {"every": 2},
    "policy": {"kind": "mlp", "hidden": [16]},
}
WORLDS = {
    "lanes": ("CartPole-v1", {}, {}),
    "workers": ("CartPole-v1", {"workers": 2}, {}),
    "boundary": ("CartPole-v1", {}, {"restoring": "boundary"}),
    "vector": ("CartPole-v1", {}, {"adapter": "vector"}),
    "mujoco": ("Reacher-v5", {}, {}),
}


def experiment(world: str, algorithm: str) -> Experiment:
    name, extra, task = WORLDS[world]
    table = {
        **SMALL,
        "training": {**SMALL["training"], **extra},
        "algorithm": {"kind": algorithm},
        "task": task,
    }
    return resolve(find_task(name), (table, "the test"))


def records(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def assert_equal_runs(one: Path, other: Path) -> None:
    mine, theirs = artefact.load(one).state_dict(), artefact.load(other).state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    for file in ("metrics.jsonl", "evaluations.jsonl"):
        assert records(one / file) == records(other / file)
    left, right = (Checkpoints(path / "checkpoints").load() for path in (one, other))
    assert torch.equal(left["learner"]["parameters"], right["learner"]["parameters"])
    assert torch.equal(left["collector"]["generator"], right["collector"]["generator"])


class Stop(Exception):
    """Raised in mid-run by a test."""


@pytest.mark.parametrize("algorithm", ["reinforce", "a2c", "ppo"])
@pytest.mark.parametrize("world", WORLDS)
def test_a_run_that_died_between_checkpoints_continues_bit_for_bit(world: str, algorithm: str, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    training.train(experiment(world, algorithm), whole, quiet=True)

    def die(progress: training.Progress) -> bool:
        if progress.iteration == 7:  # an odd one: the last checkpoint is behind, records after it must be cut off
            raise Stop
        return False

    with pytest.raises(Stop):
        training.train(experiment(world, algorithm), broken, quiet=True, on_iteration=die)
    training.resume(broken, quiet=True)
    assert_equal_runs(whole, broken)


def test_a_run_killed_by_sigkill_continues_bit_for_bit(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    flags = ["--steps", "20480", "--lanes", "8", "--horizon", "64", "--checkpoints.every", "3", "--workers", "2"]
    flags += ["--evaluation.episodes", "4", "--evaluation.final-episodes", "4"]
    command = [sys.executable, "-m", "pistar", "train", "CartPole-v1", *flags, "--out"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, str(whole)], check=True, **quiet)  # type: ignore[call-overload]
    process = subprocess.Popen([*command, str(broken)], **quiet)  # type: ignore[call-overload]
    metrics = broken / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text().count("\n") > 10):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    resume = [sys.executable, "-m", "pistar", "resume", str(broken)]
    subprocess.run(resume, check=True, **quiet)  # type: ignore[call-overload]
    assert_equal_runs(whole, broken)


def test_a_corrupt_newest_checkpoint_is_passed_over_loudly_and_if_all_are_corrupt_each_is_named(tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    training.train(experiment("lanes", "ppo"), whole, quiet=True)

    def die(progress: training.Progress) -> bool:
        if progress.iteration == 7:
            raise Stop
        return False

    with pytest.raises(Stop):
        training.train(experiment("lanes", "ppo"), run, quiet=True, on_iteration=die)
    newest, older = sorted((run / "checkpoints").glob("*.safetensors"), reverse=True)[:2]
    damaged = bytearray(newest.read_bytes())
    damaged[-9] ^= 1
    newest.write_bytes(damaged)
    with pytest.warns(UserWarning, match=newest.name):
        training.resume(run, quiet=True)
    assert_equal_runs(whole, run)
    for path in (run / "checkpoints").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError) as caught:
        training.resume(run, quiet=True)
    assert all(path.name in str(caught.value) for path in (run / "checkpoints").glob("*.safetensors"))
    assert older.parent.exists()


def test_a_run_directory_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        training.train(experiment("lanes", "ppo"), tmp_path, quiet=True)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_gradient_that_is_not_finite_changes_nothing_and_ends_the_run(tmp_path: Path) -> None:
    session = training.Session(experiment("lanes", "ppo"))
    before = session.learner.parameters.clone()

    def loss(policy: Any, batch: Any) -> Any:
        return next(policy.parameters()).sum() * float("nan"), {}

    with pytest.raises(NumericalError, match="not finite"):
        session.learner.descend(loss, None)
    assert torch.equal(session.learner.parameters, before)
    session.environment.close()


def test_the_same_seed_gives_the_same_bits_whatever_the_workers(tmp_path: Path) -> None:
    for world in ("lanes", "workers"):
        training.train(experiment(world, "ppo"), tmp_path / world, quiet=True)
    assert_equal_runs(tmp_path / "lanes", tmp_path / "workers")


def test_extending_a_run_keeps_its_schedules_horizon(tmp_path: Path) -> None:
    training.train(experiment("lanes", "ppo"), tmp_path / "run", quiet=True)
    result = training.resume(tmp_path / "run", steps=2048, quiet=True)
    assert result.steps == 2048
    rates = [record["update/learning_rate"] for record in records(tmp_path / "run" / "metrics.jsonl")]
    assert rates[-1] == rates[-2] == 0.0

"""What of a run's end and its resuming needs no kill: exceptions, goals, extensions; and one kill of the command itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pistar import training
from pistar.errors import NumericalError, UsageError
from pistar.experiment import read
from resume.equality import assert_equal_runs, records
from resume.worlds import WORLDS, experiment


class Stop(Exception):
    """Raised in mid-run by a test."""


@pytest.mark.parametrize("world", WORLDS)
def test_a_run_that_an_exception_ended_continues_bit_for_bit(world: str, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    training.train(experiment(world, "ppo"), whole, quiet=True)

    def die(progress: training.Progress) -> bool:
        if progress.iteration == 8:  # the last checkpoint is behind, records after it must be cut off
            raise Stop
        return False

    with pytest.raises(Stop):
        training.train(experiment(world, "ppo"), broken, quiet=True, on_iteration=die)
    training.resume(broken, quiet=True)
    assert_equal_runs(whole, broken)


@pytest.mark.parametrize("world", ["native", "vector", "boundary"])
def test_a_run_that_ended_early_goes_on_bit_for_bit(world: str, tmp_path: Path) -> None:
    """After iteration 8 of 10, which is none at which episodes are cut: the boundary tier goes on from iteration 6."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    training.train(experiment(world, "ppo"), whole, quiet=True)
    result = training.train(experiment(world, "ppo"), broken, quiet=True, on_iteration=lambda now: now.iteration == 8)
    assert result.reason == "callback"
    assert result.steps <= 8 * 64  # fewer where the environment ignores actions, which are no steps
    kept = max(path.stem for path in (broken / "checkpoints").iterdir())
    assert kept == f"iteration-{8 if world == 'native' else 6:08d}"
    training.resume(broken, quiet=True)
    assert_equal_runs(whole, broken)


def test_a_limit_that_is_reached_holds_after_a_resume(tmp_path: Path) -> None:
    for world in ("native", "boundary"):
        run = tmp_path / world
        assert training.train(experiment(world, "ppo", time_limit=0.0), run, quiet=True).reason == "time_limit"
        before = records(run / "metrics.jsonl")
        assert len(before) == 1
        assert training.resume(run, quiet=True).reason == "time_limit"
        assert records(run / "metrics.jsonl") == before


def test_the_command_killed_by_sigkill_continues_bit_for_bit(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    flags = ["--steps", "10240", "--lanes", "8", "--horizon", "64", "--checkpoints.every", "3", "--workers", "2"]
    flags += ["--evaluation.episodes", "2", "--evaluation.final-episodes", "2", "--ppo.epochs", "2", "--warm-up", "64"]
    command = [sys.executable, "-m", "pistar", "train", "CartPole-v1", *flags, "--out"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, str(broken)], **quiet)  # type: ignore[call-overload]
    metrics = broken / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text().count("\n") > 4):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(records(metrics)) < 20
    resume = [sys.executable, "-m", "pistar", "resume", str(broken)]
    subprocess.run(resume, check=True, **quiet)  # type: ignore[call-overload]
    training.train(read(broken / "experiment.toml"), whole, quiet=True)
    assert_equal_runs(whole, broken)


def test_a_run_directory_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        training.train(experiment("lanes", "ppo"), tmp_path, quiet=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_a_run_that_never_began_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "iteration-00000000.safetensors").write_bytes(b"")
    (tmp_path / ".experiment.toml.123.tmp").write_text("half")
    with pytest.raises(UsageError, match="killed before the first step: start it again"):
        training.resume(tmp_path, quiet=True)
    (checkpoints / "iteration-00000003.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match=r"it has no experiment\.toml$"):
        training.resume(tmp_path, quiet=True)
    with pytest.raises(UsageError, match="exists already"):
        training.train(experiment("lanes", "ppo"), tmp_path, quiet=True)


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
    table = tmp_path / "workers" / "experiment.toml"
    table.write_text(table.read_text().replace("workers = 2", "workers = 0"))
    assert_equal_runs(tmp_path / "lanes", tmp_path / "workers")


def test_extending_a_run_keeps_its_schedules_horizon(tmp_path: Path) -> None:
    training.train(experiment("lanes", "ppo"), tmp_path / "run", quiet=True)
    result = training.resume(tmp_path / "run", steps=12 * 64, quiet=True)
    assert result.steps == 12 * 64
    rates = [record["update/learning_rate"] for record in records(tmp_path / "run" / "metrics.jsonl")]
    assert rates[-1] == rates[-2] == 0.0 < rates[-3]

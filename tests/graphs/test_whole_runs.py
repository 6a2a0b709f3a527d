"""Runs whose steps are replayed, from `pistar.train` to the checkpoint: what they learn, and that they resume bit for bit."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tape import capture, never, still_world

import pistar
from pistar import graphs, session, training
from pistar.errors import NumericalError, UsageError
from pistar.experiment import Training
from pistar.kernels.library import switched

SETTINGS: dict[str, Any] = {
    "lanes": 8,
    "horizon": 32,
    "seed": 3,
    "quiet": True,
    "evaluation": {"every": 0, "final_episodes": 2},
    "ppo": {"epochs": 3, "minibatch": 100, "max_kl": 0.01},  # 256 steps: the last minibatch is smaller
}


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Steps are captured though the device is a CPU, and worlds do not look at their data."""
    lanes_of = session.lanes_of
    monkeypatch.setattr(session, "lanes_of", lambda experiment: still_world(lanes_of(experiment)))
    monkeypatch.setattr("pistar.grouped_session.lanes_of", lambda experiment: still_world(lanes_of(experiment)))
    monkeypatch.setattr(graphs, "capture_for", lambda training: capture)
    with switched(False):
        yield


def records(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in each.items() if name != "time"} for each in found]


def bits(result: training.Result) -> bytes:
    return b"".join(p.detach().numpy().tobytes() for p in result.policy.parameters())


@pytest.mark.parametrize("task", ["cartpole", "arm-reach"])
def test_a_run_with_replayed_steps_is_the_ordinary_run(
    task: str, tmp_path: Path, as_on_a_gpu: Any, caplog: Any
) -> None:
    found = pistar.train(task, steps=1024, out=tmp_path / "captured", **SETTINGS)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "capture_for", lambda training: None)
        expected = pistar.train(task, steps=1024, out=tmp_path / "ordinary", **SETTINGS)
    for mine, theirs in zip(found.policy.parameters(), expected.policy.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=5e-3, atol=1e-4)
    for mine, theirs in zip(records(found.directory), records(expected.directory), strict=True):
        assert mine.keys() == theirs.keys()
        for name in ("steps", "episodes", "return", "update/epochs", "update/kl", "update/surrogate", "reward/scale"):
            assert mine[name] == pytest.approx(theirs[name], rel=2e-2, abs=1e-4, nan_ok=True), name


def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_bits(tmp_path: Path, as_on_a_gpu: Any) -> None:
    every = {"checkpoints": {"every": 1, "keep": 9}}
    whole = pistar.train("cartpole", steps=1536, out=tmp_path / "whole", **every, **SETTINGS)
    pistar.train(
        "cartpole", steps=1536, out=tmp_path / "part", **every, **SETTINGS, on_iteration=lambda p: p.iteration == 3
    )
    resumed = pistar.resume(tmp_path / "part", quiet=True)
    assert resumed.steps == whole.steps
    assert bits(resumed) == bits(whole)
    assert records(resumed.directory) == records(whole.directory)


def test_a_run_whose_device_refuses_to_capture_goes_on_without(tmp_path: Path, as_on_a_gpu: Any, caplog: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "capture_for", lambda training: never)
        found = pistar.train("cartpole", steps=1024, out=tmp_path / "refused", **SETTINGS)
        patch.setattr(graphs, "capture_for", lambda training: None)
        expected = pistar.train("cartpole", steps=1024, out=tmp_path / "ordinary", **SETTINGS)
    for mine, theirs in zip(found.policy.parameters(), expected.policy.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=5e-3, atol=1e-4)
    told = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(told) == 3, told  # the rollout, and two shapes of a minibatch
    assert all("run eagerly" in each for each in told)


def test_a_step_that_is_not_finite_ends_the_run_and_the_last_checkpoint_stands(
    tmp_path: Path, as_on_a_gpu: Any
) -> None:
    settings = {**SETTINGS, "ppo": {"epochs": 2, "minibatch": 128}, "checkpoints": {"every": 1}}

    def poison(progress: training.Progress) -> None:
        if progress.iteration == 3:
            with torch.no_grad():
                next(iter(progress.policy.critic.parameters())).fill_(torch.inf)  # type: ignore[union-attr,operator]

    with pytest.raises(NumericalError, match="not finite"):
        pistar.train("cartpole", steps=2048, out=tmp_path / "run", on_iteration=poison, **settings)


def test_what_is_captured_is_decided_by_the_settings(caplog: Any) -> None:
    on_cuda = Training(device="cuda")
    assert graphs.capture_for(Training()) is None
    assert graphs.capture_for(on_cuda) is graphs.cuda
    assert graphs.capture_for(dataclasses.replace(on_cuda, graphs=False)) is None
    with caplog.at_level(logging.INFO, "pistar"):
        assert graphs.capture_for(dataclasses.replace(on_cuda, lag=1)) is None
    assert "with a lag" in caplog.text
    with pytest.raises(UsageError, match="precision bfloat16 needs --device cuda"):
        Training(precision="bfloat16")

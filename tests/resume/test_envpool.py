"""Runs in EnvPool resume where all episodes begin anew, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from pistar import training
from resume.equality import assert_equal_runs
from resume.worlds import experiment

pytest.importorskip("envpool", reason="EnvPool is an extra")


def test_a_run_that_ended_early_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """After iteration 8 of 10, which is none at which episodes are cut: it goes on from iteration 6."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    training.train(experiment("envpool", "ppo"), whole, quiet=True)
    training.train(experiment("envpool", "ppo"), broken, quiet=True, on_iteration=lambda now: now.iteration == 8)
    kept = max(path.stem for path in (broken / "checkpoints").iterdir())
    assert kept == "iteration-00000006"
    training.resume(broken, quiet=True)
    assert_equal_runs(whole, broken)

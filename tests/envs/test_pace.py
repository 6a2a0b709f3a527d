"""How many workers a run takes where the user leaves it open."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import pistar
from pistar.envs import pace
from pistar.tasks.gymnasium import Gymnasium


class Slow(gymnasium.Env[Any, Any]):
    """A step takes as long as it is told to; episodes of five steps."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, seconds: float = 0.0, pauses: tuple[int, ...] = ()) -> None:
        self.seconds, self.pauses = seconds, pauses
        self.steps = self.whole = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        time.sleep(0.03 if self.whole in self.pauses else self.seconds)
        self.steps, self.whole = self.steps + 1, self.whole + 1
        return np.zeros(2, np.float32), 1.0, self.steps >= 5, False, {}


def test_the_cost_of_a_step_is_measured() -> None:
    assert 2e-3 < pace.measure(Slow, {"seconds": 2e-3}) < 10e-3
    assert pace.measure(Slow, {}) < 1e-3
    assert 10e-3 < pace.measure(Slow, {"seconds": 25e-3}) < 100e-3  # so slow that it ends before its first part does


def test_pauses_of_a_busy_machine_do_not_pass_for_slow_steps() -> None:
    assert pace.measure(Slow, {"pauses": (3, 41)}) < 0.2e-3


@pytest.mark.parametrize(
    ("cost", "lanes", "cores", "workers"),
    [(1e-3, 8, 2, 2), (1e-3, 8, 4, 4), (1e-3, 3, 4, 3), (1e-5, 8, 2, 0), (1.0, 1, 4, 0), (1.0, 8, 1, 0)],
)
def test_workers_are_taken_where_they_pay(cost: float, lanes: int, cores: int, workers: int) -> None:
    found, reason = pace.best_workers(cost, lanes, cores)
    assert found == workers
    assert reason.startswith(f"{workers} workers" if workers else "no workers")


@pytest.mark.parametrize(("seconds", "workers"), [(5e-3, 2), (0.0, 0)])
def test_a_run_notes_the_number_and_the_log_says_why(
    seconds: float, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pace, "available_cores", lambda: 2)
    settings: dict[str, Any] = {"lanes": 2, "horizon": 4, "steps": 16, "warm_up": 0, "quiet": True}
    with caplog.at_level(logging.INFO, "pistar"):
        pistar.train(
            f"{__name__}:Slow",
            gymnasium={"options": {"seconds": seconds}},
            evaluation={"every": 0, "final_episodes": 2},
            out=tmp_path / "run",
            **settings,
        )
    assert f"workers = {workers}\n" in (tmp_path / "run" / "experiment.toml").read_text()
    assert any("workers" in record.message and "a step costs" in record.message for record in caplog.records)


def test_what_is_stepped_as_a_batch_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "measure", lambda *_: pytest.fail("measured"))
    assert Gymnasium(id="HalfCheetah-v5").best_workers(8)[0] == 0
    assert Gymnasium(id="CartPole-v1", adapter="vector").best_workers(8)[0] == 0


def test_what_the_user_says_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "measure", lambda *_: pytest.fail("measured"))
    settings: dict[str, Any] = {"lanes": 2, "horizon": 4, "steps": 8, "warm_up": 0, "workers": 0, "quiet": True}
    pistar.train("CartPole-v1", evaluation={"every": 0, "final_episodes": 1}, out=tmp_path / "run", **settings)


def test_a_world_that_fails_while_it_is_measured_is_left_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def burn(*_: Any) -> float:
        raise RuntimeError("the motor is on fire")

    monkeypatch.setattr(pace, "measure", burn)
    monkeypatch.setattr(pace, "available_cores", lambda: 2)
    workers, reason = Gymnasium(id="CartPole-v1").best_workers(8)
    assert workers == 0
    assert "the motor is on fire" in reason

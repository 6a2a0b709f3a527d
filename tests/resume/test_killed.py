"""Killed at any moment, a run that is gone on with equals the one that was never stopped."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from resume.equality import records
from resume.fuse import ANY
from resume.harness import Harness
from resume.worlds import ALGORITHMS, MORE_WORLDS, WORLDS


@pytest.mark.parametrize("world", WORLDS)
def test_killed_at_three_random_moments(harness: Harness, tmp_path: Path, each: Any, world: str) -> None:
    def check(algorithm: str) -> None:
        killed_thrice(harness, tmp_path / algorithm, world, algorithm)

    each(check, ALGORITHMS)


@pytest.mark.parametrize(
    "algorithm",
    ["ppo", pytest.param("a2c", marks=pytest.mark.slow), pytest.param("reinforce", marks=pytest.mark.slow)],
)
def test_so_it_is_in_worlds_of_other_kinds(harness: Harness, tmp_path: Path, each: Any, algorithm: str) -> None:
    def check(world: str) -> None:
        killed_thrice(harness, tmp_path / world, world, algorithm)

    each(check, MORE_WORLDS)


def test_so_it_is_with_experience_that_the_algorithm_keeps(harness: Harness, tmp_path: Path) -> None:
    killed_thrice(harness, tmp_path / "run", "lanes", "ppg")


def killed_thrice(harness: Harness, path: Path, world: str, algorithm: str) -> None:
    moments = random.Random(f"{world} {algorithm}")
    run = harness.run(path, world, algorithm)
    left = harness.whole(world, algorithm)[1][ANY]
    for _ in range(3):
        event = moments.randint(1, left // 2)
        run.killed_at(ANY, event)
        left -= event  # at least: what was done after the last checkpoint has to be done again
    run.assert_equals_whole()


@pytest.mark.parametrize("world", ["native", "mujoco", "workers", "boundary"])
def test_killed_from_outside_at_any_instruction(harness: Harness, tmp_path: Path, world: str) -> None:
    delays, kills = random.Random(world), 0
    # Long enough to be killed in: twenty iterations of a world that kernels step are over before a second kill.
    run = harness.run(tmp_path / "run", world, "ppo", steps=(200 if world == "native" else 20) * 64)
    while kills < 5 and run.killed_after(delays.uniform(0.0, 0.2)):
        kills += 1
    assert kills > 1
    run.assert_equals_whole()


def test_killed_during_an_evaluation(harness: Harness, tmp_path: Path, each: Any) -> None:
    def check(world: str) -> None:
        steps = harness.whole(world, "ppo")[1]["judge"]
        run = harness.run(tmp_path / world, world, "ppo")
        run.killed_at("judge", random.Random(world).randint(2, steps // 4))
        run.killed_at("judge", 2)
        run.assert_equals_whole()
        last = harness.run(tmp_path / f"last {world}", world, "ppo")
        last.killed_at("judge", steps - 1)  # the last episode of the random baseline
        last.assert_equals_whole()

    each(check, WORLDS)


@pytest.mark.parametrize("world", ["native", "boundary"])
def test_killed_after_it_has_reached_its_goal_a_run_goes_no_further(
    harness: Harness, tmp_path: Path, world: str
) -> None:
    goal = {"stop_at": 1.0, "lanes": 16, "horizon": 32, "steps": 10 * 512}
    whole, passed = harness.whole(world, "ppo", **goal)
    assert 0 < len(records(whole / "metrics.jsonl")) < 10
    run = harness.run(tmp_path / "run", world, "ppo", **goal)
    run.killed_at("judge", passed["judge"])
    run.assert_equals_whole()


@pytest.mark.parametrize("world", ["workers", "spawned"])
def test_killed_between_the_start_of_two_workers(harness: Harness, tmp_path: Path, world: str) -> None:
    run = harness.run(tmp_path / "run", world, "ppo")
    run.killed_at("start worker", 2)
    run.killed_at("iterate", 8)
    run.killed_at("start worker", 2)
    run.assert_equals_whole()

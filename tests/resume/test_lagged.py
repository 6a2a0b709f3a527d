"""Runs whose rollouts lag behind, killed and gone on with: what was collected ahead and not yet learned from counts too."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from pistar import training
from resume.equality import assert_equal_runs
from resume.fuse import ANY
from resume.harness import Harness
from resume.worlds import WORLDS, experiment


@pytest.mark.parametrize("lag", [1, 2])
def test_killed_at_three_random_moments(harness: Harness, tmp_path: Path, each: Any, lag: int) -> None:
    def check(world: str) -> None:
        moments = random.Random(f"{world} {lag}")
        run = harness.run(tmp_path / world, world, "impala", lag=lag)
        left = harness.whole(world, "impala", lag=lag)[1][ANY]
        for _ in range(3):
            event = moments.randint(1, left // 2)
            run.killed_at(ANY, event)
            left -= event
        run.assert_equals_whole()

    each(check, WORLDS)


@pytest.mark.parametrize("world", ["native", "boundary"])
def test_a_run_that_overlaps_equals_one_that_does_not(world: str, tmp_path: Path) -> None:
    """Checkpoints included, so that either can be gone on with as the other."""
    for overlap in (True, False):
        training.train(experiment(world, "ppo", lag=1, overlap=overlap), tmp_path / str(overlap), quiet=True)
    table = tmp_path / "False" / "experiment.toml"
    table.write_text(table.read_text().replace("overlap = false", "overlap = true"))
    assert_equal_runs(tmp_path / "True", tmp_path / "False")


def test_a_run_is_extended_with_what_it_had_collected_ahead(tmp_path: Path) -> None:
    """Its rollouts are those of the longer run; a constant rate has no horizon that could differ."""
    short = experiment("lanes", "impala", lag=2, steps=6 * 64, learning_rate=1e-3)
    training.train(short, tmp_path / "short", quiet=True)
    training.resume(tmp_path / "short", steps=10 * 64, quiet=True)
    training.train(experiment("lanes", "impala", lag=2, learning_rate=1e-3), tmp_path / "long", quiet=True)
    assert returns(tmp_path / "short") == returns(tmp_path / "long")


def returns(run: Path) -> list[Any]:
    from resume.equality import records

    return [(record["return"], record["update/score"]) for record in records(run / "metrics.jsonl")]

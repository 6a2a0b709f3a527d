"""Killed again and again while it is being resumed, a run still equals the one that was never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resume.harness import Harness
from resume.worlds import WORLDS

STAGES = (
    "restore",
    "restore environment",
    "cut records",  # all is restored, and no file is touched yet
    "truncate metrics.jsonl",
    "truncate evaluations.jsonl",  # the other one is cut
    "truncate tensorboard/events",
    "open metrics.jsonl",
    "loop",
    "iterate",
    "collect",
)


def test_killed_at_every_stage_of_a_resume_one_after_another(harness: Harness, tmp_path: Path, each: Any) -> None:
    def check(world: str) -> None:
        run = harness.run(tmp_path / world, world, "ppo")
        run.killed_at("iterate", 9)
        before = contents(run.path, "checkpoints")
        for stage in STAGES:
            run.killed_at(stage)
        assert contents(run.path, "checkpoints") == before
        run.assert_equals_whole()

    each(check, WORLDS)


def contents(run: Path, directory: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / directory).iterdir()}

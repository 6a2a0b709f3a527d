"""Killed at any operation on any of its files, a run that is gone on with equals the one that was never stopped."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from resume.fuse import ANY
from resume.harness import Harness, Run
from resume.test_killed_while_resuming import STAGES as RESUMING
from resume.worlds import ALGORITHMS, WORLDS

LATE = ("iterate", 9)  # the last checkpoint is of iteration 6 of 10; an evaluation is among the records after it
COMPUTING = (ANY, "collect", "judge", "descend")
CHECKPOINT, POLICY = "checkpoints/iteration.safetensors", "policy.safetensors"


def stages(file: str) -> list[str]:
    """Of a file that appears whole."""
    return [f"{stage} {file}" for stage in ("open", "write", "half-write", "fsync", "rename", "fsync-directory")]


SAVING = [*stages(CHECKPOINT), f"unlink {CHECKPOINT}", *stages(POLICY)]
RECORDING = [f"{at} {name}.jsonl" for at in ("truncate", "write", "half-write") for name in ("metrics", "evaluations")]


def late(harness: Harness, world: str, algorithm: str) -> tuple[Run, dict[str, int]]:
    """A run that was killed late, and how often each kind of event is passed where it is resumed."""
    run = harness.run(harness.directory / f"late-{world}-{algorithm}", world, algorithm)
    rest = harness.run(harness.directory / f"rest-{world}-{algorithm}", world, algorithm)
    if not rest.path.exists():
        run.killed_at(*LATE)
        run.copy(rest.path).assert_equals_whole()
    return run, rest.passed()


def killed_and_compared(late: Run, path: Path, label: str, count: int) -> None:
    run = late.copy(path)
    run.killed_at(label, count)
    run.assert_equals_whole()


def place(directory: Path, label: str) -> Path:
    return directory / label.replace("/", "-")


@pytest.mark.parametrize(("world", "algorithm"), [("native", "ppo"), ("workers", "ppo"), ("boundary", "ppo")])
def test_killed_at_each_stage_of_saving_and_recording(
    harness: Harness, tmp_path: Path, each: Any, world: str, algorithm: str
) -> None:
    run, passed = late(harness, world, algorithm)
    labels = {*SAVING, *RECORDING}
    assert labels <= passed.keys()
    if world == "native":  # whatever else it does; the stages of resuming have a test of their own
        labels |= passed.keys() - {*COMPUTING, *RESUMING}

    def check(label: str) -> None:
        killed_and_compared(run, place(tmp_path, label), label, 1)

    each(check, sorted(labels))


def test_killed_at_each_stage_of_the_last_saving(harness: Harness, tmp_path: Path, each: Any) -> None:
    """Nothing is saved after it that would put right what it has left."""
    run, passed = late(harness, "native", "ppo")

    def check(label: str) -> None:
        killed_and_compared(run, place(tmp_path, label), label, passed[label])

    each(check, SAVING)


def test_killed_while_a_checkpoint_with_an_unfinished_tail_is_written(
    harness: Harness, tmp_path: Path, each: Any
) -> None:
    run, _ = late(harness, "lanes", "reinforce")

    def check(label: str) -> None:
        killed_and_compared(run, place(tmp_path, label), label, 1)

    each(check, stages(CHECKPOINT))


def test_killed_before_the_first_iteration(harness: Harness, tmp_path: Path, each: Any) -> None:
    """Before experiment.toml is there, the same command starts the run again; after, it is resumed from checkpoint 0."""
    labels = ["mkdir .", "mkdir checkpoints", *itertools.chain(*map(stages, (CHECKPOINT, "experiment.toml")))]
    labels += ["cut records", "open metrics.jsonl", "open evaluations.jsonl", "mkdir tensorboard", "loop", "iterate"]
    labels += ["open tensorboard/events", "half-write tensorboard/events"]

    def check(label: str) -> None:
        run = harness.run(place(tmp_path, label), "native", "ppo")
        run.killed_at(label)
        assert run.begun == (labels.index(label) >= labels.index("fsync-directory experiment.toml"))
        run.assert_equals_whole()

    each(check, labels)


def test_checkpoint_0_is_there_before_the_first_step(harness: Harness, tmp_path: Path) -> None:
    run = harness.run(tmp_path / "run", "lanes", "ppo")
    run.killed_at("collect", 1 + 32 // 4)  # the first that is no step of the warm-up
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["iteration-00000000.safetensors"]
    assert (run.path / "metrics.jsonl").read_bytes() == b""
    run.assert_equals_whole()


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("world", WORLDS)
def test_killed_at_each_single_event(harness: Harness, tmp_path: Path, each: Any, world: str, algorithm: str) -> None:
    run, passed = late(harness, world, algorithm)

    def check(event: int) -> None:
        killed_and_compared(run, tmp_path / str(event), ANY, event)

    each(check, range(1, passed[ANY] + 1))

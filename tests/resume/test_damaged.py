"""A checkpoint that is not whole is passed over loudly, for the one before it; where none is whole, each is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pistar.checkpoint import Checkpoints
from resume.equality import files
from resume.harness import Harness, Run

LATE = ("iterate", 9)  # checkpoints of iterations 6 and 3 are there


def flipped(at: float) -> Callable[[bytes], bytes]:
    """One bit is another, at this fraction of the file."""

    def damage(content: bytes) -> bytes:
        place = min(int(at * len(content)), len(content) - 1)
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    return damage


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut within its length": lambda content: content[:5],
    "cut within its header": lambda content: content[:100],
    "cut in the middle": lambda content: content[: len(content) // 2],
    "cut by a byte": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "a page that never reached the disk": lambda content: content[:4096] + bytes(4096) + content[8192:],
    "zeros": lambda content: bytes(len(content)),
    "another length of its header": flipped(0.0),
    **{f"a bit at {at}": flipped(at) for at in (0.1, 0.3, 0.6, 0.9, 1.0)},
}


@pytest.fixture(scope="module")
def late(harness: Harness) -> Run:
    run = harness.run(harness.directory / "late", "lanes", "ppo")
    run.killed_at(*LATE)
    return run


def test_the_newest_is_passed_over_loudly(late: Run, tmp_path: Path, each: Any) -> None:
    def check(how: str) -> None:
        run = late.copy(tmp_path / how)
        newest, older = Checkpoints(run.path / "checkpoints").paths()
        newest.write_bytes(DAMAGE[how](newest.read_bytes()))
        run.assert_equals_whole()
        assert "UserWarning" in run.log()
        assert newest.name in run.log()
        assert f"falling back to {older.name}" in run.log()

    each(check, DAMAGE)


def test_where_all_are_damaged_each_is_named_and_nothing_is_touched(late: Run, tmp_path: Path) -> None:
    run = late.copy(tmp_path / "run")
    paths = Checkpoints(run.path / "checkpoints").paths()
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1])
    before = {name: (run.path / name).read_bytes() for name in files(run.path)}
    assert run.start().wait() == 1
    assert "CheckpointError: no checkpoint of this run is usable" in run.log()
    assert all(path.name in run.log() for path in paths)
    assert {name: (run.path / name).read_bytes() for name in files(run.path)} == before


def test_a_damaged_one_never_counts_among_those_that_are_kept(tmp_path: Path) -> None:
    for damaged, following in ((8, 9), (8, 7), (8, 8)):  # passed over, a run goes on from 6 and saves the following
        checkpoints = Checkpoints(tmp_path / f"{damaged} {following}")
        for iteration in (3, 6):
            checkpoints.save(iteration, {"iteration": iteration})
        checkpoints.path(damaged).write_bytes(b"")
        resumed = Checkpoints(checkpoints.directory)
        with pytest.warns(UserWarning, match="falling back to iteration-00000006"):
            assert resumed.load() == {"iteration": 6}
        resumed.prune(6)
        resumed.save(following, {"iteration": following})
        assert resumed.paths() == [resumed.path(following), resumed.path(6)]

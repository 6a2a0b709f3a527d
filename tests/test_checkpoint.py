"""Checkpoints: the newest whole one is found, and nothing goes before its successor is safe."""

from pathlib import Path

import pytest
import torch

from pistar.checkpoint import Checkpoints
from pistar.errors import CheckpointError, StorageError


def test_no_checkpoint_left_names_every_one_that_was_tried(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match="holds no checkpoint; nothing to resume from"):
        checkpoints.load()
    for iteration in (1, 2, 3):
        checkpoints.save(iteration, {"x": torch.full((3,), float(iteration))})
    newest, older = checkpoints.paths()
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=f"{newest.name}.*falling back to {older.name}"):
        assert checkpoints.load()["x"].tolist() == [2.0] * 3
    older.write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load()
    assert newest.name in str(caught.value)
    assert older.name in str(caught.value)


def test_so_many_stay_and_leftovers_of_a_killed_process_go(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    stray = tmp_path / ".iteration-00000001.safetensors.123.tmp"
    stray.write_bytes(b"half")
    for iteration in range(5):
        checkpoints.save(iteration, {"n": iteration})
    assert [path.name for path in checkpoints.paths()] == [f"iteration-{n:08d}.safetensors" for n in (4, 3, 2)]
    assert not stray.exists()
    assert checkpoints.load() == {"n": 4}


def test_on_a_full_disk_every_older_checkpoint_stands(tmp_path: Path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    for iteration in (1, 2):
        checkpoints.save(iteration, {"n": iteration})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(StorageError, match=r"cannot write .*iteration-00000003.*No space left on device"):
            checkpoints.save(3, {"n": 3})
    assert len(list(tmp_path.iterdir())) == 2
    assert checkpoints.load() == {"n": 2}

"""Records survive what happens to files: crashes, full disks, resuming."""

import json
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pistar.errors import ArtefactError, CheckpointError, StorageError
from pistar.report import jsonl
from pistar.report.jsonl import JsonLines, encode


def strict(line: bytes) -> object:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(line, parse_constant=refuse)


numbers = st.floats() | st.integers(-(2**60), 2**60) | st.floats(width=32).map(np.float32) | st.booleans() | st.none()
trees = st.recursive(
    numbers | st.text(), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(), x, max_size=3), max_leaves=8
)


def expected(value: object) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: expected(each) for key, each in value.items()}
    return [expected(each) for each in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(), trees, max_size=4))
def test_every_record_is_one_line_of_strict_json_that_reads_back_bit_for_bit(record):
    line = encode(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert strict(line) == expected(record)


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(TypeError, match="expected what JSON can hold"):
        encode({"a": object(), "b": math.nan})


def test_a_record_can_be_read_as_soon_as_it_is_written(tmp_path: Path):
    path = tmp_path / "folder" / "metrics.jsonl"
    sink = JsonLines(path)
    for index in range(3):
        sink.write({"iteration": index})
        assert jsonl.read(path) == [{"iteration": each} for each in range(index + 1)]
        assert jsonl.last(path) == {"iteration": index}
    assert sink.offset() == path.stat().st_size
    sink.close()
    sink.close()


def test_resuming_replaces_what_came_after_the_checkpoint(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    records = [{"iteration": index, "return": index / 7} for index in range(6)]
    whole = JsonLines(tmp_path / "whole.jsonl")
    sink = JsonLines(path)
    for index, record in enumerate(records):
        whole.write(record)
        sink.write(record)
        if index == 2:
            offset = sink.offset()
    sink.close()
    jsonl.truncate_to(path, offset)
    assert jsonl.last(path) == records[2]
    sink = JsonLines(path)
    for record in records[3:]:
        sink.write(record)
    assert path.read_bytes() == whole.path.read_bytes()
    jsonl.truncate_to(path, 0)
    assert jsonl.last(path) is None


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_line_torn_anywhere_is_left_out_and_never_glued_to_the_next(tmp_path: Path, cut: int):
    path = tmp_path / "metrics.jsonl"
    first, second = encode({"iteration": 1}), encode({"iteration": 2, "x": 1})
    path.write_bytes(first + second[: min(cut, len(second) - 2)])
    assert jsonl.read(path) == [{"iteration": 1}]
    JsonLines(path).write({"iteration": 3})
    assert jsonl.read(path) == [{"iteration": 1}, {"iteration": 3}]


def test_a_last_line_that_lacks_only_its_newline_is_kept(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(encode({"iteration": 1})[:-1])
    JsonLines(path).write({"iteration": 2})
    assert [record["iteration"] for record in jsonl.read(path)] == [1, 2]


def test_a_file_that_is_not_the_checkpoints_is_left_as_it_is(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(CheckpointError, match="is missing"):
        jsonl.truncate_to(path, 1)
    jsonl.truncate_to(path, 0)
    content = encode({"iteration": 1}) * 2
    path.write_bytes(content)
    for offset, message in ((len(content) + 1, "has"), (3, "within a line")):
        with pytest.raises(CheckpointError, match=message):
            jsonl.truncate_to(path, offset)
        assert path.read_bytes() == content


def test_damage_is_named(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(ArtefactError, match="no records at"):
        jsonl.read(path)
    path.write_bytes(b'{"a":1}\n[2]\n{"a":3}\n')
    with pytest.raises(ArtefactError, match=r"line 2 of .*metrics\.jsonl is not a JSON object"):
        jsonl.read(path)


def test_on_a_full_disk_a_record_is_written_whole_or_not_at_all(tmp_path: Path, full_beyond):
    path = tmp_path / "metrics.jsonl"
    sink = JsonLines(path)
    sink.write({"iteration": 1})
    before = path.read_bytes()
    with full_beyond(len(before) + 7), pytest.raises(StorageError, match=r"cannot write .*metrics\.jsonl") as caught:
        sink.write({"iteration": 2, "return": 0.5})
    assert caught.value.exit_code == 5
    assert path.read_bytes() == before
    sink.write({"iteration": 2})  # room again
    assert jsonl.read(path) == [{"iteration": 1}, {"iteration": 2}]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_device_that_is_full_gives_the_systems_own_reason():
    with pytest.raises(StorageError, match="/dev/full: No space left on device"):
        JsonLines("/dev/full").write({"iteration": 1})


def test_a_disk_that_is_really_full(tmp_path: Path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "pistar-test", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs privileges")
    try:
        sink, count = JsonLines(tmp_path / "metrics.jsonl"), 0
        with pytest.raises(StorageError, match="No space left on device"):  # noqa: PT012
            while count < 1000:
                sink.write({"iteration": count, "text": "x" * 100})
                count += 1
        assert len(jsonl.read(sink.path)) == count > 10
        assert sink.path.read_bytes().endswith(b"}\n")
        sink.close()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file.metrics\.jsonl"):
        JsonLines(tmp_path / "file" / "metrics.jsonl")

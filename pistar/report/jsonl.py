"""The JSONL file of a run: one compact JSON object a line, the source of truth for every other report.

A record is on its way to disk when ``write`` returns, so that ``tail -f`` and a crash both find it. A checkpoint stores
``offset()``; resuming cuts the file there with ``truncate_to``, and the iterations that are repeated replace the ones
that were cut. NaN and infinity, which JSON does not have, become null, so that every JSON parser reads every line; a
null means "not known" (no episode has ended) or "not finite".

It leaves out locking (one process writes a run) and rotation (a million iterations are some hundred megabytes).
"""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import Any

from pistar.errors import ArtefactError, CheckpointError, StorageError
from pistar.report.appending import AppendedFile
from pistar.report.sink import Record


class JsonLines:
    """A sink that appends to ``path``, which is created with its folders where it is missing.

    Half a line at the end, left by a crash, is cut when the file is opened; the next record would be glued to it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_file():
            _cut_torn_line(self.path)
        self._file = AppendedFile(self.path)

    def write(self, record: Record) -> None:
        """Append one line; it is written whole or, where the disk is full, not at all (StorageError)."""
        self._file.append(encode(record))

    def flush(self) -> None:
        """Nothing to do: every write has already reached the operating system."""

    def offset(self) -> int:
        """The file's length in bytes, all of them on the disk: what a checkpoint stores."""
        return self._file.offset()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()


def encode(record: Record) -> bytes:
    """One line of compact, valid JSON with its newline; NumPy scalars become numbers.

    Raises TypeError for a value that JSON has no form for.
    """
    try:
        text = json.dumps(record, separators=(",", ":"), allow_nan=False, default=_plain)
    except ValueError:  # a number that is not finite: rare, so that the search for it is not paid for by every record
        text = json.dumps(_without_nonfinite(record), separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def read(path: str | Path) -> list[dict[str, Any]]:
    """All records in order; half a line at the end (a writer that is running or was killed) is left out.

    Raises ArtefactError where the file is missing or another line is not a JSON object.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise ArtefactError(f"no records at {path}: expected the JSONL file of a run") from None
    *lines, tail = content.split(b"\n")
    records = [_parse(line, path, f"line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if (last := _object(tail)) is not None:
        records.append(last)
    return records


def last(path: str | Path) -> dict[str, Any] | None:
    """The last record of a file whose lines are whole, or None; the others are not parsed."""
    with open(path, "rb") as file:
        tail = deque(file, maxlen=1)
    return _parse(tail[0], path, "the last line") if tail else None


def truncate_to(path: str | Path, offset: int) -> None:
    """Cut ``path`` to its first ``offset`` bytes, the length it had when a checkpoint was written.

    Raises CheckpointError, and changes nothing, where the file is not the one that the checkpoint was written beside:
    missing, shorter, or with a line across the cut.
    """
    path = Path(path)
    length = path.stat().st_size if path.exists() else 0
    if length < offset:
        found = f"has {length}" if path.exists() else "is missing"
        raise CheckpointError(
            f"{path} {found}, but the checkpoint was written after {offset} bytes of it; "
            "restore the file or resume from an older checkpoint"
        )
    if length == offset:
        return
    with _changing(path) as file:
        if offset > 0:
            file.seek(offset - 1)
            if file.read(1) != b"\n":
                raise CheckpointError(
                    f"byte {offset} of {path}, where the checkpoint would cut it, lies within a line: "
                    "expected the file that this checkpoint was written beside; restore it"
                )
        file.truncate(offset)
        os.fsync(file.fileno())


@contextmanager
def _changing(path: Path) -> Iterator[BufferedRandom]:
    try:
        with open(path, "r+b") as file:
            yield file
    except OSError as error:
        raise StorageError(path, error) from error


def _cut_torn_line(path: Path) -> None:
    with open(path, "rb") as file:
        tail = next(iter(deque(file, maxlen=1)), b"\n")
    if tail.endswith(b"\n"):
        return
    with _changing(path) as file:
        if _object(tail) is None:
            file.truncate(path.stat().st_size - len(tail))
        else:  # whole but for its newline, as an editor may leave it
            file.seek(0, os.SEEK_END)
            file.write(b"\n")


def _parse(line: bytes, path: str | Path, which: str) -> dict[str, Any]:
    record = _object(line)
    if record is None:
        raise ArtefactError(f"{which} of {path} is not a JSON object: {line[:80]!r}; was the file edited?")
    return record


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's own."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"a record holds {value!r} of type {type(value).__name__}; expected what JSON can hold")


def _without_nonfinite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nonfinite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nonfinite(each) for each in value]
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return _without_nonfinite(_plain(value))

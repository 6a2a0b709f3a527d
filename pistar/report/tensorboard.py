"""A mirror of the records for TensorBoard: one event a record, holding all of its scalars.

The event file is put together here, from tensorboard's own messages and checksum, rather than by ``SummaryWriter``:
that needs an event for each tag and a second thread, in which a full disk goes unnoticed, and names files such that one
of a run resumed within a second, or on a machine whose clock is behind, may be read before the one that it continues.

Resuming cuts the files where the checkpoint was, so that no reader meets a point twice. Histograms, images and graphs
are left out. tensorflow is never imported.
"""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import json
import os
import socket
import struct
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.plugins.text import metadata as text

from pistar.errors import StorageError
from pistar.report.appending import AppendedFile
from pistar.report.sink import Record, scalars

AXES = ("steps", "iteration")  # say where a point is; as curves they would be straight lines


class TensorBoardMirror:
    """A sink that writes event files into ``directory``; the horizontal axis is ``steps`` (else ``iteration``).

    With ``resumed_at``, the ``steps`` of a checkpoint, what was mirrored after it is cut off first. Every method raises
    StorageError where the system refuses to write.
    """

    def __init__(self, directory: str | Path, resumed_at: int | None = None) -> None:
        self.directory = Path(directory)
        if resumed_at is not None:
            for path in self.directory.glob("events.out.tfevents.*"):
                _cut(path, resumed_at)
        self._file = AppendedFile(self.directory / _next_name(self.directory))
        self._add(Event(file_version="brain.Event:2"))
        if resumed_at is not None:
            # A TensorBoard that runs has read what was cut; it drops what lies at or after the step of a START.
            self._add(Event(step=resumed_at + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, record: Record) -> None:
        """Mirror the finite numbers of ``record``, grouped by the part of their name before "/".

        Names without one, such as ``return``, form the group "training". A reader sees them at once.
        """
        event = Event(step=int(record["steps"] if "steps" in record else record["iteration"]))
        for name, value in scalars(record):
            if name not in AXES:
                event.summary.value.add(tag=name if "/" in name else f"training/{name}", simple_value=value)
        self._add(event)

    def describe(self, experiment: str) -> None:
        """Show the experiment's TOML in the Text tab, and its values as columns of the HParams tab."""
        verbatim = "\n".join(f"    {line}" for line in experiment.splitlines())
        content = Summary.Value(
            tag="experiment",
            metadata=text.create_summary_metadata(display_name="experiment", description=""),
            tensor=TensorProto(dtype=DT_STRING, string_val=[verbatim.encode()], tensor_shape=TensorShapeProto()),
        )
        self._add(Event(step=0, summary=Summary(value=[content])))
        self._add(Event(step=0, summary=hparams.hparams_pb(dict(_settings(tomllib.loads(experiment))))))

    def flush(self) -> None:
        """Nothing to do: every event has reached the operating system when it is written."""

    def close(self) -> None:
        """Close the event file; safe to call twice."""
        self._file.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._file.append(_framed(event.SerializeToString()))


def _cut(path: Path, step: int) -> None:
    """Cut an event file at its first event after ``step``, or where it is torn or damaged."""
    try:
        content = path.read_bytes()
        keep = _whole_until(content, step)
        if keep < len(content):
            os.truncate(path, keep)
    except OSError as error:
        raise StorageError(path, error) from error


def _whole_until(content: bytes, step: int) -> int:
    """The length in bytes of the whole records of ``content`` before the first event after ``step``."""
    start = 0
    while start + 16 <= len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        data = content[start + 12 : start + 12 + length]
        if start + 16 + length > len(content):
            break
        try:
            event = Event.FromString(data)
        except DecodeError:
            break
        # The START of an earlier resume may lie after ``step``; it points at nothing that is left.
        if event.step > step:
            break
        start += 16 + length
    return start


def _next_name(directory: Path) -> str:
    """A file name that sorts after those in ``directory``: TensorBoard reads files in the order of their names."""
    taken = [path.name.split(".")[3] for path in directory.glob("events.out.tfevents.*")]
    latest = max((int(second) for second in taken if second.isdigit()), default=0)
    return f"events.out.tfevents.{max(int(time.time()), latest + 1):010d}.{socket.gethostname()}.{os.getpid()}.pistar"


def _settings(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, bool | float | str]]:
    """(dotted name, value) of every entry of nested TOML tables; arrays and dates as text."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str):
            yield f"{prefix}{key}", value
        else:
            yield f"{prefix}{key}", json.dumps(value, default=str)


def _framed(data: bytes) -> bytes:
    """A TFRecord: length, checksum of the length, data, checksum of the data; little-endian."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))))

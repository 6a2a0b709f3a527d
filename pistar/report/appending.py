"""Files that only grow: what is appended is on its way to disk at once, and is there whole or not at all.

Nothing is buffered, so that ``tail -f`` and a crash both find the last record, and a failed write leaves nothing behind
to surface later, out of place.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from io import FileIO
from pathlib import Path

from pistar.errors import StorageError


class AppendedFile:
    """The file ``path``, created with its folders where it is missing; every method raises StorageError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(path, "ab")
        except OSError as error:
            raise StorageError(path, error) from error

    def append(self, data: bytes) -> None:
        """Add ``data`` at the end; where that fails midway, the part of it that was written is taken back."""
        rest = memoryview(data)
        try:
            start = os.fstat(self._file.fileno()).st_size
            try:
                while rest:
                    written = self._file.write(rest)
                    if not written:
                        raise OSError(errno.EIO, "nothing more can be written")
                    rest = rest[written:]
            except BaseException:  # an interrupt between two parts would leave half a record as well
                with suppress(OSError):  # a device cannot be cut; the first error is the one to tell
                    os.ftruncate(self._file.fileno(), start)
                raise
        except OSError as error:
            raise StorageError(self.path, error) from error

    def offset(self) -> int:
        """The file's length in bytes, all of them on the disk."""
        try:
            os.fsync(self._file.fileno())
            return os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise StorageError(self.path, error) from error

    def close(self) -> None:
        """Close the file; safe to call twice."""
        try:
            self._file.close()
        except OSError as error:  # a network file system reports a full disk on closing
            raise StorageError(self.path, error) from error

"""Files that appear whole or not at all: written beside their place, then moved over it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pistar.errors import StorageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path in the same folder to write to; it becomes ``path`` on success and is removed on failure.

    A reader therefore never meets half a picture, and an older one survives a failed attempt. Folders are created.
    Raises StorageError where the system refuses to write.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise StorageError(path, error) from error
    finally:
        with suppress(OSError):  # what went wrong before is what has to be told
            partial.unlink(missing_ok=True)

"""How the learning process and its workers talk: one byte for a step, a length and a tree for everything else.

The numbers of a step lie in shared memory (``worker_process.Shared``); a byte through a pipe says that they are there.
Pipes wake the other side at once, need no spinning, and end when a process dies, which is how its death is noticed. The
rare calls (reset, cut, save, restore, render) carry trees of plain values and arrays, encoded with ``marshal``: exact for
tuples, infinities and integers of any size, and unlike pickle it cannot run code. Both ends are the same interpreter.

What this leaves out: byte order and versions, since nothing written here outlives the processes.
"""

from __future__ import annotations

import marshal
import os
import select
from typing import Any

import numpy as np

from pistar import errors
from pistar.errors import EnvironmentFailure, PistarError

STEP, DONE, MESSAGE, QUIT = b"s", b"d", b"m", b"q"
HEADER = 8  # bytes of a message's length
ARRAY = "\0array"  # marks an encoded array; no name of a space or an option begins with a null character
PLAIN = (type(None), bool, int, float, complex, str, bytes)


class Closed(Exception):
    """The other side is gone."""


class Late(Exception):
    """The other side did not read or write in time."""


class Channel:
    """Both pipes to the other side. ``timeout`` (seconds; None: for ever) holds for each single read or write."""

    def __init__(self, incoming: int, outgoing: int, timeout: float | None = None) -> None:
        self.incoming, self.outgoing, self.timeout = incoming, outgoing, timeout
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(incoming, select.POLLIN)
        self._writable.register(outgoing, select.POLLOUT)
        os.set_blocking(outgoing, False)

    def signal(self, byte: bytes) -> None:
        """Send one byte; raises Closed."""
        try:
            os.write(self.outgoing, byte)
        except BlockingIOError:
            self._write(byte)
        except OSError as error:
            raise Closed from error

    def signalled(self) -> bytes:
        """The next byte; raises Closed."""
        try:
            byte = os.read(self.incoming, 1)
        except OSError as error:
            raise Closed from error
        if not byte:
            raise Closed
        return byte

    def send(self, tree: Any) -> None:
        """Send a tree, its byte MESSAGE first; raises Closed, Late, or ValueError (see ``encode``)."""
        body = marshal.dumps(encode(tree))
        self._write(MESSAGE + len(body).to_bytes(HEADER, "little") + body)

    def receive(self) -> Any:
        """The tree that follows a byte MESSAGE; raises Closed or Late."""
        length = int.from_bytes(self._read(HEADER), "little")
        return decode(marshal.loads(self._read(length)))

    def close(self) -> None:
        """Close both ends; safe to call twice."""
        for end in {self.incoming, self.outgoing} - {-1}:
            os.close(end)
        self.incoming = self.outgoing = -1

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._wait(self._writable)
            try:
                rest = rest[os.write(self.outgoing, rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Closed from error

    def _read(self, count: int) -> bytes:
        parts = []
        while count:
            self._wait(self._readable)
            try:
                part = os.read(self.incoming, count)
            except OSError as error:
                raise Closed from error
            if not part:
                raise Closed
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _wait(self, ready: select.poll) -> None:
        if not ready.poll(None if self.timeout is None else 1000 * self.timeout):
            raise Late


def encode(tree: Any) -> Any:
    """Arrays as tuples of dtype, shape and bytes; dicts, lists and tuples stay. ValueError for anything else."""
    kind = type(tree)
    if kind in PLAIN:
        return tree
    if kind is dict:
        return {encode(key): encode(value) for key, value in tree.items()}
    if kind is list or kind is tuple:
        return kind(encode(value) for value in tree)
    if isinstance(tree, np.ndarray | np.generic) and not tree.dtype.hasobject:
        return ARRAY, tree.dtype.str, tree.shape, tree.tobytes(), isinstance(tree, np.generic)
    # marshal itself would write whatever has a buffer as bare bytes
    raise ValueError(f"expected plain values and arrays, received a {kind.__name__}: {tree!r}")


def decode(tree: Any) -> Any:
    """The inverse of ``encode``; the arrays can be written to."""
    kind = type(tree)
    if kind is tuple and tree and type(tree[0]) is str and tree[0] == ARRAY:
        array = np.frombuffer(tree[3], tree[1]).reshape(tree[2])
        return array[()] if tree[4] else array.copy()
    if kind is dict:
        return {decode(key): decode(value) for key, value in tree.items()}
    if kind is list or kind is tuple:
        return kind(decode(value) for value in tree)
    return tree


def describe(error: PistarError) -> dict[str, Any]:
    """An error of ours as a tree."""
    return {"error": type(error).__name__, "message": str(error), "fields": dict(vars(error))}


def rebuild(record: dict[str, Any]) -> PistarError:
    """The inverse of ``describe``: same class, text and attributes."""
    kind = getattr(errors, record["error"])
    error: PistarError = kind.__new__(kind)
    Exception.__init__(error, record["message"])
    vars(error).update({key: value for key, value in record["fields"].items() if not key.startswith("__")})
    return error


def lowest(failures: list[PistarError]) -> PistarError:
    """The failure that lanes in one process would have met first: the lowest lane's."""

    def lane(failure: PistarError) -> int:
        found = failure.lane if isinstance(failure, EnvironmentFailure) else None
        return -1 if found is None else found

    return min(failures, key=lane)

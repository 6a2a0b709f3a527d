"""Every error that pistar raises on purpose, and the exit code of the command line for each.

::

    PistarError                      (never raised itself)
    ├── UsageError            2      what was asked cannot be done: unknown name, ill-typed value, wrong table
    │   ├── UnknownName       2      a task, algorithm, policy, key or column that does not exist; names the nearest
    │   ├── MissingExtra      2      an optional dependency is not installed; names the extra
    │   └── UnsupportedSpace  2      no head, encoder or adapter for this observation or action space
    ├── ArtefactError         2      a policy or checkpoint file is truncated, altered, foreign or of another version
    │   └── CheckpointError   2      no usable checkpoint is left; names every file that was tried
    ├── NumericalError        3      a NaN or infinity in an observation, reward, loss or gradient; says where
    ├── EnvironmentFailure    4      the environment raised, died or broke its contract; names lane and step
    ├── StorageError          5      a file of the run cannot be written: disk full, read-only, quota; names the file
    └── Interrupted    130, 143      SIGINT or SIGTERM; what could be saved is saved
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable


class PistarError(Exception):
    """Base of the tree; ``exit_code`` is what the command line returns."""

    exit_code = 1


class UsageError(PistarError):
    """The request itself is wrong: say what was expected, what came, and what to do next."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that is not in its registry or table."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        near = nearest(name, names)
        guess = f"; did you mean {near!r}?" if near else ""
        listing = ", ".join(names) if names else "none"
        super().__init__(f"unknown {kind} {name!r}{guess} (known: {listing}){'. ' + hint if hint else ''}")
        self.name, self.nearest = name, near


class MissingExtra(UsageError):
    """An optional dependency is absent."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f'{purpose} needs {package}, which is not installed: pip install "pistar[{extra}]"')


class UnsupportedSpace(UsageError):
    """A space that no registered head, encoder or adapter handles."""


class ArtefactError(PistarError):
    """A policy file that cannot be trusted or understood; nothing of it has been used."""

    exit_code = 2


class CheckpointError(ArtefactError):
    """No checkpoint of a run can be loaded."""


class NumericalError(PistarError):
    """A value that is not finite; the last good checkpoint stands."""

    exit_code = 3


class EnvironmentFailure(PistarError):
    """The environment failed; ``lane`` and ``step`` (since the start of the run) are None where unknown."""

    exit_code = 4

    def __init__(self, message: str, lane: int | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.lane, self.step = lane, step


class StorageError(PistarError):
    """The system refuses to write ``path``; what had been written before still stands."""

    exit_code = 5

    def __init__(self, path: str | os.PathLike[str], error: OSError) -> None:
        super().__init__(
            f"cannot write {os.fspath(path)}: {error.strerror or error}. What was written before stands; "
            "make room or allow writing there, then do it again (a run goes on with `pistar resume`)"
        )
        self.path, self.errno = os.fspath(path), error.errno


class Interrupted(PistarError):
    """Stopped by a signal; exit code 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The known name that looks most like ``name``, or None where none is close."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return found[0] if found else None

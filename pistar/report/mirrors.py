"""Mirrors: services that a run's records are shown in beside its own directory, which stays the source of truth.

A mirror is a sink that also takes the settings and is told where a run goes on. One that cannot start ends a run before
its first step; one that fails later is left out with one line on the terminal: no service may cost a run.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from pistar.errors import PistarError, UsageError
from pistar.registry import Registry
from pistar.report.sink import Record, Sink

if TYPE_CHECKING:
    from pistar.run import RunDirectory

MIRRORS = Registry(
    "mirror", {"wandb": "pistar.report.wandb_mirror:WandbMirror", "mlflow": "pistar.report.mlflow_mirror:MlflowMirror"}
)
log = logging.getLogger("pistar")


class Mirror(Sink, Protocol):
    """Made as ``Mirror(run, settings, resumed_at, quiet)``.

    ``settings`` are the experiment's tables; ``resumed_at`` is None for a new run, else the ``steps`` of the checkpoint
    from which it goes on: what was mirrored after it comes again, bit for bit but for its ``time``. ``write`` takes the
    records of iterations, those of evaluations (``evaluation/mean``) and at last that of the final one (``final/mean``).
    """

    def __init__(self, run: RunDirectory, settings: Record, resumed_at: int | None, quiet: bool) -> None: ...


class Tolerant:
    """A mirror whose failures end it and nothing else."""

    def __init__(self, kind: str, mirror: Sink) -> None:
        self.kind = kind
        self._mirror: Sink | None = mirror

    def write(self, record: Record) -> None:
        """Take one record."""
        self._attempt("write", record)

    def flush(self) -> None:
        """Let a reader see all that was written."""
        self._attempt("flush")

    def close(self) -> None:
        """Flush and release."""
        self._attempt("close")
        self._mirror = None

    def _attempt(self, method: str, *arguments: Any) -> None:
        if self._mirror is None:
            return
        try:
            getattr(self._mirror, method)(*arguments)
        except Exception as error:  # whatever a service may throw
            lost, self._mirror = self._mirror, None
            log.warning("%s", lost_words(self.kind, error))
            if method != "close":
                with suppress(Exception):
                    lost.close()


def opened(
    kinds: Sequence[str], run: RunDirectory, settings: Record, resumed_at: int | None, quiet: bool
) -> list[Tolerant]:
    """Start the mirrors of these kinds.

    Raises UsageError where one cannot start; a run that is resumed goes on without it instead, with one line that says so.
    """
    found: list[Tolerant] = []
    for kind in kinds:
        try:
            found.append(Tolerant(kind, MIRRORS.get(kind)(run, settings, resumed_at, quiet)))
        except Exception as error:  # whatever a service may throw
            if resumed_at is None:
                for mirror in found:
                    mirror.close()
                if isinstance(error, PistarError):
                    raise
                raise UsageError(
                    f"{kind} could not start: {told(error)}\nSet it up, or train without --reporting.to {kind}"
                ) from error
            log.warning("%s", lost_words(kind, error))
    return found


def lost_words(kind: str, error: Exception) -> str:
    """One line for the terminal."""
    return f"{kind} takes no more records ({told(error)}); the run goes on and its directory holds them all"


def told(error: Exception) -> str:
    """An error of somebody else's in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]

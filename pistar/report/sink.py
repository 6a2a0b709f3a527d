"""What a record is, and the one interface of everything that takes records.

A record is one JSON-able object an iteration; names are grouped by "/", and what depends on the machine's speed sits in
the object ``time``, so that two runs can be compared without it::

    {"iteration": 3, "steps": 6144, "return": 12.3, "length": 50.0, "policy/entropy": 1.2, "update/kl": 0.011,
     "time": {"seconds": 1.2, "steps_per_second": 5000.0}}

``return`` and ``length`` are null (or NaN) where no episode ended in the iteration.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

Record = Mapping[str, Any]


class Sink(Protocol):
    """Takes records in order of iteration; the training loop knows nothing else about where they go."""

    def write(self, record: Record) -> None:
        """Take one record; it may change afterwards, so what is kept is copied."""

    def flush(self) -> None:
        """Let a reader see all that was written."""

    def close(self) -> None:
        """Flush and release files; safe to call twice."""


def scalars(record: Record, prefix: str = "") -> Iterator[tuple[str, float]]:
    """(name, value) of every finite number, the names of nested objects joined by "/"; all else is skipped."""
    for key, value in record.items():
        number = finite(value)
        if number is not None:
            yield prefix + key, number
        elif isinstance(value, Mapping):
            yield from scalars(value, f"{prefix}{key}/")


def finite(value: Any) -> float | None:
    """``value`` as a float where it is a finite number (a NumPy scalar counts, a string does not), else None."""
    if type(value) is not float:  # nearly all of them are
        try:
            value = None if isinstance(value, str | bytes) else float(value)
        except (TypeError, ValueError, OverflowError):
            value = None
    return value if value is not None and math.isfinite(value) else None

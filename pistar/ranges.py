"""Where a setting may be searched: its range and scale, written beside the field.

::

    clip: Schedule = searched(constant(0.2), 0.05, 0.5, scale="log")  # ε
    minibatch: int = searched(64, choices=(32, 64, 128, 256))  # samples in a minibatch

A field that is declared so can be searched by `pistar tune` at once, in a class of pistar or of the user's own; it behaves
in every other way as one with a plain default. For a schedule the range is that of its start; its end moves in proportion.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pistar.errors import UsageError

Scale = Literal["linear", "log", "complement"]  # complement: log of the distance from 1, for discounts
T = TypeVar("T")
KEY = "pistar.range"  # in a field's metadata


@dataclass(frozen=True)
class Interval:
    """All numbers from ``low`` to ``high``, both included."""

    low: float
    high: float
    scale: Scale = "linear"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise UsageError(f"a range needs two finite ends, the lower one first; received {self.low} and {self.high}")
        if self.scale == "log" and self.low <= 0:
            raise UsageError(f"a range on a log scale must lie above 0, received {self.low} to {self.high}")
        if self.scale == "complement" and self.high >= 1:
            raise UsageError(f"a range on the scale complement must lie below 1, received {self.low} to {self.high}")

    def holds(self, value: float) -> bool:
        """Whether the scale has a place for a value, inside the ends or not."""
        return math.isfinite(value) and not (
            (self.scale == "log" and value <= 0) or (self.scale == "complement" and value >= 1)
        )

    def including(self, value: float) -> Interval:
        """The least interval that holds this one and ``value``."""
        return dataclasses.replace(self, low=min(self.low, value), high=max(self.high, value))


@dataclass(frozen=True)
class Choices:
    """A few values; those of a field that is no number, or numbers that only make sense in steps."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2 or any(value in self.values[:n] for n, value in enumerate(self.values)):
            raise UsageError(f"expected two or more different values to choose among, received {list(self.values)}")

    def including(self, value: Any) -> Choices:
        """These, and ``value``."""
        return self if value in self.values else Choices((value, *self.values))


Range = Interval | Choices


def searched(
    default: T,
    low: float | None = None,
    high: float | None = None,
    *,
    scale: Scale = "linear",
    choices: tuple[Any, ...] = (),
) -> T:
    """The default of a dataclass's field, with the range in which it may be searched."""
    if choices:
        found: Range = Choices(choices)
    elif low is None or high is None:
        raise UsageError("a searched field needs low and high, or choices")
    else:
        found = Interval(low, high, scale)
    field: T = dataclasses.field(default=default, metadata={KEY: found})  # what a type checker takes it for
    return field


def declared(cls: Any) -> dict[str, Range]:
    """Field -> range, of the fields of a dataclass that have one."""
    fields = dataclasses.fields(cls)
    return {field.name: field.metadata[KEY] for field in fields if KEY in field.metadata}

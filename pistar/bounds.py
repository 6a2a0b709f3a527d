"""What a setting's number may be: checked whenever its dataclass is made, by whomever.

The field's type is checked where text becomes values (``configuration``); bounds are checked in ``__post_init__``, so that
``PPO(epochs=0)`` in Python is refused like ``--ppo.epochs 0``. A schedule is bounded at both ends, a list in every item,
and None, which stands for "not set", is not bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pistar.errors import UsageError
from pistar.fields import explanation
from pistar.schedules import Schedule


def at_least(low: float, settings: object, *names: str) -> None:
    """Raise UsageError for the first of the fields that is below ``low``."""
    for name, number in numbers(settings, names):
        if not number >= low:
            raise refusal(settings, name, f"at least {low:g}", number)


def above(low: float, settings: object, *names: str) -> None:
    """Raise UsageError for the first of the fields that is not above ``low``."""
    for name, number in numbers(settings, names):
        if not number > low:
            raise refusal(settings, name, f"more than {low:g}", number)


def between(low: float, high: float, settings: object, *names: str) -> None:
    """Raise UsageError for the first of the fields that is not in [low, high]."""
    for name, number in numbers(settings, names):
        if not low <= number <= high:
            raise refusal(settings, name, f"a number from {low:g} to {high:g}", number)


def numbers(settings: object, names: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """(field, number) of every number in the fields."""
    for name in names:
        value: Any = getattr(settings, name)
        if isinstance(value, Schedule):
            yield from ((name, end) for end in (value.start, value.end))
        elif isinstance(value, tuple | list):
            yield from ((name, item) for item in value)
        elif value is not None:
            yield name, value


def refusal(settings: object, name: str, expected: str, number: float) -> UsageError:
    """The error for a number out of bounds."""
    return UsageError(f"{name}: expected {expected}, received {number!r}{explanation(type(settings), name)}")

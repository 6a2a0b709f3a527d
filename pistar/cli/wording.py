"""Settings in words, as help texts list them: each field's name, type, default and meaning.

A default is written as a flag would give it, which is not always TOML: a schedule is ``3e-4:0``, a list ``64 64``.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from pistar import configuration
from pistar.fields import field_comments, field_types, type_text
from pistar.schedules import Schedule


class FieldDescription(NamedTuple):
    """One setting in words."""

    name: str
    type_text: str
    default_text: str  # as a flag would give it; "required" where there is none
    meaning: str  # the comment behind the field


def describe(cls: type) -> list[FieldDescription]:
    """Every setting of a dataclass, in the order of its fields."""
    expected, meaning = field_types(cls), field_comments(cls)
    return [
        FieldDescription(field.name, type_text(expected[field.name]), default_text(field), meaning.get(field.name, ""))
        for field in dataclasses.fields(cls)
        if field.init
    ]


def default_text(field: dataclasses.Field[Any]) -> str:
    """The default of a field in words."""
    if field.default is not dataclasses.MISSING:
        return value_text(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return value_text(field.default_factory())
    return "required"


def value_text(value: Any) -> str:
    """A value as a flag would give it."""
    if isinstance(value, Schedule):
        start, end = value_text(value.start), value_text(value.end)
        if value.shape == "constant" and value.start == value.end:
            return start
        return f"{start}:{end}" + ("" if value.shape == "linear" else f":{value.shape}")
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return " ".join(value_text(item) for item in value) or "[]"
    return value if isinstance(value, str) else configuration.toml_value(configuration.plain(value))

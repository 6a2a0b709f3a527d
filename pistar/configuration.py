"""Configuration: tables of plain values become frozen dataclasses, and back.

A table is what ``tomllib`` reads: str keys; bool, int, float, str, lists and tables as values. A dataclass is its own
schema: field types say what is accepted, defaults what may be left out, and the comment behind a field what it means.
Nothing is guessed: a key that no field carries and a value of another type are refused, with the nearest key named.
Only two readings are generous, because numbers are written that way: ``1e6`` is an integer where it is integral, and an
integer is a number.

Two spellings go beyond TOML: ``"none"`` is None where a field may be None, and a ``Schedule`` is a number, a table
``{from, to, shape}`` or a text ``"3e-4:0:cosine"``. Left out: dates, references between keys, environment variables.
"""

from __future__ import annotations

import dataclasses
import json
import numbers
import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from pistar.errors import UnknownName, UsageError, nearest
from pistar.fields import explanation, field_types, has_default, is_union, type_text
from pistar.schedules import Schedule, Shape, constant

Table = Mapping[str, Any]
T = TypeVar("T")

EXPECTED = {
    bool: "true or false",
    int: "an integer, such as 16 or 1e6",
    float: "a number, such as 0.5 or 1e-3",
    str: "a text in quotes",
    Schedule: 'a number, {from = 3e-4, to = 0.0, shape = "linear"} or "3e-4:0:cosine"',
}


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; a UsageError names the file, and the line of a syntax error."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"no such file: {path} (expected a TOML file)") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path} as a TOML file: {error}") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error).replace("at end of document", f"at line {len(text.splitlines())}, the end of the file")
        raise UsageError(f"{path} is not valid TOML: {reason}") from error


def layer(*tables: Table) -> dict[str, Any]:
    """Merge in depth, later over earlier; a table whose ``kind`` changes keeps none of the earlier kind's keys."""
    merged: dict[str, Any] = {}
    for table in tables:
        if "kind" in table and merged.get("kind", table["kind"]) != table["kind"]:
            merged = {}
        for key, value in table.items():
            if isinstance(value, Mapping):
                below = merged.get(key)
                merged[key] = layer(below if isinstance(below, Mapping) else {}, value)
            else:
                merged[key] = value
    return merged


# ---- tables to dataclasses -------------------------------------------------------------------------------------------


def build(cls: type[T], table: Table, where: str) -> T:
    """An instance of the frozen dataclass ``cls``; ``where`` ("[training] in run.toml") opens every error message."""
    values = check(cls, table, where)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.init and field.name not in values and not has_default(field):
            raise UsageError(f"{where} lacks {field.name!r}, which has no default{explanation(cls, field.name)}")
    try:
        return cls(**values)
    except UsageError as error:
        error.args = (f"{where}: {error}",)
        raise
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def check(cls: type, table: Table, where: str) -> dict[str, Any]:
    """The values of a table, complete or not, each in its field's type; unknown and ill-typed keys are refused."""
    known = field_types(cls)
    for key in table:
        if key not in known:
            raise UnknownName(f"key in {where}:", key, known)
    return {key: convert(known[key], value, f"{key} in {where}", explanation(cls, key)) for key, value in table.items()}


def convert(expected: Any, value: Any, where: str, hint: str = "") -> Any:
    """``value`` in the type ``expected``, or a UsageError that says what was expected and what came."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if is_union(expected):
        return convert_union(arguments, value, where, hint)
    if expected is Any:
        if is_plain(value):
            return value
    elif origin is Literal:
        if any(value == known and type(value) is type(known) for known in arguments):
            return value
        near = nearest(str(value), [str(known) for known in arguments])
        hint = (f"; did you mean {near!r}?" if near else "") + hint
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return convert_items(arguments, value, where, hint)
    elif origin in (dict, Mapping):
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: convert(arguments[1], item, f"{key} of {where}", hint) for key, item in value.items()}
    elif expected is Schedule:
        return convert_schedule(value, where, hint)
    elif dataclasses.is_dataclass(expected):
        if isinstance(value, typing.cast(type, expected)):
            return value
        if isinstance(value, Mapping):
            return build(typing.cast(type, expected), value, where)
    else:
        converted = convert_scalar(expected, value)
        if converted is not None:
            return converted
    raise mismatch(expected, value, where, hint)


def convert_scalar(expected: Any, value: Any) -> bool | int | float | str | None:
    """A bool, int, float or str, or None where ``value`` is of another type."""
    if expected in (bool, str):
        return value if isinstance(value, expected) else None
    if isinstance(value, numbers.Real) and hasattr(value, "item"):
        value = value.item()  # NumPy's numbers are numbers, where a table was written in Python
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        if expected is int:
            return int(value) if value == int(value) else None
        return float(value) if expected is float and value == value else None
    except (OverflowError, ValueError):  # infinite, not a number, or beyond the range of a float
        return None


def convert_union(members: tuple[Any, ...], value: Any, where: str, hint: str) -> Any:
    """The first member that accepts the value; "none" is None."""
    if (value is None or value == "none") and type(None) in members:
        return None
    others = [member for member in members if member is not type(None)]
    if len(others) == 1:
        return convert(others[0], value, where, hint)
    for member in others:
        try:
            return convert(member, value, where)
        except UsageError:
            continue
    raise mismatch(Union[members], value, where, hint)  # noqa: UP007 - built at run time


def convert_items(types_of_items: tuple[Any, ...], values: list[Any] | tuple[Any, ...], where: str, hint: str) -> Any:
    """The items of ``tuple[X, ...]`` or of a tuple of fixed length."""
    if len(types_of_items) == 2 and types_of_items[1] is Ellipsis:
        types_of_items = (types_of_items[0],) * len(values)
    if len(types_of_items) != len(values):
        raise UsageError(f"{where}: expected {len(types_of_items)} values, received {len(values)}: {values!r}{hint}")
    numbered = enumerate(zip(types_of_items, values, strict=True), start=1)
    return tuple(convert(expected, value, f"value {n} of {where}", hint) for n, (expected, value) in numbered)


def convert_schedule(value: Any, where: str, hint: str) -> Schedule:
    """A schedule from any of its spellings; see ``EXPECTED``."""
    if isinstance(value, Schedule):
        return value
    number = convert_scalar(float, value)
    if number is not None:
        return constant(float(number))
    if isinstance(value, str):
        start, *rest = value.split(":")
        try:
            ends = [float(text) for text in (start, *rest[:1])]
        except ValueError as error:
            raise mismatch(Schedule, value, where, hint) from error
        if len(ends) == 1:
            return constant(ends[0])
        if len(rest) > 2:
            raise mismatch(Schedule, value, where, hint)
        value = {"from": ends[0], "to": ends[1], **({"shape": rest[1]} if rest[1:] else {})}
    if not isinstance(value, Mapping) or not {"from", "to"} <= set(value):
        raise mismatch(Schedule, value, where, hint)
    for key in value:
        if key not in ("from", "to", "shape"):
            raise UnknownName(f"key in {where}:", key, ("from", "to", "shape"))
    start, end = (convert(float, value[key], f"{key!r} of {where}", hint) for key in ("from", "to"))
    shape = convert(Shape, value.get("shape", "linear"), f"shape of {where}", hint)
    try:
        return Schedule(start, end, shape)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def mismatch(expected: Any, value: Any, where: str, hint: str = "") -> UsageError:
    """The error for a value of another type."""
    return UsageError(f"{where}: expected {EXPECTED.get(expected) or type_text(expected)}, received {value!r}{hint}")


def is_plain(value: Any) -> bool:
    """Whether a value is made of what both TOML and JSON can hold."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(is_plain(item) for item in value)
    return isinstance(value, bool | int | float | str)


# ---- dataclasses to tables -------------------------------------------------------------------------------------------


def to_table(instance: Any) -> dict[str, Any]:
    """The table that ``build`` turns into an equal instance, over whatever recipe it is layered: None is "none" there."""
    values = {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}
    return {name: "none" if value is None else plain(value) for name, value in values.items()}


def plain(value: Any) -> Any:
    """A field's value as tables hold it."""
    if isinstance(value, Schedule):
        if value.shape == "constant" and value.start == value.end:
            return value.start
        return {"from": value.start, "to": value.end, "shape": value.shape}
    if dataclasses.is_dataclass(value):
        return to_table(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def to_toml(tables: Table) -> str:
    """TOML text: keys of the top level first, then one section a table; tables inside a table are written inline."""
    loose = {key: value for key, value in tables.items() if not isinstance(value, Mapping)}
    sections = [assignments(loose)] if loose else []
    for name, table in tables.items():
        if isinstance(table, Mapping):
            sections.append(f"[{toml_key(name)}]\n{assignments(table)}")
    return "\n".join(sections)


def assignments(table: Table) -> str:
    """``key = value`` lines."""
    return "".join(f"{toml_key(key)} = {toml_value(value)}\n" for key, value in table.items() if value is not None)


def toml_key(key: str) -> str:
    """A key, quoted where it has to be."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)


def toml_value(value: Any) -> str:
    """One value on one line; a float's text is the shortest that reads back as the same float."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):  # JSON's escapes are TOML's, but for DEL; what UTF-8 cannot hold becomes "?"
        text = value.encode("utf-8", "replace").decode("utf-8")
        return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        pairs = (f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items() if item is not None)
        return f"{{{', '.join(pairs)}}}"
    raise TypeError(f"TOML cannot hold {value!r}")

"""What a dataclass says about its own fields: their types, and the comments behind them.

A hyperparameter's meaning is written once, as the comment on its line; help texts, tables and error messages read it
from there. A class without source text (typed into an interpreter) has fields without meanings; all else works.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import io
import sys
import tokenize
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union

from pistar.schedules import Schedule


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """The type of each field, evaluated where its class stands.

    ``typing.get_type_hints`` would evaluate class variables too, whose types may exist for the type checker only.
    """
    found = {}
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        annotation: Any = field.type
        if isinstance(annotation, str):
            owner = owner_of(cls, field.name)
            annotation = eval(annotation, vars(sys.modules[owner.__module__]), dict(vars(owner)))
        found[field.name] = annotation
    return found


@functools.cache
def field_comments(cls: type) -> dict[str, str]:
    """The comment behind each field, or else the comment lines above it; empty where there is no source text."""
    comments: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            try:
                comments |= comments_of(inspect.getsource(base))
            except (OSError, TypeError, SyntaxError):
                continue
    return comments


def comments_of(source: str) -> dict[str, str]:
    """Field name -> comment, of the first class in ``source``."""
    text = inspect.cleandoc("\n" + source) + "\n"
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comment = {token.start[0]: token.string.lstrip("# ").rstrip() for token in tokens if token.type == tokenize.COMMENT}
    alone = {number for number, line in enumerate(text.splitlines(), 1) if line.lstrip().startswith("#")}
    found = {}
    for node in typing.cast(ast.ClassDef, ast.parse(text).body[0]).body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        first = node.lineno
        while first - 1 in alone:
            first -= 1
        above = " ".join(comment[number] for number in range(first, node.lineno))
        last = node.end_lineno or node.lineno
        lines = (
            last,
            *range(node.lineno, last),
        )  # a default in brackets may stand on a line of its own, comment and all
        behind = (comment[number] for number in lines if number in comment)
        found[node.target.id] = next(behind, above)
    return found


def owner_of(cls: type, name: str) -> type:
    """The class in which a field is written."""
    return next(base for base in cls.__mro__ if name in inspect.get_annotations(base))


def has_default(field: dataclasses.Field[Any]) -> bool:
    """Whether a field may be left out."""
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def explanation(cls: type, name: str) -> str:
    """The tail of an error message: what the field is."""
    meaning = field_comments(cls).get(name)
    return f" ({name}: {meaning})" if meaning else ""


def type_text(expected: Any) -> str:
    """A type in words: "int", "adam | sgd", "list of int", "schedule"."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if is_union(expected):
        return " | ".join(type_text(member) for member in arguments)
    if origin is Literal:
        return " | ".join(str(known) for known in arguments)
    if origin is tuple:
        inner = arguments[:1] if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
        return "list of " + ", ".join(type_text(item) for item in inner)
    if origin in (dict, Mapping):
        return "table" if arguments[1] is Any else f"table of {type_text(arguments[1])}"
    if expected in (type(None), Any):
        return "none" if expected is not Any else "any value"
    return expected.__name__.lower() if expected is Schedule else str(getattr(expected, "__name__", expected))


def is_union(expected: Any) -> bool:
    """Whether a type is ``X | Y`` in either of its spellings."""
    return typing.get_origin(expected) in (Union, types.UnionType)

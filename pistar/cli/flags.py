"""Flags made of dataclasses: ``--lanes 8``, ``--ppo.clip 0.1``, ``--mlp.hidden 64 64``, ``--no-stagger``.

A field is a flag: its type says how many words follow, its comment is the help. A word that no flag takes is an
argument, wherever it stands. A number may be negative, ``=`` may join a flag and its value, and a table is TOML
(``'{a = 1}'``) or a deeper flag (``--gymnasium.options.a 1``). A flag that is unknown or given twice is refused.
Abbreviations are left out: a script must not change its meaning when a flag is added.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import textwrap
import tomllib
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar, cast

from pistar import configuration
from pistar.cli import wording
from pistar.errors import UsageError, nearest
from pistar.fields import explanation, field_types, is_union, type_text

T = TypeVar("T")


class Group(NamedTuple):
    """The flags of one dataclass, which is loaded when one of them is met or shown."""

    prefix: str  # "ppo" for --ppo.clip; "" for --lanes
    title: str  # above them in the help
    load: Callable[[], type]
    defaults: object = None  # an instance whose values the help shows as defaults; none: the dataclass's own


class Flag(NamedTuple):
    """A flag that was recognised."""

    text: str  # as written, without its value: "--ppo.clip"
    group: Group
    path: tuple[str, ...]  # the field, and the keys below it
    type: Any
    hint: str  # what the field means, for error messages
    negated: bool = False  # --no-...


@dataclass
class Arguments:
    """What a command line says."""

    words: list[str] = field(default_factory=list)  # arguments that belong to no flag
    values: dict[str, dict[str, Any]] = field(default_factory=dict)  # prefix -> field -> value

    def options(self, cls: type[T]) -> T:
        """The flags without a prefix as an instance of ``cls``, the dataclass of a command's options."""
        mine = {key: value for key, value in self.values.get("", {}).items() if key in field_types(cast(type, cls))}
        return configuration.build(cls, mine, "the flags")

    def only_word(self, usage: str) -> str:
        """The one argument of a command that needs exactly one."""
        if len(self.words) != 1:
            received = f"received {len(self.words)}: {' '.join(self.words)}" if self.words else "received none"
            raise UsageError(f"expected one argument, {received}\n{first_line(usage)}")
        return self.words[0]


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether -h or --help stands anywhere."""
    return "-h" in argv or "--help" in argv


def of_command(argv: Sequence[str], usage: str, options: type) -> Arguments | None:
    """What stands on the line of a command whose flags are the fields of one class; None where it asked for help and had it."""
    groups = [Group("", "flags", lambda: options)]
    if asks_for_help(argv):
        print(help_text(usage, groups))
        return None
    return parse(argv, groups)


def parse(argv: Sequence[str], groups: Sequence[Group]) -> Arguments:
    """Read a command line left to right; every value is checked against its field's type."""
    arguments, seen, rest = Arguments(), set[tuple[str, ...]](), [word for word in argv if word not in ("-h", "--help")]
    while rest:
        word = rest.pop(0)
        if not is_flag(word):
            arguments.words.append(word)
            continue
        text, joined, value = word.partition("=")
        flag = recognise(text, groups)
        place = (flag.group.prefix, *flag.path)
        if any(place[: len(other)] == other[: len(place)] for other in seen):
            raise UsageError(f"{text} is given twice; keep one of them")
        seen.add(place)
        words = [value] if joined else take(flag, rest)
        plain = False if flag.negated else read(flag.type, words)
        table = arguments.values.setdefault(flag.group.prefix, {})
        for key in flag.path[:-1]:
            table = table.setdefault(key, {})
        table[flag.path[-1]] = configuration.convert(flag.type, plain, text, flag.hint)
    return arguments


def is_flag(word: str) -> bool:
    """Whether a word opens a flag; "-1.5" is a value."""
    return word.startswith("-") and len(word) > 1 and not (word[1].isdigit() or word[1] == "." or word == "-inf")


def recognise(text: str, groups: Sequence[Group]) -> Flag:
    """The flag that ``text`` names; an unknown one is answered with the nearest."""
    prefix, _, name = text.removeprefix("--").rpartition(".")
    prefix, below = (prefix.partition(".")[0], [*prefix.split(".")[1:], name]) if prefix else ("", [name])
    for group in groups:
        if group.prefix == prefix and text.startswith("--"):
            found = descend(group.load(), below)
            if found is not None:
                return Flag(text, group, *found)
    flags = [flag for group in groups for flag in flag_texts(group)]
    elsewhere = [flag for flag in flags if flag.rpartition(".")[2] == name and "." in flag and not prefix]
    near = " or ".join(elsewhere[:3]) or nearest(text if text.startswith("--") else "-" + text, flags)
    raise UsageError(f"unknown flag {text}{f'; did you mean {near}?' if near else ''} (--help lists all flags)")


def descend(cls: type, names: list[str]) -> tuple[tuple[str, ...], Any, str, bool] | None:
    """(path, type, hint, negated) of the field that ``names`` lead to, through tables and nested dataclasses."""
    known = {spelled(name): name for name in field_types(cls)}
    first = names[0]
    negated = first.startswith("no-") and first not in known and field_types(cls).get(known.get(first[3:], "")) is bool
    name = known.get(first[3:] if negated else first)
    if name is None:
        return None
    expected, hint = field_types(cls)[name], explanation(cls, name)
    if len(names) == 1:
        return (name,), expected, hint, negated
    for member in typing.get_args(expected) if is_union(expected) else (expected,):
        if dataclasses.is_dataclass(member):
            deeper = descend(cast(type, member), names[1:])
            return deeper and ((name, *deeper[0]), *deeper[1:])
        if typing.get_origin(member) in (dict, Mapping) and len(names) == 2:
            return (name, names[1]), typing.get_args(member)[1], hint, False
    return None


def take(flag: Flag, rest: list[str]) -> list[str]:
    """Remove a flag's values from ``rest``: none for a switch, all that follow for a list, else one."""
    if flag.negated:
        return []
    if is_switch(flag.type):
        return [rest.pop(0)] if rest and rest[0] in ("true", "false") else ["true"]
    if not rest or is_flag(rest[0]):
        wanted = configuration.EXPECTED.get(flag.type) or type_text(flag.type)
        raise UsageError(f"{flag.text} needs a value: {wanted}{flag.hint}")
    words = [rest.pop(0)]
    while is_list(flag.type) and rest and not is_flag(rest[0]):
        words.append(rest.pop(0))
    return words


def read(expected: Any, words: list[str]) -> Any:
    """The plain value that words stand for; what cannot be read stays text, which ``configuration`` then refuses."""
    text = words[0]
    if is_union(expected):
        members = [member for member in typing.get_args(expected) if member is not type(None)]
        readings = [read(member, words) for member in members] if text != "none" else ["none"]
        return next((value for value in readings if not isinstance(value, str)), readings[0])
    origin, inner = typing.get_origin(expected), typing.get_args(expected)
    if origin is tuple and not text.startswith("["):
        items = [item for word in words for item in word.split(",") if item]
        kinds = itertools.cycle(inner[:1] if inner[-1] is Ellipsis else inner)
        return [read(kind, [item]) for kind, item in zip(kinds, items, strict=False)]
    if origin is Literal:
        return next((known for known in inner if str(known) == text), text)
    with contextlib.suppress(ValueError):  # TOMLDecodeError is one
        if expected is bool:
            return {"true": True, "false": False}.get(text, text)
        if expected in (int, float):
            return int(text) if expected is int and text.strip("-").isdigit() else float(text)
        if origin in (tuple, dict, Mapping) or expected is Any or dataclasses.is_dataclass(expected):
            return tomllib.loads(f"value = {' '.join(words)}")["value"]
    return text


def is_switch(expected: Any) -> bool:
    """Whether a flag needs no value."""
    return expected is bool or (is_union(expected) and bool in typing.get_args(expected))


def is_list(expected: Any) -> bool:
    """Whether a flag takes all the values that follow."""
    members = typing.get_args(expected) if is_union(expected) else (expected,)
    return any(typing.get_origin(member) is tuple for member in members)


def spelled(name: str) -> str:
    """A field's name as flags spell it; the underscore of ``from_`` only dodges Python's keyword."""
    return name.rstrip("_").replace("_", "-")


def flag_texts(group: Group) -> list[str]:
    """Every flag of a group; none where it cannot be loaded, for a suggestion must not fail."""
    with contextlib.suppress(UsageError, ImportError):
        dot = f"{group.prefix}." if group.prefix else ""
        return [f"--{dot}{spelled(name)}" for name in field_types(group.load())]
    return []


# ---- help ------------------------------------------------------------------------------------------------------------


def help_text(usage: str, groups: Sequence[Group]) -> str:
    """The usage, and every flag with type, meaning and default; of two groups with the same flag the first has it."""
    parts, shown = [usage.strip()], set[str]()
    for group in groups:
        rows = [row for row in flag_rows(group) if row[0].split()[0] not in shown]
        shown |= {row[0].split()[0] for row in rows}
        if rows:
            parts.append("\n".join([f"{group.title}:", *columns(rows)]))
    return "\n\n".join(parts)


def flag_rows(group: Group) -> Iterator[tuple[str, str]]:
    """(flag and type, meaning and default) of each flag."""
    cls = group.load()
    dot = f"{group.prefix}." if group.prefix else ""
    for name, type_words, default, meaning in wording.describe(cls):
        if group.defaults is not None:
            default = wording.value_text(getattr(group.defaults, name))
        switch = is_switch(field_types(cls)[name])
        opening = "[no-]" if switch and default == "true" else ""
        flag = f"--{dot}{opening}{spelled(name)}" + ("" if switch else f" {type_words}")
        silent = (switch and default == "false") or default in ("none", "", "[]", "{}")
        yield flag, meaning if silent else f"{meaning} [{default}]".strip()


def columns(rows: Sequence[tuple[str, str]], indent: int = 2, widest: int = 34) -> list[str]:
    """Two columns: a left text that is too wide stands on a line of its own."""
    total = terminal_width()
    left = min(widest, max(len(row[0]) for row in rows)) + 2
    lines = []
    for first, second in rows:
        wrapped = textwrap.wrap(second, max(20, total - indent - left)) or [""]
        if len(first) > left - 2:
            lines.append(" " * indent + first)
            first = ""
        lines.append(" " * indent + (first.ljust(left) + wrapped[0]).rstrip())
        lines += [" " * (indent + left) + line for line in wrapped[1:]]
    return lines


def terminal_width() -> int:
    """Columns of the terminal, 100 at most and where there is none."""
    with contextlib.suppress(OSError, ValueError):
        return max(60, min(100, os.get_terminal_size().columns))
    return 100


def first_line(text: str) -> str:
    """The first line that is not empty."""
    return text.strip().splitlines()[0]

"""Names with their summaries, and one kind with its settings: what ``pistar tasks`` and ``pistar algorithms`` print."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pistar import configuration
from pistar.cli import flags
from pistar.registry import Registry

Facts = Callable[[Any], list[tuple[str, str]]]


def show(argv: Sequence[str], usage: str, registry: Registry, facts: Facts) -> int:
    """Print the list, or one kind; ``facts`` gives (name, text) of what is known of a class beside its settings."""
    if flags.asks_for_help(argv):
        print(usage.strip())
        return 0
    words = flags.parse(argv, []).words
    if not words:
        print("\n".join(flags.columns([(name, line(registry.get(name))) for name in registry.names()], indent=0)))
        print(f"\nthe settings of one: pistar {registry.sort}s {registry.names()[-1]}")
        return 0
    name = flags.Arguments(words).only_word(usage)
    print(describe(name, registry.get(name), registry, facts))
    return 0


def line(cls: Any) -> str:
    """What a kind is and, of an algorithm, where it was published."""
    paper = getattr(cls, "paper", "")
    return f"{cls.summary} ({paper})" if paper else str(cls.summary)


def describe(name: str, cls: Any, registry: Registry, facts: Facts) -> str:
    """One kind: what it is, what is known of it, and its flags."""
    parts = [f"{name}: {getattr(cls, 'summary', '') or 'no summary'}"]
    if inspect.getdoc(cls):
        parts.append(str(inspect.getdoc(cls)))
    known = facts(cls)
    if known:
        parts.append("\n".join(flags.columns(known, indent=0)))
    prefix = name if name in registry.names() else registry.sort
    rows = list(flags.flag_rows(flags.Group(prefix, "", lambda: cls)))
    parts.append("\n".join(["settings:", *flags.columns(rows)]) if rows else "no settings of its own")
    return "\n\n".join(parts)


def settings_in(title: str, tables: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """A recipe's tables as one line."""
    words = [
        f"{table}.{key} = {configuration.toml_value(configuration.plain(value))}"
        for table, values in tables.items()
        for key, value in values.items()
    ]
    return [(title, ", ".join(words))] if words else []

"""Names for classes that are imported only when they are used.

A registry maps a *kind* ("ppo") to ``module:Class``; wherever a kind is accepted, a ``module:Class`` of the user's own is
accepted too. Listing names imports nothing.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from pistar.errors import UnknownName, UsageError


class Registry:
    """Kinds of one sort ("algorithm", "policy", "task")."""

    def __init__(self, sort: str, targets: dict[str, str]) -> None:
        self.sort = sort
        self._targets: dict[str, str | type] = dict(targets)

    def names(self) -> list[str]:
        """Every registered kind, sorted."""
        return sorted(self._targets)

    def register(self, kind: str, target: str | type) -> None:
        """Add a kind from outside the package: ``ALGORITHMS.register("mine", "my_module:Mine")``."""
        if kind in self._targets:
            raise UsageError(f"the {self.sort} {kind!r} is registered already, as {self._targets[kind]}")
        self._targets[kind] = target

    def get(self, kind: str) -> Any:
        """The class of a kind or of ``module:Class``; raises UnknownName with the nearest kind."""
        if kind in self._targets:
            target = self._targets[kind]
            return load(target, self.sort) if isinstance(target, str) else target
        self.require_known(kind)
        return load(kind, self.sort)

    def require_known(self, kind: str) -> None:
        """Raise UnknownName for a name that is neither registered nor a ``module:Class``; imports nothing."""
        if kind not in self._targets and ":" not in kind:
            raise UnknownName(self.sort, kind, self.names(), f"A {self.sort} of your own is given as module:Class")

    def kind_of(self, value: object) -> str:
        """The kind under which an instance's class is known: its registered name, else ``module:Class``."""
        target = f"{type(value).__module__}:{type(value).__qualname__}"
        return next((kind for kind, known in self._targets.items() if known in (target, type(value))), target)


def import_module(name: str) -> ModuleType:
    """Import a module; the working directory counts as a place to import from, as it does for scripts."""
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))
    return importlib.import_module(name)


def load(target: str, sort: str) -> Any:
    """Import ``module:Class``."""
    module_name, _, name = target.partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.startswith(error.name):
            raise UsageError(f"cannot import {module_name!r} for the {sort} {target!r}: no such module") from error
        raise
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise UnknownName(f"name in module {module_name}", name, [n for n in vars(module) if n[0] != "_"]) from error

"""``pistar algorithms [NAME]``: what there is to learn by, and the settings of one algorithm."""

from __future__ import annotations

from typing import Any

from pistar.algorithms import ALGORITHMS
from pistar.cli import catalogue

USAGE = """
usage: pistar algorithms [NAME]

List the algorithms, or the settings of one. A module:Class of your own is an algorithm too: --algorithm module:Class.
"""


def main(argv: list[str]) -> int:
    """Run the command."""
    return catalogue.show(argv, USAGE, ALGORITHMS, facts)


def facts(cls: Any) -> list[tuple[str, str]]:
    """Where it is from, what it learns from, and its own defaults."""
    known = [("paper", cls.paper), ("learns from", cls.experience)]
    for actions, recipe in cls.recipes.items():
        known += catalogue.settings_in(f"with {actions} actions", recipe)
    return known

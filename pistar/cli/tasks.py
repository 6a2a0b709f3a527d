"""``pistar tasks [NAME]``: what there is to learn, and the settings of one task."""

from __future__ import annotations

from typing import Any

from pistar.cli import catalogue
from pistar.errors import UsageError
from pistar.tasks import TASKS

USAGE = """
usage: pistar tasks [NAME]

List the tasks, or the settings of one. Any Gymnasium id (CartPole-v1) and any module:Class of your own is a task too.
"""


def main(argv: list[str]) -> int:
    """Run the command."""
    return catalogue.show(argv, USAGE, TASKS, facts)


def facts(cls: Any) -> list[tuple[str, str]]:
    """What else is known of a task without building it."""
    known = []
    if cls.success is not None:
        known.append(("success", f"an episode that ends with {cls.success} = 1"))
    if cls.threshold is not None:
        known.append(("solved", f"from a mean return of {cls.threshold:g} on"))
    if cls.scores is not None:
        known.append(("random", f"an expected return of {cls.scores.random:.4g}"))
        known += [(f"no {need.feature}", f"at most {need.bound:.4g}  ({need.flags})") for need in cls.scores.needs]
        known.append(("optimum", f"{cls.scores.optimum:.4g}"))
    known.append(("algorithm", f"{cls.algorithm}, where none is chosen"))
    if cls.discount is not None:
        known.append(("discount", f"γ = {cls.discount:g}, part of the problem"))
    try:
        recipe = cls().recipe(cls.algorithm)
    except UsageError:  # a task that cannot be made without a setting has no recipe of its own
        recipe = {}
    return known + catalogue.settings_in("recipe", recipe)

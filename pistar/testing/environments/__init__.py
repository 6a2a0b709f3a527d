"""Does an environment keep the contract of `pistar.envs.environment`?

``check_environment`` plays random actions in several instances and compares what they did, bit for bit. Every rule has
a name and a sentence in ``RULES``; a violation shows both. It differs from ``pistar doctor``, which examines Gymnasium
environments and judges how well they can be learned from: here only the contract counts.

Left out: rendering, worker processes that die, and whether an error names lane and step, since none of these can be
provoked from outside.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from pistar.envs.environment import Environment
from pistar.errors import UsageError
from pistar.testing.environments import continuing, repeating
from pistar.testing.environments.examination import Examination
from pistar.testing.environments.rules import RULES

__all__ = ["RULES", "check_environment"]


def check_environment(
    make: Callable[[int], Environment],
    *,
    lanes: int = 3,
    steps: int = 200,
    seed: int = 0,
    independent_lanes: bool = True,
) -> None:
    """Raise ContractViolation, naming the rule, where ``make(lanes)`` breaks the environment contract.

    Some thirty instances are made one after the other, and each takes up to ``steps`` random actions; choose ``steps``
    so that several episodes end within. Where several agents share a world, choose ``lanes`` of whole worlds: worlds are
    then compared instead of lanes. ``independent_lanes=False`` is for lanes that share one random stream: then a lane,
    and where its later episodes start, may depend on what the others did.
    """
    if isinstance(make, Environment) or not callable(make):
        raise UsageError(
            f"check_environment compares several instances, so it expects a callable that makes a fresh environment of "
            f"the given number of lanes, such as `lambda lanes: {type(make).__name__}(lanes)`; received {make!r}"
        )
    examination = Examination(make, lanes, steps, seed, independent_lanes)
    for check in (*repeating.CHECKS, *continuing.CHECKS):
        try:
            check(examination)
        except Exception as error:
            error.add_note(f"raised while check_environment asked: {check.__doc__}")
            raise
    if not any(bool(entry.ended.any()) for entry in examination.entries):
        warnings.warn(
            f"no episode ended within {steps} random steps, so what follows an end was not checked; pass more steps",
            stacklevel=2,
        )

"""Does a distribution, with the head that makes it, keep the contract of `pistar.distributions` and `pistar.heads`?

``check_distribution`` compares what a distribution says of itself in several ways: its density with integrals and with its
own samples, its entropy and divergence with means of log-probabilities, its gradients with finite differences. A wrong
formula disagrees with one of them. Every rule has a name and a sentence in ``RULES``; a violation shows both.

Left out: whether the distribution is the one that its name promises; compare it with another implementation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from pistar.errors import UsageError
from pistar.heads import Head
from pistar.testing.distributions import numerics, statistics, structure
from pistar.testing.distributions.rules import RULES
from pistar.testing.distributions.trial import Trial

__all__ = ["RULES", "check_distribution"]


def check_distribution(family: Callable[[Any], Head], space: spaces.Space[Any] | None = None, *, seed: int = 0) -> None:
    """Raise ContractViolation, naming the rule, where the heads that ``family(space)`` makes break the contract.

    ``family`` is a head's class, or any callable that gives a head for a space; a Box of two dimensions with different bounds
    is taken where ``space`` is left out. Densities are integrated in one dimension, in Boxes of that kind.
    """
    if isinstance(family, Head) or not callable(family):
        raise UsageError(
            f"check_distribution makes several heads, so it expects a callable that gives a fresh head for a space, such as "
            f"{type(family).__name__}; received {family!r}"
        )
    if space is None:
        space = spaces.Box(np.array([-2.0, 0.5], np.float32), np.array([2.0, 0.75], np.float32))
    trial = Trial(family, space, seed)
    for check in (*structure.CHECKS, *statistics.CHECKS, *numerics.CHECKS, structure.check_batch):
        try:
            check(trial)
        except Exception as error:
            error.add_note(f"raised while check_distribution asked: {check.__doc__}")
            raise

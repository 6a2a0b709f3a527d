"""Does an algorithm keep the contract of `pistar.algorithms.algorithm`, and does it learn?

``check_algorithm`` trains it a few times on small worlds. What must be equal is compared bit for bit; what must improve
is judged beside random actions. Every rule has a name and a sentence in ``RULES``; a violation shows both.

Left out: whether gradients are those of the paper (compare them with an exactly solved problem, as `pistar.tabular` can),
and everything that a GPU or several processes could change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from pistar.algorithms.algorithm import Algorithm
from pistar.errors import UsageError
from pistar.tasks.task import Actions
from pistar.testing.algorithms import improving, refusing, repeating
from pistar.testing.algorithms.rules import RULES, check_configuration, check_declaration
from pistar.testing.algorithms.trials import Trial
from pistar.testing.environments.examination import reseeded_streams

__all__ = ["RULES", "check_algorithm"]


def check_algorithm(
    algorithm: Algorithm,
    *,
    policy: Any = None,
    training: Mapping[str, Any] | None = None,
    actions: Actions = "discrete",
    seed: int = 0,
    improvement: bool = True,
    quick: bool = False,
) -> None:
    """Raise ContractViolation, naming the rule, where ``algorithm`` breaks the contract or does not learn.

    It is trained with its recipe for ``actions``; ``training`` holds settings over that (``{"learning_rate": 1e-3}``) and
    ``policy`` another policy kind. ``quick`` leaves out CartPole, which takes most of the time and is for discrete actions
    only; ``improvement=False`` leaves out all learning worth the name.
    """
    if isinstance(algorithm, type):
        raise UsageError(f"check_algorithm expects an instance, such as {algorithm.__name__}(), received the class")
    check_declaration(algorithm)
    check_configuration(algorithm)
    trial = Trial(algorithm, policy, dict(training or {}), actions, seed)
    checks = [*repeating.CHECKS, *refusing.CHECKS]
    if improvement:
        checks.append(improving.check_small_worlds)
    if improvement and not quick and actions == "discrete":
        checks.append(improving.check_cartpole)
    threads = torch.get_num_threads()
    with reseeded_streams(None):  # sessions seed the process's streams and set its threads
        try:
            for check in checks:
                try:
                    check(trial)
                except Exception as error:
                    error.add_note(f"raised while check_algorithm asked: {check.__doc__}")
                    raise
        finally:
            torch.set_num_threads(threads)

"""One training by pistar for the scripts ``ours*.py``: the call that users make, all its records and checkpoints included."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure

import pistar
from pistar import training  # noqa: F401 (what a call of train imports)

IMPORTED = time.perf_counter() - measure.BEGAN
PPO = {  # as the peers learn: all the epochs, whatever the divergence
    "recompute_advantages": False,
    "normalize_advantages": True,
    "value_weight": 0.5,
    "max_kl": None,
}


def report(
    task: str,
    job: dict[str, Any],
    *,
    mlp: dict[str, Any],
    packages: tuple[str, ...] = ("pistar", "torch", "numpy", "gymnasium"),
    more: Callable[[list[float]], dict[str, Any]] = lambda marks: {},
    **settings: Any,
) -> None:
    """Train by ``job`` and print the result; ``more`` adds to it, from the clock at the end of every iteration.

    Observations and rewards are normalised where ``job["normalize"]`` says so.
    """
    marks: list[float] = []
    returns: list[float] = []  # mean of the last 100 episodes, as they were after each iteration

    def note(progress: Any) -> None:
        marks.append(time.perf_counter())
        returns.append(progress.record["return"])

    normalize = job.get("normalize", False)
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        result = pistar.train(
            task,
            **{key: job[key] for key in ("steps", "seed", "lanes", "horizon", "learning_rate")},
            normalize_rewards=normalize,
            warm_up=1000 if normalize else 0,
            ppo={**PPO, **{key: job[key] for key in ("epochs", "minibatch", "entropy_weight")}},
            mlp={"normalize": normalize, **mlp},
            evaluation={"every": 0, "final_episodes": 1},
            out=Path(directory) / "run",
            quiet=True,
            on_iteration=note,
            **settings,
        )
    measure.report(
        steps=result.steps,
        seconds=marks[-1] - began,
        imported=IMPORTED,
        returns=returns[-1:],
        packages=list(packages),
        loop_seconds=result.seconds,
        **more(marks),
    )

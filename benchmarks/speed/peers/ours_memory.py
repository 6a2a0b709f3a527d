"""pistar with and without a memory, by the call that users make, all its records and checkpoints included."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import measure

import pistar
from pistar import training  # noqa: F401 (what a call of train imports)

imported = time.perf_counter() - measure.BEGAN
job = measure.job()
marks: list[float] = []
returns: list[float] = []


def note(progress: Any) -> None:
    """The clock at the end of every iteration; the mean return of the last 100 episodes as they then were."""
    marks.append(time.perf_counter())
    returns.append(progress.record["return"])


ppo = {"epochs": job["epochs"], "minibatch": job["minibatch"], "entropy_weight": job["entropy_weight"]}
normalize = job.get("normalize", False)  # observations and rewards, as by default
mlp = {"normalize": normalize}
if job["memory"] != "none":
    mlp |= {key: job[key] for key in ("memory", "memory_size", "segment", "shared")}
with tempfile.TemporaryDirectory() as directory:
    began = time.perf_counter()
    result = pistar.train(
        "position_cartpole:PositionCartPole",
        steps=job["steps"],
        seed=job["seed"],
        lanes=job["lanes"],
        horizon=job["horizon"],
        learning_rate=job["learning_rate"],
        normalize_rewards=normalize,
        warm_up=1000 if normalize else 0,
        ppo={**ppo, "recompute_advantages": False, "normalize_advantages": True, "value_weight": 0.5},
        mlp=mlp,
        gymnasium={"adapter": "lanes"},
        evaluation={"every": 0, "final_episodes": 1},
        out=Path(directory) / "run",
        quiet=True,
        on_iteration=note,
    )
measure.report(
    steps=result.steps,
    seconds=marks[-1] - began,
    imported=imported,
    returns=returns[-1:],
    packages=["pistar", "torch", "numpy", "gymnasium"],
)

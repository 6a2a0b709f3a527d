"""pistar by the call that users make, all its records, checkpoints and TensorBoard included."""

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


keywords: dict[str, Any] = {
    "ppo": {"epochs": job["epochs"], "minibatch": job["minibatch"], "recompute_advantages": False}
}
keywords["ppo"] |= {"entropy_weight": job["entropy_weight"], "normalize_advantages": True, "value_weight": 0.5}
if job.get("adapter"):
    keywords["gymnasium"] = {"adapter": job["adapter"]}
with tempfile.TemporaryDirectory() as directory:
    began = time.perf_counter()
    result = pistar.train(
        job["task"],
        steps=job["steps"],
        seed=job["seed"],
        lanes=job["lanes"],
        horizon=job["horizon"],
        learning_rate=job["learning_rate"],
        threads=job["threads"],
        normalize_rewards=job["normalize"],
        warm_up=1000 if job["normalize"] else 0,
        mlp={"normalize": job["normalize"]},
        evaluation={"every": 0, "final_episodes": 1},
        out=Path(directory) / "run",
        quiet=True,
        on_iteration=note,
        **keywords,
    )
measure.report(
    steps=result.steps,
    seconds=marks[-1] - began,
    imported=imported,
    returns=returns[-1:],
    packages=["pistar", "torch", "numpy", "gymnasium"],
    loop_seconds=result.seconds,
)

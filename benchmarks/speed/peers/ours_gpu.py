"""pistar on a device, by the call that users make; the clock is read where an iteration's numbers have been read."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import measure
import torch

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
ppo |= {"recompute_advantages": False, "normalize_advantages": True, "value_weight": 0.5}
on_cuda = {"graphs": job["graphs"], "precision": job["precision"]} if job["device"] == "cuda" else {}
with tempfile.TemporaryDirectory() as directory:
    began = time.perf_counter()
    result = pistar.train(
        "cartpole",
        steps=job["steps"],
        seed=job["seed"],
        lanes=job["lanes"],
        horizon=job["horizon"],
        learning_rate=job["learning_rate"],
        device=job["device"],
        normalize_rewards=False,
        warm_up=0,
        ppo=ppo,
        mlp={"normalize": False},
        evaluation={"every": 0, "final_episodes": 1},
        out=Path(directory) / "run",
        quiet=True,
        on_iteration=note,
        **on_cuda,
    )
measure.report(
    steps=result.steps,
    seconds=marks[-1] - began,
    imported=imported,
    returns=returns[-1:],
    packages=["pistar", "torch", "numpy"],
    **measure.steady(marks, job["lanes"] * job["horizon"]),
    gpu_peak_mb=torch.cuda.max_memory_allocated() / 2**20 if job["device"] == "cuda" else None,
)

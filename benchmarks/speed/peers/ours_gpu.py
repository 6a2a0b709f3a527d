"""pistar on a device; the clock is read where an iteration's numbers have been read."""

from __future__ import annotations

from typing import Any

import measure
import own_run
import torch

job = measure.job()
on_cuda = job["device"] == "cuda"


def more(marks: list[float]) -> dict[str, Any]:
    """Speed without what is made only once, and the most memory of the GPU."""
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_cuda else None
    return {**measure.steady(marks, job["lanes"] * job["horizon"]), "gpu_peak_mb": peak}


settings = {"graphs": job["graphs"], "precision": job["precision"]} if on_cuda else {}
own_run.report(
    "cartpole", job, mlp={}, packages=("pistar", "torch", "numpy"), more=more, device=job["device"], **settings
)

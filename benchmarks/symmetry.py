"""What learning from mirror images gains: PPO with its defaults, and with ``--symmetry task``, on tasks that have one.

    python benchmarks/symmetry.py [--seeds 3] [--out benchmarks/results]

Images double the samples of an iteration: once with the minibatch as it is (twice the gradient steps), once with one of twice
the size (as many steps as without). Writes symmetry.json and symmetry.md; what is kept of a run is said in ways.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import ways

DOUBLED = {"cartpole": 512, "arm-reach": 256, "pendulum": 128}  # twice the minibatches of PPO's recipes
STEPS = {"cartpole": 30_000, "arm-reach": 150_000, "pendulum": 100_000}
WAYS: dict[str, dict[str, Any]] = {
    "without": {},
    "images": {"symmetry": "task"},
    "images, minibatch twice as large": {"symmetry": "task", "double": True},
}


def settings(task: str, way: str) -> dict[str, Any]:
    """Of one way of training a task."""
    chosen = dict(WAYS[way])
    if chosen.pop("double", False):
        chosen["ppo"] = {"minibatch": DOUBLED[task]}
    return chosen


if __name__ == "__main__":
    ways.main("Symmetry", "symmetry", STEPS, WAYS, settings)

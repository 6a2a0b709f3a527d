"""How long it takes until CartPole-v1 is solved: from the call of ``train`` to the last update, on one core.

    python benchmarks/speed/solve.py [--seeds 100 101 ...] [--core 0] [--task CartPole-v1]

Training stops by what it sees itself, the mean return of its last 100 episodes; whether the policy is right is asked
afterwards, off the clock: at least 475 over 100 greedy episodes. Kernels are compiled and modules imported before. The seeds
are none of those that the settings were chosen with (0 to 19).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pistar
from pistar import training  # noqa: F401 (imported before the clock starts)
from pistar.kernels.library import identity

RESULTS = Path(__file__).parent.parent / "results"
SETTINGS: dict[str, Any] = {
    "steps": 200_000,
    "schedule_steps": 100_000,
    "lanes": 32,
    "horizon": 64,
    "learning_rate": "3e-3:0",
    "stop_at": 180.0,
    "warm_up": 0,
    "normalize_rewards": False,
    "ppo": {
        "epochs": 6,
        "minibatch": 256,
        "discount": 0.99,
        "trace": 0.95,
        "entropy_weight": 0.0,
        "normalize_advantages": True,
        "recompute_advantages": False,
        "value_weight": 0.5,
    },
    "mlp": {"normalize": False},
    "evaluation": {"every": 0},
    "checkpoints": {"every": 0},
}


def solved(task: str, seed: int, **over: Any) -> dict[str, Any]:
    """One training: seconds, steps, and the return of the policy that it ended with."""
    marks: list[float] = []
    settings = {**SETTINGS, **({"gymnasium": {"adapter": "vector"}} if "-" in task else {}), **over}
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        result = pistar.train(
            task,
            seed=seed,
            out=Path(directory) / "run",
            quiet=True,
            on_iteration=lambda progress: marks.append(time.perf_counter()),  # type: ignore[func-returns-value]
            **settings,
        )
    return {
        "seed": seed,
        "seconds": marks[-1] - began,
        "steps": result.steps,
        "return": result.evaluation.mean,
        "reason": result.reason,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(100, 120)))
    parser.add_argument("--task", default="CartPole-v1")
    parser.add_argument("--core", type=int, default=0)
    chosen = parser.parse_args()
    os.sched_setaffinity(0, {chosen.core})
    solved(chosen.task, 10**6, steps=2048)  # everything is imported and compiled now
    runs = []
    for seed in chosen.seeds:
        runs.append(solved(chosen.task, seed))
        print(runs[-1], flush=True)
    seconds, right = [run["seconds"] for run in runs], sum(run["return"] >= 475 for run in runs)
    versions = {"kernels": identity(), "python": platform.python_version()}
    whole = {"command": " ".join(["python", *sys.argv]), "versions": versions, "settings": SETTINGS, "runs": runs}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "solve.json").write_text(json.dumps(whole, indent=1) + "\n")
    page = (
        f"# solve\n\n    {whole['command']}\n\n{chosen.task}, {len(runs)} seeds: median {statistics.median(seconds):.3f} s, "
        f"{min(seconds):.3f} to {max(seconds):.3f} s, median {statistics.median(run['steps'] for run in runs):,.0f} steps; "
        f"{right} of {len(runs)} policies reach 475 over 100 greedy episodes.\n"
    )
    (RESULTS / "solve.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()

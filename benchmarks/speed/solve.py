"""How long it takes until CartPole-v1 is solved: from the call of ``train`` to the last update, on one core.

    python benchmarks/speed/solve.py [--seeds 100 101 ...] [--core 0] [--task CartPole-v1] [--peer PYTHON]

Training stops by what it sees itself, the mean return of its last 100 episodes; whether the policy is right is asked
afterwards, off the clock: at least 475 over 100 greedy episodes. Kernels are compiled and modules imported before. The seeds
are none of those that the settings were chosen with (0 to 19). With ``--peer``, the interpreter of an environment that has
Stable-Baselines3, that is asked the same in turn, with its own tuned settings and a kinder rule (``peers/sb3_solve.py``).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import compare

import pistar
from pistar import training  # noqa: F401 (imported before the clock starts)
from pistar.kernels.library import identity

RESULTS, SOLVED = Path(__file__).parent.parent / "results", 475.0
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


def peer(python: str, seed: int, core: int) -> dict[str, Any]:
    """The same of Stable-Baselines3, in a process of its own."""
    script = Path(__file__).parent / "peers" / "sb3_solve.py"
    found = compare.run(python, script, {"seed": seed, "solved": SOLVED}, core)
    if "error" in found:
        raise SystemExit(f"{python} {script.name}, seed {seed}: {found['error']}")
    return {"seed": seed, **{key: found[key] for key in ("seconds", "steps", "versions")}, "return": found["greedy"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(100, 120)))
    parser.add_argument("--task", default="CartPole-v1")
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--peer", help="a Python that has Stable-Baselines3")
    chosen = parser.parse_args()
    os.sched_setaffinity(0, {chosen.core})
    solved(chosen.task, 10**6, steps=2048)  # everything is imported and compiled now
    runs: dict[str, list[dict[str, Any]]] = {"pistar": []}
    for seed in chosen.seeds:
        runs["pistar"].append(solved(chosen.task, seed))
        if chosen.peer:
            runs.setdefault("Stable-Baselines3", []).append(peer(chosen.peer, seed, chosen.core))
        print(*(each[-1] for each in runs.values()), flush=True)
    versions = {"kernels": identity(), "python": platform.python_version()}
    command = "python benchmarks/speed/solve.py" + (" --peer PYTHON" if chosen.peer else "")
    whole = {"command": command, "task": chosen.task, "versions": versions, "settings": SETTINGS, "runs": runs}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "solve.json").write_text(json.dumps(whole, indent=1) + "\n")
    (RESULTS / "solve.md").write_text(page(whole))
    print(page(whole))


def page(whole: dict[str, Any]) -> str:
    """The table."""
    lines = ["# solve", "", f"    {whole['command']}", "", f"{whole['task']}, one core, wall time of training:", ""]
    lines += [
        "| | median s | range | median steps | policies that reach 475 over 100 greedy episodes |",
        "| --- " * 5 + "|",
    ]
    for name, runs in whole["runs"].items():
        seconds, right = [run["seconds"] for run in runs], sum(run["return"] >= SOLVED for run in runs)
        lines.append(
            f"| {name} | {statistics.median(seconds):.3f} | {min(seconds):.3f} to {max(seconds):.3f} "
            f"| {statistics.median(run['steps'] for run in runs):,.0f} | {right} of {len(runs)} |"
        )
    lines += ["", "pistar stops by the return of its last 100 training episodes, which it sees anyhow."]
    if len(whole["runs"]) > 1:
        lines += [
            "Stable-Baselines3 has the settings that its Zoo tuned for this task, and is stopped by an oracle: the first policy to",
            "reach 475 over 20 greedy episodes, played off the clock after every fourth rollout.",
            "",
            ", ".join(
                f"{name} {version}" for name, version in whole["runs"]["Stable-Baselines3"][0]["versions"].items()
            ),
        ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()

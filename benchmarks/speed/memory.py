"""What a memory costs: CartPole without velocities, 8 lanes × 128 steps, one core, beside sb3-contrib's RecurrentPPO.

    python benchmarks/speed/memory.py [--seeds 3] [--core 0] [--steps 102400]

Every round runs every entry once with one seed. The feed-forward policy, which cannot solve the task, says what the same
loop costs without a memory: with the native kernels, and by torch alone, which is the path that memories take. Printed
and kept in ``benchmarks/results/memory.json`` and ``.md``. sb3-contrib gets a virtual environment of its own under
``--environments``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

import compare

PEERS = compare.HERE / "peers"
JOB: dict[str, Any] = {**compare.CARTPOLE, "learning_rate": 1e-3, "segment": 16, "memory_size": 64}
OURS: dict[str, dict[str, Any]] = {
    "feed-forward, kernels": {"memory": "none", "kernels": "on"},
    "feed-forward, torch": {"memory": "none", "kernels": "off"},
    "GRU": {"memory": "gru", "shared": True, "kernels": "on"},
    "LSTM": {"memory": "lstm", "shared": True, "kernels": "on"},
    "LSTM, one each": {"memory": "lstm", "shared": False, "kernels": "on"},
    "GRU, torch": {"memory": "gru", "shared": True, "kernels": "off"},
    "GRU, normalised": {"memory": "gru", "shared": True, "kernels": "on", "normalize": True},
}
THEIRS: dict[str, dict[str, Any]] = {
    "sb3-contrib, LSTM shared": {"shared": True},
    "sb3-contrib, LSTM each": {"shared": False},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=102_400)
    parser.add_argument("--core", type=int, default=0, help="every run is pinned to it")
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "pistar" / "peers")
    chosen = parser.parse_args()
    compare.PEERS["sb3-contrib"] = ("sb3_contrib_peer.py", ["sb3-contrib", "gymnasium", "torch"])
    python = compare.prepare("sb3-contrib", chosen.environments)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(PEERS), os.environ.get("PYTHONPATH", "")])
    runs = []
    for seed in range(chosen.seeds):
        for entry, (interpreter, script, settings) in entries(python).items():
            os.environ["PISTAR_KERNELS"] = settings.get("kernels", "on")
            job = {**JOB, **settings, "seed": seed, "steps": chosen.steps}
            runs.append(
                {"entry": entry, "seed": seed, "job": job, **compare.run(interpreter, script, job, chosen.core)}
            )
            print(f"seed {seed}, {entry}: {runs[-1].get('error') or compare.speed(runs[-1])}", flush=True)
    whole = {"processor": compare.processor(), "python": platform.python_version(), "runs": runs}
    (compare.RESULTS / "memory.json").write_text(json.dumps(whole, indent=1) + "\n")
    page = to_markdown(whole)
    (compare.RESULTS / "memory.md").write_text(page)
    print(page)


def entries(python: str | None) -> dict[str, tuple[str, Path, dict[str, Any]]]:
    """Name -> (Python, script, settings) of everything that a round runs."""
    found = {name: (sys.executable, PEERS / "ours_memory.py", settings) for name, settings in OURS.items()}
    if python is not None:
        found |= {name: (python, PEERS / "sb3_contrib_peer.py", settings) for name, settings in THEIRS.items()}
    return found


def to_markdown(whole: dict[str, Any]) -> str:
    """Medians over the rounds; the ratio is that to the first of ours and of theirs in the same round."""
    runs = [run for run in whole["runs"] if "error" not in run]
    speeds = {(run["entry"], run["seed"]): compare.speed(run) for run in runs}
    references = ["feed-forward, torch", "feed-forward, kernels", "sb3-contrib, LSTM shared"]
    lines = ["# memory", "", f"    python benchmarks/speed/memory.py --steps {runs[0]['job']['steps']}", ""]
    lines += [f"| | steps/s | {' | '.join(f'to {name}' for name in references)} | return, last 100 |"]
    lines += ["| --- " * (len(references) + 3) + "|"]
    for entry in dict.fromkeys(run["entry"] for run in runs):
        mine = [run for run in runs if run["entry"] == entry]
        row = [f"{statistics.median(map(compare.speed, mine)):,.0f}"]
        for name in references:
            shares = [
                speeds[entry, run["seed"]] / speeds[name, run["seed"]] for run in mine if (name, run["seed"]) in speeds
            ]
            row.append(f"{statistics.median(shares):.2f}" if shares else "")
        row.append(f"{statistics.median(run['return'] for run in mine):.4g}")
        lines.append(f"| {entry} | {' | '.join(row)} |")
    lines += [
        "",
        "Neither observations nor rewards are normalised, as sb3-contrib does it, but in the row that says so, which is pistar's",
        "default. A memory that actor and critic share needs it more here: pistar's critic trains it too, theirs does not.",
    ]
    return "\n".join([*lines, "", f"Processor {whole['processor']}, python {whole['python']}.", ""])


if __name__ == "__main__":
    main()

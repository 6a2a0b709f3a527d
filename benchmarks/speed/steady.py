"""Does a long run get slower, or larger? Steps per second and resident memory in every tenth of a run, on one core.

    python benchmarks/speed/steady.py [--core 0] [--scale 1]

Runs as users start them: records, evaluations, checkpoints and TensorBoard included; ``--scale`` makes them longer. Kept in
``benchmarks/results/steady.json`` and ``.md``. A pause of a shared machine shows as one slow tenth; a run that slows down
shows as a slope.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "results"
ROWS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "torch-native cartpole, 8 × 128": ("cartpole", 4_000_000, {"lanes": 8, "horizon": 128}),
    "CartPole-v1, 8 × 128": ("CartPole-v1", 2_000_000, {"lanes": 8, "horizon": 128, "workers": 0}),
    "HalfCheetah-v5, 8 × 256": ("HalfCheetah-v5", 1_000_000, {"lanes": 8, "horizon": 256}),
}
PARTS = 10


def resident() -> float:
    """Megabytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(name: str, scale: float) -> dict[str, Any]:
    """One run; in a process of its own."""
    import pistar

    task, steps, settings = ROWS[name]
    steps = int(steps * scale)
    marks: list[tuple[int, float, float]] = []  # steps, seconds of training, megabytes

    def mark(progress: pistar.training.Progress) -> None:
        if progress.steps >= (len(marks) + 1) * steps // PARTS or not marks:
            marks.append((progress.steps, progress.record["time"]["seconds"], resident()))

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        pistar.train(task, steps=steps, out=Path(place) / "run", quiet=True, on_iteration=mark, **settings)
    speeds = [(b[0] - a[0]) / (b[1] - a[1]) for a, b in itertools.pairwise(marks)]
    return {
        "row": name,
        "steps": steps,
        "seconds": time.perf_counter() - began,
        "speeds": speeds,
        "megabytes": [mark[2] for mark in marks],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.row:
        os.sched_setaffinity(0, {chosen.core})
        print(json.dumps(measure(chosen.row, chosen.scale)))
        return
    found = []
    for name in ROWS:
        command = [sys.executable, __file__, "--core", str(chosen.core), "--scale", str(chosen.scale), "--row", name]
        found.append(
            json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])
        )
    lines = ["# steady", "", f"    python benchmarks/speed/steady.py --scale {chosen.scale:g}", ""]
    lines += ["| run | steps | first tenths, steps/s | last tenths | ratio | MB early | MB at the end |"]
    lines += ["| --- " * 7 + "|"]
    for row in found:
        third = len(row["speeds"]) // 3
        first, last = statistics.median(row["speeds"][:third]), statistics.median(row["speeds"][-third:])
        lines.append(
            f"| {row['row']} | {row['steps']:,} | {first:,.0f} | {last:,.0f} | {last / first:.2f} "
            f"| {row['megabytes'][1]:.0f} | {row['megabytes'][-1]:.0f} |"
        )
    lines += ["", "Steps/s of collecting and learning: medians of the first and of the last three tenths.", ""]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "steady.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "steady.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()

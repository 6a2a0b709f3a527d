"""Steps per second against the number of lanes and against the width of the networks, on one core, with peak memory.

    python benchmarks/speed/scaling.py [--core 0]

Torch-native CartPole, 128 steps, 4 epochs, minibatches of a quarter of the rollout up to 8192; each point is the median of
three stretches in a process of its own. Kept in ``benchmarks/results/scaling.json``, ``.md`` and ``.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "results"
LANES = (1, 4, 16, 64, 256, 1024, 4096, 16384)
WIDTHS = (32, 64, 128, 256, 512, 1024)
HORIZON, STRETCH = 128, 2.0  # steps; seconds of each stretch


def measure(lanes: int, width: int) -> dict[str, Any]:
    """One point; in a process of its own, whose peak memory is the point's."""
    import torch

    from pistar import api, session

    torch.set_num_threads(1)
    experiment = api.make_experiment(
        "cartpole",
        lanes=lanes,
        horizon=HORIZON,
        warm_up=0,
        ppo={"epochs": 4, "minibatch": max(32, min(8192, lanes * HORIZON // 4)), "recompute_advantages": False},
        mlp={"hidden": (width, width), "normalize": False},
        normalize_rewards=False,
    )
    opened = session.Session(experiment)
    opened.collector.start()
    opened.iterate(cut=False)
    speeds = []
    for _ in range(3):
        began, steps = time.perf_counter(), 0
        while steps == 0 or time.perf_counter() - began < STRETCH:
            opened.iterate(cut=False)
            steps += lanes * HORIZON
        speeds.append(steps / (time.perf_counter() - began))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"lanes": lanes, "width": width, "steps_per_second": statistics.median(speeds), "peak_mb": peak}


def draw(by_lanes: list[dict[str, Any]], by_width: list[dict[str, Any]]) -> None:
    """Both curves."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
    for axis, points, key, base in ((axes[0], by_lanes, "lanes", 2), (axes[1], by_width, "width", 2)):
        axis.plot([p[key] for p in points], [p["steps_per_second"] for p in points], "o-", color="#1f6f8b")
        axis.set_xscale("log", base=base)
        axis.set_yscale("log")
        axis.set_xlabel(key)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("steps per second, one core")
    axes[0].set_title("lanes (64-64)", fontsize=10)
    axes[1].set_title("width of both hidden layers (256 lanes)", fontsize=10)
    figure.savefig(RESULTS / "scaling.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--point", type=int, nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.point:
        os.sched_setaffinity(0, {chosen.core})
        print(json.dumps(measure(*chosen.point)))
        return

    def point(lanes: int, width: int) -> dict[str, Any]:
        command = [sys.executable, __file__, "--core", str(chosen.core), "--point", str(lanes), str(width)]
        found = dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        print(found, flush=True)
        return found

    by_lanes = [point(lanes, 64) for lanes in LANES]
    by_width = [point(256, width) for width in WIDTHS]
    lines = ["# scaling", "", "    python benchmarks/speed/scaling.py", "", "![steps per second](scaling.png)", ""]
    lines += ["| lanes | width | steps/s | peak MB |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {p['lanes']} | {p['width']} | {p['steps_per_second']:,.0f} | {p['peak_mb']:.0f} |"
        for p in (*by_lanes, *by_width)
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scaling.json").write_text(json.dumps({"lanes": by_lanes, "width": by_width}, indent=1) + "\n")
    (RESULTS / "scaling.md").write_text("\n".join([*lines, ""]))
    draw(by_lanes, by_width)


if __name__ == "__main__":
    main()

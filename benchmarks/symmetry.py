"""What learning from mirror images gains: PPO with its defaults, and with ``--symmetry task``, on tasks that have one.

    python benchmarks/symmetry.py [--seeds 3] [--out benchmarks/results]

Images double the samples of an iteration: once with the minibatch as it is (twice the gradient steps), once with one of twice
the size (as many steps as without). Of every run the mean of all evaluations (20 deterministic episodes each, evenly spaced:
how fast it learned) and the last one of 100 episodes are kept. Writes symmetry.json and symmetry.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pistar
from pistar.statistics import confidence

STEPS = {"cartpole": 30_000, "arm-reach": 150_000, "pendulum": 100_000}
WAYS: dict[str, dict[str, Any]] = {
    "without": {},
    "images": {"symmetry": "task"},
    "images, minibatch twice as large": {"symmetry": "task", "double": True},
}


def run(task: str, way: str, seed: int, place: Path) -> tuple[float, float]:
    """Mean of the evaluations on the way, and the last one."""
    settings: dict[str, Any] = {**WAYS[way], "steps": STEPS[task], "seed": seed, "quiet": True}
    if settings.pop("double", False):
        settings["ppo"] = {"minibatch": 512 if task == "cartpole" else 128}
    result = pistar.train(task, out=place, **settings)
    lines = [json.loads(line) for line in (place / "evaluations.jsonl").read_text().splitlines()]
    return statistics.mean(line["mean"] for line in lines[:-1]), result.evaluation.mean


def in_words(numbers: list[float]) -> str:
    low, high = confidence(numbers)
    return f"{statistics.mean(numbers):.4g} ± {(high - low) / 2:.2g}"


def table(found: dict[str, Any], seeds: int) -> str:
    lines = [
        "# Symmetry",
        "",
        f"`python benchmarks/symmetry.py --seeds {seeds}`: means of {seeds} seeds ± the half-width of their",
    ]
    lines += [
        "95 % interval (Student's t).",
        "",
        "| task | steps | | mean on the way | last |",
        "| --- | --- | --- | --- | --- |",
    ]
    for task, ways in found.items():
        for way, rows in ways.items():
            along, last = (list(column) for column in zip(*rows, strict=True))
            cells = [
                task,
                f"{STEPS[task]:,}",
                way,
                in_words(along),
                in_words(last),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        for task in STEPS:
            for way in WAYS:
                for seed in range(chosen.seeds):
                    place = Path(directory) / f"{task}-{len(way)}-{seed}"
                    found.setdefault(task, {}).setdefault(way, []).append(run(task, way, seed, place))
                    print(task, way, seed, found[task][way][-1], flush=True)
    (chosen.out / "symmetry.json").write_text(json.dumps(found, indent=1) + "\n")
    (chosen.out / "symmetry.md").write_text(table(found, chosen.seeds))
    print(table(found, chosen.seeds))


if __name__ == "__main__":
    main()

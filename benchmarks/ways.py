"""Several ways of training beside each other: tasks × ways × seeds, and a table of means. What a benchmark of one change calls.

Of every run the mean of its evaluations on the way (20 deterministic episodes each, evenly spaced: how fast it learned) and the
last one of 100 episodes are kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pistar
from pistar.statistics import confidence

RESULTS = Path(__file__).parent / "results"


def main(
    title: str, script: str, steps: Mapping[str, int], ways: Mapping[str, Any], settings: Callable[[str, str], Any]
) -> None:
    """Train each task of ``steps`` in each of the ``ways``, with ``settings(task, way)``, and write SCRIPT.json and .md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        for task in steps:
            for number, way in enumerate(ways):
                for seed in range(chosen.seeds):
                    place = Path(directory) / f"{task}-{number}-{seed}"
                    scores = run(task, {**settings(task, way), "steps": steps[task], "seed": seed}, place)
                    found.setdefault(task, {}).setdefault(way, []).append(scores)
                    print(task, way, seed, scores, flush=True)
    page, name = table(title, script, steps, found, chosen.seeds), script.replace("_", "-")
    (chosen.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (chosen.out / f"{name}.md").write_text(page)
    print(page)


def run(task: str, settings: dict[str, Any], place: Path) -> tuple[float, float]:
    """Mean of the evaluations on the way, and the last one."""
    result = pistar.train(task, out=place, quiet=True, **settings)
    lines = [json.loads(line) for line in (place / "evaluations.jsonl").read_text().splitlines()]
    return statistics.mean(line["mean"] for line in lines[:-1]), result.evaluation.mean


def table(title: str, script: str, steps: Mapping[str, int], found: dict[str, Any], seeds: int) -> str:
    """The page."""
    lines = [
        f"# {title}",
        "",
        f"`python benchmarks/{script}.py --seeds {seeds}`: means of {seeds} seeds ± the half-width of their",
        "95 % interval (Student's t).",
        "",
        "| task | steps | | mean on the way | last |",
        "| --- | --- | --- | --- | --- |",
    ]
    for task, ways in found.items():
        for way, rows in ways.items():
            along, last = (list(column) for column in zip(*rows, strict=True))
            lines.append(f"| {task} | {steps[task]:,} | {way} | {in_words(along)} | {in_words(last)} |")
    return "\n".join(lines) + "\n"


def in_words(numbers: list[float]) -> str:
    """Mean and half-width."""
    low, high = confidence(numbers)
    return f"{statistics.mean(numbers):.4g} ± {(high - low) / 2:.2g}"

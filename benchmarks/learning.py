"""How well pistar learns: several seeds of one setting, trained by the command line that users type.

    python benchmarks/learning.py SUITE [--out DIR] [--seeds 0 1 2 3 4] [--runs 1]

Every run is a run directory under ``--out``, so that the benchmark can be stopped at any moment: called again, it skips
what is finished, resumes what is not, and starts the rest. The summary goes to ``benchmarks/results/SUITE.json`` and
``.md``: score per seed, median, mean and the 95 % interval of the mean, versions, the command of every row.

A row's score is one of: the mean of the last 10 of 17 evaluations (``last-10``), the return of the final 100
deterministic episodes on fresh seeds (``final``), or the exact fraction of the optimum (``fraction``).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pistar.run import RunDirectory
from pistar.statistics import confidence

RESULTS = Path(__file__).parent / "results"
FINISHED = '"final":true'


@dataclass(frozen=True)
class Row:
    """One setting. ``asked`` is the score that it should reach, ``steps`` the experience it may use."""

    name: str
    arguments: str  # of `pistar train`
    score: str
    asked: float
    judged_by: str = "median"  # of the seeds' scores: "median", "mean" or "every"


MUJOCO = "--steps 1e6 --evaluation.every 58823"  # 17 evaluations, the last with the last step
SUITES: dict[str, list[Row]] = {
    "ppo-mujoco": [
        Row("Reacher-v5", f"reacher {MUJOCO} --evaluation.episodes 100", "last-10", -4.2, "mean"),
        Row("HalfCheetah-v5", f"HalfCheetah-v5 {MUJOCO} --evaluation.episodes 20", "last-10", 5000.0, "mean"),
    ],
    "cartpole": [
        Row("cartpole, native", "cartpole --steps 200000", "final", 475.0, "every"),
        Row("CartPole-v1, lanes", "CartPole-v1 --steps 200000", "final", 475.0, "every"),
    ],
    "linear-softmax": [
        Row("arm-joint-open, fixed goal", "arm-joint-open --steps 500000", "fraction", 0.99),
        Row(
            "arm-joint-open, goal per episode",
            "arm-joint-open --arm-joint-open.goal episode --steps 500000",
            "fraction",
            0.99,
        ),
        Row("arm-joint, fixed goal", "arm-joint --steps 5000000", "fraction", 0.97),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rows", nargs="+", help="only the rows whose names contain one of these")
    parser.add_argument("--runs", type=int, default=1, help="runs at a time, one core each")
    chosen = parser.parse_args()
    rows = [row for row in SUITES[chosen.suite] if not chosen.rows or any(word in row.name for word in chosen.rows)]
    jobs = [(row, seed) for seed in chosen.seeds for row in rows]
    with concurrent.futures.ThreadPoolExecutor(chosen.runs) as pool:
        list(pool.map(lambda job: complete(*job, directory(chosen.out, chosen.suite, *job)), jobs))
    summarize(chosen.suite, rows, chosen.seeds, chosen.out)


def directory(out: Path, suite: str, row: Row, seed: int) -> Path:
    """Where a run lies."""
    return out / suite / row.name.replace(", ", "-").replace(" ", "-") / f"seed-{seed}"


def complete(row: Row, seed: int, path: Path) -> None:
    """Start a run, or go on with one that was stopped; a finished one is left alone."""
    run = RunDirectory(path)
    if run.evaluations.is_file() and FINISHED in run.evaluations.read_text().replace(" ", ""):
        return
    begun = run.checkpoints.is_dir() and any(run.checkpoints.iterdir())
    command = (
        ["resume", str(path)] if begun else ["train", *row.arguments.split(), "--seed", str(seed), "--out", str(path)]
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    print(f"{row.name}, seed {seed}: {command[0]}", flush=True)
    subprocess.run([sys.executable, "-m", "pistar", *command, "--quiet"], check=True, env=environment)


def score(row: Row, run: RunDirectory) -> float:
    """The row's score of one finished run."""
    evaluations = [json.loads(line) for line in run.evaluations.read_text().splitlines()]
    final = evaluations.pop()
    if row.score == "final":
        return float(final["mean"])
    if row.score == "fraction":
        return float(final["fraction_of_optimum"])
    if len(evaluations) != 17:
        raise SystemExit(f"{run.path}: expected 17 evaluations, found {len(evaluations)}")
    return statistics.fmean(evaluation["mean"] for evaluation in evaluations[-10:])


def summarize(suite: str, rows: list[Row], seeds: list[int], out: Path) -> None:
    """Write the table and the figures behind it."""
    results: list[dict[str, Any]] = []
    for row in rows:
        runs = [RunDirectory(directory(out, suite, row, seed)) for seed in seeds]
        scores = [score(row, run) for run in runs]
        last = [json.loads(run.metrics.read_text().splitlines()[-1]) for run in runs]
        low, high = confidence(scores)
        results.append(
            {
                "row": row.name,
                "command": f"pistar train {row.arguments} --seed SEED",
                "score": row.score,
                "seeds": seeds,
                "scores": scores,
                "mean": statistics.fmean(scores),
                "interval": [low, high],
                "median": statistics.median(scores),
                "minimum": min(scores),
                "asked": row.asked,
                "judged_by": row.judged_by,
                "steps": [record["steps"] for record in last],
                "seconds": [record["time"]["seconds"] for record in last],
            }
        )
    versions = {key: value for key, value in runs[0].provenance().items() if key != "command"}
    RESULTS.mkdir(exist_ok=True)
    whole = {"suite": suite, "command": " ".join(["python", *sys.argv]), "versions": versions, "rows": results}
    (RESULTS / f"{suite}.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    table = to_markdown(whole)
    (RESULTS / f"{suite}.md").write_text(table)
    print(table)


def to_markdown(whole: dict[str, Any]) -> str:
    """The summary as a page."""
    lines = [
        f"# {whole['suite']}",
        "",
        "    " + whole["command"],
        "",
        "| task | asked | median | mean [95 % interval] | lowest | per seed | seconds a run |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in whole["rows"]:
        scores = ", ".join(f"{value:.4g}" for value in row["scores"])
        interval = f"{row['mean']:.4g} [{row['interval'][0]:.4g}, {row['interval'][1]:.4g}]"
        lines.append(
            f"| {row['row']} | {row['judged_by']} ≥ {row['asked']:g} | {row['median']:.4g} | {interval} "
            f"| {row['minimum']:.4g} | {scores} | {statistics.median(row['seconds']):.0f} |"
        )
    versions = ", ".join(f"{name} {value}" for name, value in whole["versions"].items())
    return "\n".join(
        [*lines, "", "Each run: " + "; ".join(f"`{row['command']}`" for row in whole["rows"]), "", versions, ""]
    )


if __name__ == "__main__":
    main()

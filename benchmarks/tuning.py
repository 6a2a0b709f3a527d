"""Does `pistar tune` pay? Two tasks by its own command, and what it chose beside the defaults on fresh seeds.

    python benchmarks/tuning.py [--tasks arm-reach pendulum] [--steps 50000] [--trials 60] [--workers 2] [--out DIR]

The searches lie under ``--out`` and can be stopped: called again, they go on, and the minutes of all sittings are added. The chosen
settings are then trained once more from best.toml; its runs must be the trial's, bit for bit. Writes
benchmarks/results/tuning.json and tuning.md, and exits with 1 where a run was another.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["arm-reach", "pendulum"])
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/tuning"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    found = [searched(task, chosen) for task in chosen.tasks]
    record = {"steps": chosen.steps, "trials": chosen.trials, "workers": chosen.workers, "rows": found}
    (RESULTS / "tuning.json").write_text(json.dumps(record, indent=1) + "\n")
    (RESULTS / "tuning.md").write_text(page(record))
    print(page(record))
    sys.exit(0 if all(each["repeated"] for each in found) else 1)


def searched(task: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """One search, its result, how long it took, and whether its best trial can be repeated."""
    place, minutes = chosen.out / task, chosen.out / f"{task}.minutes"
    began, before = time.monotonic(), float(minutes.read_text()) if minutes.exists() else 0.0
    if not (place / "result.json").exists():
        how = ["--steps", str(chosen.steps), "--trials", str(chosen.trials), "--workers", str(chosen.workers)]
        try:
            pistar("tune", task, *how, "--out", str(place))
        finally:
            minutes.write_text(f"{before + (time.monotonic() - began) / 60:.3f}")
    result = json.loads((place / "result.json").read_text())
    return {"task": task, "minutes": float(minutes.read_text()), "repeated": repeated(task, place, result), **result}


def repeated(task: str, place: Path, result: dict[str, Any]) -> bool:
    """Whether training from best.toml gives the runs of the chosen trial again, every weight and every evaluation."""
    seeds = len(result["chosen"]["areas"])
    again, first = place / "again", place / "trials" / f"{result['chosen']['trial']:04d}"
    shutil.rmtree(again, ignore_errors=True)
    pistar("train", task, "--config", str(place / "best.toml"), "--seeds", str(seeds), "--quiet", "--out", str(again))
    return all(
        (first / f"seed-{k}" / file).read_bytes() == (again / f"seed-{k}" / file).read_bytes()
        for k in range(seeds)
        for file in ("policy.safetensors", "evaluations.jsonl")
    )


def pistar(*words: str) -> None:
    """The command line, as users type it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "pistar", *words], check=True, env=environment)


def page(record: dict[str, Any]) -> str:
    """The table."""
    lines = [
        "# Tuned settings beside the defaults",
        "",
        f"`python benchmarks/tuning.py`: `pistar tune TASK --steps {record['steps']} --trials {record['trials']} "
        f"--workers {record['workers']}`; what it",
        "chose and the defaults on fresh seeds, with the 95 % interval of the difference. Minutes are of the whole command, comparison",
        "included.",
        "",
        "| task | min | trials, of them stopped early | | defaults | tuned | difference | verdict | repeated bit for bit |",
        "| --- " * 9 + "|",
    ]
    for row in record["rows"]:
        trials, seeds = row["trials"], len(row["comparison"]["seeds"])
        for measure, words in (("area", "area under the curve"), ("final_return", "return at the end")):
            each = row["comparison"][measure]
            low, high = each["interval"]
            means = " | ".join(f"{sum(each[way]) / seeds:.4g}" for way in ("defaults", "tuned"))
            lines.append(
                f"| {row['task']} | {row['minutes']:.1f} | {trials['complete'] + trials['pruned']}, {trials['pruned']} "
                f"| {words}, {seeds} seeds | {means} | {each['difference']:+.4g} [{low:+.4g}, {high:+.4g}] | {each['verdict']} "
                f"| {'yes' if row['repeated'] else 'NO'} |"
            )
    lines += ["", "What was chosen:", "", *(f"- {row['task']}: {settings(row['settings'])}" for row in record["rows"])]
    return "\n".join([*lines, ""])


def settings(table: dict[str, Any]) -> str:
    """Settings in words."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in table.items()
    )


if __name__ == "__main__":
    main()

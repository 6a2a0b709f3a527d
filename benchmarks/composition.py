"""Are the tasks that need a feature solved with it, and not without it?

    python benchmarks/composition.py [--seeds 0 1 2] [--out DIR] [--tasks NAME ...]

Every task of pistar's that knows exactly what is possible without a feature (`pistar.tasks.task.Need`) is trained by its recipe,
and once more for each of the features with the flags that take it away, by the command line that users type. The score is the
mean return of 1,000 episodes on fresh seeds, deterministic actions. The verdict asks of every seed:

- with all features, at least ``--asked`` of the way from random actions to the optimum;
- without one, no score above the bound by more than luck explains (four standard errors of the score).

Every run is a run directory under ``--out``: called again, it skips what is finished and resumes what is not. Writes
benchmarks/results/composition.json and composition.md, and exits with 1 where the verdict is no.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.learning.sitting import Job, Sitting, alone
from benchmarks.learning.suites import Row
from pistar.run import RunDirectory
from pistar.tasks import TASKS
from pistar.tasks.task import Need

RESULTS = Path(__file__).parent / "results"
EPISODES, STANDARD_ERRORS = 1000, 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/composition"))
    parser.add_argument("--tasks", nargs="+", default=[name for name in TASKS.names() if TASKS.get(name).scores])
    parser.add_argument("--asked", type=float, default=0.9, help="fraction of the way to the optimum")
    chosen = parser.parse_args()
    settings = [(task, need) for task in chosen.tasks for need in (None, *TASKS.get(task).scores.needs)]
    jobs = {each: [job(*each, seed, chosen.out) for seed in chosen.seeds] for each in settings}
    with alone(chosen.out):
        sitting = Sitting([job for some in jobs.values() for job in some], None)
        sitting.work(1)
    unfinished = [str(job.path) for some in jobs.values() for job in some if job.state != "finished"]
    if unfinished:
        raise SystemExit("\n".join(["not finished:", *unfinished, *sitting.failed]))
    found = [row(*each, [RunDirectory(job.path) for job in some], chosen.asked) for each, some in jobs.items()]
    record = {"asked": chosen.asked, "episodes": EPISODES, "seeds": chosen.seeds, "rows": found}
    (RESULTS / "composition.json").write_text(json.dumps(record, indent=1) + "\n")
    (RESULTS / "composition.md").write_text(page(record))
    print(page(record))
    sys.exit(0 if all(each["holds"] for each in found) else 1)


def job(task: str, need: Need | None, seed: int, out: Path) -> Job:
    """One run of a task, without a feature or with all."""
    without = "whole" if need is None else f"no-{need.feature.replace(' ', '-')}"
    words = [task, *([] if need is None else need.flags.split()), "--evaluation.final-episodes", str(EPISODES)]
    return Job(Row(f"{task} {without}", " ".join(words), "final"), seed, out / task / without / f"seed-{seed}")


def row(task: str, need: Need | None, runs: list[RunDirectory], asked: float) -> dict[str, Any]:
    """What the runs of one setting say."""
    known = TASKS.get(task).scores
    last = [json.loads(run.evaluations.read_text().splitlines()[-1]) for run in runs]
    metrics = [json.loads(run.metrics.read_text().splitlines()[-1]) for run in runs]
    scores = [each["mean"] for each in last]
    errors = [(each["interval"][1] - each["interval"][0]) / 2 / 1.962 for each in last]
    if need is None:
        holds = all(known.fraction(score) >= asked for score in scores)
    else:
        holds = all(s <= need.bound + STANDARD_ERRORS * e + 1e-9 for s, e in zip(scores, errors, strict=True))
    return {
        "task": task,
        "without": None if need is None else need.feature,
        "flags": "" if need is None else need.flags,
        "random": known.random,
        "bound": known.optimum if need is None else need.bound,
        "optimum": known.optimum,
        "scores": scores,
        "standard_errors": errors,
        "fractions": [known.fraction(score) for score in scores],
        "steps": [each["steps"] for each in metrics],
        "seconds": [each["time"]["seconds"] for each in metrics],
        "holds": holds,
    }


def cells(found: dict[str, Any]) -> str:
    """One line of the table."""
    worst = min(found["fractions"]) if found["without"] is None else max(found["fractions"])
    columns = [
        found["task"],
        f"without {found['without']}: `{found['flags']}`" if found["without"] else "its recipe",
        f"{found['random']:.3f}",
        f"{found['bound']:.3f}",
        " ".join(f"{score:.3f}" for score in found["scores"]),
        f"{100 * worst:.0f} %",
        f"{statistics.median(found['seconds']):.0f}",
        "yes" if found["holds"] else "NO",
    ]
    return f"| {' | '.join(columns)} |"


def page(record: dict[str, Any]) -> str:
    """The table with what it says."""
    solved = 100 * record["asked"]
    return "\n".join(
        [
            "# Tasks that only the right features solve",
            "",
            f"`python benchmarks/composition.py --seeds {' '.join(map(str, record['seeds']))}`: every task by its recipe, and",
            "without each of the features that it needs. Scores are mean returns of 1,000 deterministic episodes on fresh",
            "seeds, one for each seed of training. Random scores, optima and bounds (the best that any policy can earn without the",
            f"feature) are exact. As asked: every seed of a recipe comes {solved:.0f} % of the way from random to the optimum",
            "or further, and none without a feature exceeds the bound by more than four standard errors. Seconds of training,",
            "evaluations included, on one core are medians.",
            "",
            "| task | | random | best possible | scores | worst seed, of the way to the optimum | s | as asked |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *[cells(each) for each in record["rows"]],
            "",
            "Without a feature the worst seed is the one that came furthest.",
            "",
        ]
    )


if __name__ == "__main__":
    main()

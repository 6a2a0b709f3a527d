"""What a finished run or evaluation says: results beside their baselines, where the files are, what to do next."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping
from pathlib import Path

from pistar.experiment import KINDS, Experiment
from pistar.judgement import Judgement
from pistar.report.numerals import aligned, duration, interval, number, short, signed
from pistar.run import RunDirectory
from pistar.statistics import confidence
from pistar.training import Result

REASONS = {
    "steps": "all planned",
    "stop_at": "the return of --stop-at is reached",
    "time_limit": "the time limit is reached",
    "callback": "stopped by a callback",
}


def of_training(wanted: Experiment, result: Result) -> str:
    """The report of one run."""
    run, task = RunDirectory(result.directory), task_name(wanted)
    head = f"{task} · {KINDS['algorithm'].kind_of(wanted.algorithm)} · seed {wanted.training.seed}: "
    head += f"{result.steps:,} steps in {duration(result.seconds)} ({REASONS.get(result.reason, result.reason)})"
    places = [("policy", run.policy), ("of the best evaluation", run.best), ("picture", run.picture)]
    places += [("metrics", run.metrics), ("evaluations", run.evaluations), ("settings", run.experiment)]
    return "\n".join(
        [
            head,
            "",
            of_judgement(result.evaluation),
            "",
            *aligned([[name, str(path)] for name, path in places if path.exists()], left=(0, 1)),
            "",
            *([] if result.profile is None else ["where the time went:", *aligned(result.profile.table()), ""]),
            "next:",
            f"  pistar watch {quoted(run.path)}",
            f"  pistar evaluate {quoted(run.path)}",
            f"  tensorboard --logdir {quoted(run.path)}",
        ]
    )


def of_judgement(judgement: Judgement) -> str:
    """Returns of the policy and of each baseline on the same episodes, and what else the task knows."""
    rows = [["", "mean return", "95 % interval", "policy is better by", "95 % interval"]]
    rows.append(["policy", number(judgement.mean), interval(judgement.interval), "", ""])
    for name, other in judgement.baselines.items():
        rows.append([name, number(other.mean), "", signed(other.difference), interval(other.interval)])
    if not judgement.baselines:
        rows = [row[:3] for row in rows]
    for group, share in judgement.groups.items():
        rows.append([f"{group}: policy", number(share.mean), interval(share.interval), "", ""][: len(rows[0])])
        for name, other in share.baselines.items():
            better = [signed(other.difference), interval(other.interval)]
            rows.append([f"{group}: {name}", number(other.mean), "", *better])
    lines = aligned(rows)
    lines.append(f"over {judgement.episodes} episodes of {short(judgement.length)} steps on average")
    if judgement.success is not None:
        lines.append(f"success in {100 * judgement.success:.3g} % of the episodes")
    if judgement.reference is not None:
        exact = judgement.reference
        values = f"policy {exact.policy:.5g}, optimum {exact.optimum:.5g}, random {exact.random:.5g}"
        lines.append(f"exact J(θ): {values}: {100 * exact.fraction:.4g} % of the way from random to the optimum")
    return "\n".join(lines)


def of_seeds(wanted: Experiment, out: Path, results: Mapping[int, Result]) -> str:
    """One line a seed, and mean, median and interval over them."""
    judged = [result.evaluation for result in results.values()]
    success = any(each.success is not None for each in judged)
    exact = any(each.reference is not None for each in judged)
    rows = [["seed", "mean return", "95 % interval", *(["success"] * success), *(["of optimum"] * exact), "run"]]
    for seed, result in results.items():
        each = result.evaluation
        row = [str(seed), number(each.mean), interval(each.interval)]
        if success:
            row.append("" if each.success is None else f"{100 * each.success:.3g} %")
        if exact:
            row.append("" if each.reference is None else f"{100 * each.reference.fraction:.4g} %")
        rows.append([*row, str(result.directory)])
    means = [each.mean for each in judged]
    kind = KINDS["algorithm"].kind_of(wanted.algorithm)
    lines = [
        f"{task_name(wanted)} · {kind} · {len(means)} seeds in {out}",
        "",
        *aligned(rows, left=(len(rows[0]) - 1,)),
    ]
    middle = f"mean {number(statistics.fmean(means))}, median {number(statistics.median(means))}"
    lines += ["", f"over seeds: {middle}, 95 % interval of the mean {interval(confidence(means))}"]
    best = max(results.values(), key=lambda result: result.evaluation.mean)
    return "\n".join(
        [*lines, "", "next:", f"  pistar watch {quoted(best.directory)}", f"  tensorboard --logdir {quoted(out)}"]
    )


def task_name(wanted: Experiment) -> str:
    """The name that the task was asked for by."""
    return str(getattr(wanted.task, "id", "") or KINDS["task"].kind_of(wanted.task))


def quoted(path: Path) -> str:
    """A path that can be pasted into a shell."""
    return shlex.quote(str(path))

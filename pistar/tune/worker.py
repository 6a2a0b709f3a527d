"""A worker: a process that trains what it is told to, one job after another, and ends with the driver.

Jobs come in and reports go out as lines of JSON. A job is a few runs of one experiment with consecutive seeds, each an ordinary
run directory: one that is there already is gone on with, bit for bit, and one that is finished is only read. At every rung
the worker says how far it has come and waits to be told whether to go on.

The driver's death closes the pipe of jobs, which a thread of its own notices at once, whatever the training does. What the
worker is killed over stays as checkpoints.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pistar import experiment as experiments
from pistar import seeding, training
from pistar.errors import CheckpointError, PistarError
from pistar.evaluation import Evaluator
from pistar.experiment import Experiment
from pistar.report import jsonl
from pistar.run import RunDirectory
from pistar.session import Session
from pistar.tune import area
from pistar.tune.storage import Claim

PATIENCE = 30.0  # seconds in which the last worker in a directory, whose driver has died, must have ended
Areas = list[list[float]]
MayGoOn = Callable[[Areas], bool]


class Stopped(Exception):
    """The driver wants no more of this job."""


def perform(job: dict[str, Any], may_go_on: MayGoOn) -> dict[str, Any]:
    """Train the seeds of a job; their areas [seeds][rungs] and the returns of their last evaluations."""
    areas: Areas = []
    finals = []
    for seed in job["seeds"]:
        wanted = seeded(Experiment.from_table(job["experiment"], "the job"), seed)
        run = RunDirectory(Path(job["directory"]) / f"seed-{seed}")
        claim = Claim(run.path.with_suffix(".lock"), str(run.path), PATIENCE)
        try:
            start = untrained(wanted)

            def rungs(run: RunDirectory = run, wanted: Experiment = wanted, start: float = start) -> list[float]:
                points = [(0.0, start), *evaluations(run)]
                return area.rungs(points, wanted.training.steps, job["rungs"])

            def watch(found: list[float], seed: int = seed) -> None:
                done = seed == job["seeds"][-1] and len(found) == job["rungs"]  # nothing is left that could be saved
                if not done and not may_go_on([*areas, found]):
                    raise Stopped

            finals.append(train(run, wanted, rungs, watch))
            areas.append(rungs())
        finally:
            claim.release()
    return {"areas": areas, "finals": finals}


def untrained(wanted: Experiment) -> float:
    """The return of the policy before the first update, as an evaluation of the run would give it: where its curve begins."""
    session = Session(wanted)
    try:
        session.collector.start(wanted.training.warm_up)
        seed = seeding.derive(wanted.training.seed, "evaluation")
        evaluator = Evaluator(wanted.task, wanted.evaluation.episodes, seed, wanted.evaluation.deterministic)
        try:
            return evaluator.judge(session.policy).mean
        finally:
            evaluator.close()
    finally:
        session.environment.close()


def seeded(experiment: Experiment, seed: int) -> Experiment:
    """The experiment with a seed; in one process, because the cores are taken by other workers."""
    workers = 0 if experiment.training.workers is None else experiment.training.workers
    return dataclasses.replace(
        experiment, training=dataclasses.replace(experiment.training, seed=seed, workers=workers)
    )


def train(
    run: RunDirectory, wanted: Experiment, rungs: Callable[[], list[float]], watch: Callable[[list[float]], None]
) -> float:
    """Begin a run or go on with it; the return of its last evaluation. ``watch`` is told the areas at every new rung."""
    reached, size = 0, 0

    def on_iteration(_: training.Progress) -> None:
        nonlocal reached, size
        now = run.evaluations.stat().st_size
        if now == size:
            return
        size = now
        found = rungs()
        if len(found) > reached:
            watch(found)
        reached = len(found)

    if not is_finished(run):
        if is_same(run, wanted):
            try:
                training.resume(run.path, quiet=True, on_iteration=on_iteration)
                return final(run)
            except CheckpointError as error:  # another version or processor, or nothing left to go on from
                print(f"{run.path} begins anew: {error}", file=sys.stderr)
        shutil.rmtree(run.path, ignore_errors=True)
        training.train(wanted, run.path, command=["pistar", "tune"], quiet=True, on_iteration=on_iteration)
    return final(run)


def is_same(run: RunDirectory, wanted: Experiment) -> bool:
    """Whether a run of this very experiment has begun."""
    try:
        return run.experiment.is_file() and experiments.read(run.experiment) == wanted
    except PistarError:
        return False


def is_finished(run: RunDirectory) -> bool:
    """Whether a run has had its final evaluation."""
    try:
        return run.experiment.is_file() and bool((jsonl.last(run.evaluations) or {}).get("final"))
    except (PistarError, OSError):
        return False


def final(run: RunDirectory) -> float:
    """The return of the final evaluation."""
    record = jsonl.last(run.evaluations) or {}
    return float(record["mean"]) if record.get("mean") is not None else float("nan")


def evaluations(run: RunDirectory) -> list[tuple[float, float]]:
    """A run's curve as far as it is."""
    return area.curve(jsonl.read(run.evaluations)) if run.evaluations.exists() else []


# ---- the process -----------------------------------------------------------------------------------------------------


def serve() -> None:
    """Take jobs until the driver ends."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what environments print must not be taken for a report
    lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(json.loads(line))
        os._exit(0)  # the driver is gone

    threading.Thread(target=listen, daemon=True).start()

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")

    def may_go_on(areas: Areas) -> bool:
        say({"areas": areas})
        return bool(lines.get()["go on"])

    while True:
        job = lines.get()
        try:
            say({"done": perform(job, may_go_on)})
        except Stopped:
            say({"stopped": True})
        except PistarError as error:
            say({"failed": str(error), "code": error.exit_code})
        except Exception as error:
            import traceback

            traceback.print_exc()
            say({"failed": f"{type(error).__name__}: {error}", "code": 1})


if __name__ == "__main__":
    serve()

"""The loop: iterate, report, evaluate, save.

What an iteration is, and all that decides what comes next, lives in a `Session`, whose state is what a checkpoint holds: a
run that was killed at any moment and resumed goes on bit for bit as if it had not been. Checkpoint 0 is written before the
first step.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pistar import artefact, cloning, seeding, serialization
from pistar.checkpoint import Checkpoints
from pistar.errors import CheckpointError, UsageError
from pistar.evaluation import Evaluator
from pistar.experiment import Experiment, complete, read
from pistar.grouped_session import GroupedSession, opened
from pistar.interruption import Interruption
from pistar.judgement import Judgement
from pistar.kernels.library import switched
from pistar.policy import Policy
from pistar.report import jsonl
from pistar.report.mirrors import MIRRORS
from pistar.report.profile import Profile
from pistar.report.recorder import Recorder
from pistar.run import RunDirectory, differences
from pistar.session import Session, adopt
from pistar.tasks.task import Execution


@dataclass(frozen=True)
class Progress:
    """What a callback is told after every iteration; returning True from it ends the run."""

    iteration: int
    steps: int
    record: dict[str, Any]  # the iteration's metrics
    policy: Policy


@dataclass(frozen=True)
class Result:
    """A run that has ended."""

    directory: Path
    steps: int
    seconds: float
    policy: Policy
    evaluation: Judgement
    reason: str  # why it ended: "steps", "stop_at", "time_limit" or "callback"
    profile: Profile | None = None  # where the time went, where that was asked for


log = logging.getLogger("pistar")
OnIteration = Callable[[Progress], "bool | None"]
AnySession = Session | GroupedSession


def train(
    experiment: Experiment,
    out: Path,
    *,
    command: Sequence[str] = (),
    start_from: Path | None = None,
    quiet: bool = False,
    on_iteration: OnIteration | None = None,
    profile: bool = False,
) -> Result:
    """Run an experiment into the new directory ``out``.

    ``start_from`` warms up with the weights of a policy file; ``profile`` measures where the time goes.
    """
    # The code of the policy that the experiment itself asks for is trusted, and no other could take the weights.
    trust = artefact.code_of(experiment.algorithm.policy_kind(experiment.policy))
    initial = None if start_from is None else artefact.load(start_from, trust)
    for kind in experiment.reporting.to:
        MIRRORS.get(kind)  # what is not installed is said before anything is made
    experiment = settled(experiment)
    session = opened(experiment)
    with ExitStack() as stack:
        stack.callback(session.close)
        if initial is not None:
            adopt(session, initial)
        cloned = None if experiment.cloning.demonstrations is None else cloning.begin(session, experiment.cloning)
        run = RunDirectory.create(Path(out))
        # The first moments are those of the demonstrations, where there are such, instead of random steps'.
        session.collector.start(0 if cloned else experiment.training.warm_up)
        if cloned is not None:
            artefact.save(session.policy, run.cloned, provenance(session))
            serialization.write_bytes(run.cloning, b"".join(jsonl.encode(record) for record in cloned.lines()))
        checkpoints = Checkpoints(run.checkpoints, experiment.checkpoints.keep)
        checkpoints.save(0, {**session.checkpoint(), "offsets": {"metrics": 0, "evaluations": 0}})
        run.begin(experiment, list(command))
        recorder = stack.enter_context(Recorder(run, experiment, quiet=quiet))
        if profile:
            recorder.profile = clocks(session, recorder)
        return loop(session, run, recorder, checkpoints, on_iteration)


def settled(experiment: Experiment) -> Experiment:
    """The experiment with everything that is chosen by this machine, once, for this run and whoever resumes it."""
    if experiment.training.workers is not None:
        return experiment
    workers, reason = experiment.task.best_workers(experiment.training.lanes)
    log.info("%s", reason)
    return dataclasses.replace(experiment, training=dataclasses.replace(experiment.training, workers=workers))


def clocks(session: AnySession, recorder: Recorder) -> Profile:
    """A profile whose clocks stand around a session's parts, which from now on work one at a time."""
    profile = Profile()
    session.collector.overlap = False
    profile.around(session.environment, "step", "environment")
    profile.around(session.collector, "collect", "acting")
    profile.around(session, "improve", "estimating")
    for learner in session.learners:
        profile.around(learner, "descend", "updating")
    profile.around(recorder, "iteration", "reporting", whole=True)
    return profile


def resume(
    path: Path,
    *,
    steps: int | None = None,
    allow_inexact: bool = False,
    quiet: bool = False,
    on_iteration: OnIteration | None = None,
) -> Result:
    """Continue a run from its newest whole checkpoint, bit for bit; ``steps`` extends it.

    Raises CheckpointError where no checkpoint is usable, or where a version or the processor that the bits depend on has
    changed and ``allow_inexact`` is not given.
    """
    run = RunDirectory.open(Path(path))
    recorded = run.provenance()
    # A run that began without the native kernels goes on without them; the other way round, they are a difference.
    with switched(recorded.get("kernels") != "off"):
        changed = differences(recorded)
        if changed and not allow_inexact:
            raise CheckpointError(
                "this run cannot go on bit for bit:\n  "
                + "\n  ".join(changed)
                + "\nRestore those, or pass --allow-inexact"
            )
        run.sweep()  # of what a kill has left half done
        experiment = read(run.experiment)
        checkpoints = Checkpoints(run.checkpoints, experiment.checkpoints.keep)
        state = checkpoints.load()
        if steps is not None:
            experiment = extend(experiment, steps)
            run.write_experiment(experiment, recorded)
        session = opened(experiment, resumed=True)
        with ExitStack() as stack:
            stack.callback(session.close)
            session.restore(state)
            checkpoints.prune(session.iteration)
            recorder = stack.enter_context(Recorder(run, experiment, offsets=state["offsets"], quiet=quiet))
            return loop(session, run, recorder, checkpoints, on_iteration)


def loop(
    session: AnySession,
    run: RunDirectory,
    recorder: Recorder,
    checkpoints: Checkpoints,
    on_iteration: OnIteration | None,
) -> Result:
    """Iterate until the steps are done or something ends the run early; then judge and save the policy."""
    experiment, training = session.experiment, session.experiment.training
    evaluation = experiment.evaluation
    evaluator = Evaluator(
        experiment.task,
        evaluation.episodes,
        seeding.derive(training.seed, "evaluation"),
        evaluation.deterministic,
        dataclasses.replace(training.execution, workers=0),
    )
    per_iteration, every = training.lanes * training.horizon, experiment.checkpoints.every or training.iterations
    boundary = session.environment.restoring == "boundary"
    profile = recorder.profile
    if profile is not None:
        profile.around(evaluator, "judge", "evaluating", whole=True)
        profile.around(checkpoints, "save", "saving", whole=True)
    # A run that was killed after its last iteration must not take another one.
    reason = (early(training, session) if session.iteration else None) or "steps"
    with Interruption() as interruption, ExitStack() as stack:
        stack.callback(evaluator.close)
        while reason == "steps" and session.iteration < training.iterations:
            began, before = time.perf_counter(), session.steps
            scheduled = (session.iteration + 1) % every == 0 or session.iteration + 1 == training.iterations
            rollout, metrics = session.iterate(cut=boundary and scheduled)
            session.seconds += time.perf_counter() - began
            steps = session.steps
            record = recorder.iteration(session, rollout, metrics, steps)
            if evaluation_due(evaluation, before, steps):
                judge(session, run, recorder, evaluator, steps)
            stop = on_iteration is not None and on_iteration(Progress(session.iteration, steps, record, session.policy))
            reason = "callback" if stop else early(training, session) or "steps"
            leaving = interruption.received is not None  # asked once; a later signal waits an iteration
            # Between scheduled iterations, a boundary environment cannot be saved: its last checkpoint stands.
            if scheduled or (not boundary and (reason != "steps" or leaving)):
                save(session, run, recorder, checkpoints)
            if leaving:
                behind = session.iteration % every * per_iteration if boundary and not scheduled else 0
                interruption.leave(run.path, steps, behind)
        return finish(session, run, recorder, reason)


def early(training: Any, session: AnySession) -> str | None:
    """Why the run should end before its steps are done, or None."""
    returns = session.collector.returns
    if (
        training.stop_at is not None
        and len(returns) == returns.maxlen
        and sum(returns) / len(returns) >= training.stop_at
    ):
        return "stop_at"
    if training.time_limit is not None and session.seconds >= training.time_limit:
        return "time_limit"
    return None


def evaluation_due(settings: Any, before: int, now: int) -> bool:
    """Whether an evaluation point lies in (before, now]."""
    if settings.at:
        return any(before < point <= now for point in settings.at)
    return bool(settings.every) and now // settings.every > before // settings.every


def judge(session: AnySession, run: RunDirectory, recorder: Recorder, evaluator: Evaluator, steps: int) -> None:
    """Evaluate, record, and keep the policy if it is the best so far."""
    judgement = evaluator.judge(session.policy)
    recorder.evaluation(judgement, session.iteration, steps)
    if judgement.mean > session.best:
        session.best = judgement.mean
        artefact.save(session.policy, run.best, provenance(session))


def save(session: AnySession, run: RunDirectory, recorder: Recorder, checkpoints: Checkpoints) -> None:
    """Checkpoint and policy, in this order: the checkpoint is what must never be lost."""
    checkpoints.save(session.iteration, {**session.checkpoint(), "offsets": recorder.offsets()})
    artefact.save(session.policy, run.policy, provenance(session))


def finish(session: AnySession, run: RunDirectory, recorder: Recorder, reason: str) -> Result:
    """The final evaluation beside the baselines, the policy, the picture."""
    experiment, training = session.experiment, session.experiment.training
    artefact.save(session.policy, run.policy, provenance(session))
    evaluator = Evaluator(
        experiment.task,
        experiment.evaluation.final_episodes,
        seeding.derive(training.seed, "final evaluation"),
        experiment.evaluation.deterministic,
        Execution(device=training.device),
    )
    if recorder.profile is not None:
        recorder.profile.around(evaluator, "judge", "evaluating", whole=True)
    try:
        judgement = evaluator.judge(session.policy, baselines=True)
    finally:
        evaluator.close()
    recorder.final(judgement, session.iteration, session.steps)
    return Result(run.path, session.steps, session.seconds, session.policy, judgement, reason, recorder.profile)


def provenance(session: AnySession) -> dict[str, Any]:
    """What a policy file says of where it comes from."""
    table = session.experiment.to_table()
    return {
        "task": table["task"],
        "algorithm": table["algorithm"]["kind"],
        "steps": session.steps,
        "seed": session.experiment.training.seed,
    }


def extend(experiment: Experiment, steps: int) -> Experiment:
    """The same experiment with more steps; schedules keep the horizon they were planned with."""
    training = experiment.training
    if steps < training.steps:
        raise UsageError(f"--steps {steps} is less than the {training.steps} of this run; expected more")
    planned = training.schedule_steps or training.steps
    return complete(
        dataclasses.replace(experiment, training=dataclasses.replace(training, steps=steps, schedule_steps=planned))
    )

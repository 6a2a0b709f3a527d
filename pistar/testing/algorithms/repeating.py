"""The rules that say what a training may depend on: its experiment and its checkpoint, and nothing else."""

from __future__ import annotations

from contextlib import closing

from pistar.tasks.task import Execution
from pistar.testing.algorithms.rules import check_policy, violate
from pistar.testing.algorithms.trials import (
    Trial,
    first_difference,
    go_on,
    kept,
    reread,
    session,
    until_it_moves,
)
from pistar.testing.algorithms.worlds import Corridor
from pistar.testing.environments.examination import reseeded_streams

STRETCH = 3  # iterations that are compared, before and after a checkpoint


def check_repetition(trial: Trial) -> None:
    """Does it learn at all, twice alike, and on from a checkpoint as if it had not been stopped?"""
    experiment = trial.experiment(Corridor(trial.actions))
    # Before there is a learner, which refuses some of what this rule has a sentence for.
    with closing(experiment.task.make(1, Execution(), training=True)) as environment:
        check_policy(experiment, environment.spaces)
    with session(experiment) as opened:
        kept(opened)
        waited = until_it_moves(opened)
    # Each training from here on has an instance and random streams of its own, as a process of its own would have.
    with reseeded_streams(20_011), session(reread(experiment)) as opened:
        early, late = go_on(opened, waited + STRETCH), go_on(opened, STRETCH)
    with reseeded_streams(20_021), session(reread(experiment)) as opened:
        for record in (early, late):
            found = first_difference(record, go_on(opened, len(record.metrics)))
            if found:
                violate("determinism", f"two trainings with the seed {trial.seed} part: {found}")
    with reseeded_streams(20_023), session(reread(experiment), early.state) as opened:
        found = first_difference(late, go_on(opened, len(late.metrics)))
        if found:
            violate("resume", f"resumed after iteration {late.first - 1}, it goes on differently: {found}")


CHECKS = (check_repetition,)

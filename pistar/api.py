"""Training by names and keywords, as a script or a notebook asks for it.

``pistar.train("reacher", lanes=8, ppo={"clip": 0.1})`` is ``pistar train reacher --lanes 8 --ppo.clip 0.1``: the same
settings resolve through the same layers into the same experiment, and run to the same bits. It differs from
``training.train``, which it calls, by making the Experiment and finding the place; whoever has both calls that.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pistar import experiment, settings
from pistar.experiment import Experiment
from pistar.run import find_policy, free_place, require_new
from pistar.tasks.task import Task

if TYPE_CHECKING:
    from pistar.training import OnIteration, Result


def train(
    task: str | Task,
    *,
    out: str | Path | None = None,
    config: str | Path | None = None,
    start_from: str | Path | None = None,
    quiet: bool = False,
    on_iteration: OnIteration | None = None,
    profile: bool = False,
    **keywords: Any,
) -> Result:
    """Train a policy and judge it beside the task's baselines.

    ``task`` is a name of `pistar tasks`, a Gymnasium id, ``module:Class`` or a Task. ``keywords`` are the settings, each
    optional: fields of [training] (``steps=1e6, lanes=8, seed=1, learning_rate="1e-3:0:cosine"``), ``algorithm="ppo"`` and
    ``policy="mlp"``, and tables (``ppo={"clip": 0.1}, mlp={"hidden": (64, 64)}, evaluation={"episodes": 50}``).

    ``config`` is a TOML file below them. ``out`` is the run directory, which must be new; by default the next free
    runs/TASK-ALGORITHM-SEED. ``start_from`` gives the first weights: a policy file or a run. ``on_iteration`` is called with
    a Progress after every iteration, and ends the run by returning True. ``profile`` measures where the time goes.

    Raises UsageError for settings that cannot be, EnvironmentFailure, NumericalError or StorageError where the run breaks
    off, and Interrupted, with all saved, on Ctrl-C or SIGTERM.
    """
    wanted = make_experiment(task, config, **keywords)
    place = free_place(wanted, wanted.training.seed) if out is None else Path(out)
    require_new(place)
    start = None if start_from is None else find_policy(Path(start_from))
    # Imported here: it imports torch, which a mistake in the settings is told without.
    from pistar import training

    return training.train(
        wanted, place, command=sys.argv, start_from=start, quiet=quiet, on_iteration=on_iteration, profile=profile
    )


def make_experiment(task: str | Task, config: str | Path | None = None, **keywords: Any) -> Experiment:
    """The experiment that ``train`` would run, every value resolved."""
    table = settings.table_of("task", task) if isinstance(task, Task) else experiment.find_task(task)
    return settings.resolve(table, keywords, None if config is None else Path(config), "the settings")

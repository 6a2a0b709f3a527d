"""``pistar record RUN|POLICY|BASELINE``: whole episodes as files, for cloning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pistar import experiment
from pistar.cli import flags
from pistar.errors import UnknownName, UsageError
from pistar.run import find_policy

if TYPE_CHECKING:
    from pistar.envs.environment import Environment
    from pistar.tasks.task import Controller, Task

USAGE = """
usage: pistar record RUN|POLICY|BASELINE --out DIRECTORY [--task NAME] [--episodes N] [--flag value ...]

Write whole episodes of a policy, or of one of a task's baselines (by its name: pd-controller, random, ...; --task says of
which task), as plain NumPy files that `pistar train TASK --demonstrations DIRECTORY` starts from. docs/how-to/clone-a-policy.md
describes the files and how to write your own.

  pistar record runs/expert --episodes 20 --out demos
  pistar record pd-controller --task arm-reach --episodes 50 --out demos
"""


@dataclass(frozen=True)
class Options:
    """The flags of ``record``."""

    out: str | None = None  # a new or empty directory for the episodes
    episodes: int = 20  # whole episodes, a fixed quota per lane
    seed: int = 0  # of the episodes' starts, which are none of an evaluation's or a training's
    deterministic: bool = True  # the distribution's mode instead of a sample
    task: str | None = None  # play this task; none: the one that the policy was trained on
    trust: str | None = None  # module:Class of a policy kind of your own that the file may use

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise UsageError(f"--episodes: expected at least 1, received {self.episodes}")


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = flags.of_command(argv, USAGE, Options)
    if arguments is None:
        return 0
    options, who = arguments.options(Options), arguments.only_word(USAGE)
    if options.out is None:
        raise UsageError("--out is missing; expected a directory for the episodes")
    if options.task is not None:
        experiment.find_task(options.task)
    if options.task is None or Path(who).exists():
        find_policy(Path(who))
    # Imported here: they import torch, which nothing before this line needs.
    from pistar import demonstrations, recording, seeding
    from pistar.evaluation import lanes_for, task_of
    from pistar.tasks import TASKS
    from pistar.tasks.task import Execution

    task = task_of(Path(who), options.task)
    environment = task.make(lanes_for(task, options.episodes), Execution(), training=False)
    try:
        choose, origin = chooser(who, task, environment, options)
        quota = options.episodes // environment.lanes
        episodes = recording.record(environment, choose, quota, seeding.derive(options.seed, "recording"))
        origin |= {"task": experiment.KINDS["task"].kind_of(task), "seed": options.seed}
        demonstrations.write(options.out, episodes, environment.spaces, origin)
    finally:
        environment.close()
    returns = [float(episode.reward.sum()) for episode in episodes]
    mean, steps = sum(returns) / len(returns), demonstrations.steps_of(episodes)
    print(f"{TASKS.kind_of(task)} · {who}: {len(episodes)} episodes, {steps:,} steps, mean return {mean:.4g}")
    print(f"written to {options.out}; clone from them by `pistar train TASK --demonstrations {options.out}`")
    return 0


def chooser(who: str, task: Task, environment: Environment, options: Options) -> tuple[Controller, dict[str, Any]]:
    """What acts, and where it comes from."""
    from pistar import artefact, seeding
    from pistar.evaluation import controller, require_fit

    if Path(who).exists():
        policy = artefact.load(who, options.trust)
        require_fit(policy, environment)
        seed = seeding.derive(options.seed, "recording actions")
        return controller(policy, options.deterministic, seed), {"policy": artefact.provenance(Path(who))}
    known = {plain(name): name for name in task.baselines()}
    if plain(who) not in known:
        raise UnknownName("run, policy file or baseline of the task", who, list(known))
    name = known[plain(who)]
    return task.baselines()[name](environment, options.seed), {"baseline": name}


def plain(name: str) -> str:
    """A baseline's name as one types it: "PD controller" is pd-controller."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")

"""``pistar evaluate RUN|POLICY``: the evaluation protocol of the task, beside its baselines."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from pistar import experiment
from pistar.cli import flags
from pistar.errors import UsageError
from pistar.run import find_policy

USAGE = """
usage: pistar evaluate RUN|POLICY [--episodes N] [--json] [--flag value ...]

Judge the policy of a run (RUN/policy.safetensors) or of a policy file (RUN/best.safetensors) on whole episodes that
training never saw, beside the task's baselines on the same episodes. --json prints one object: task, episodes, mean,
interval, length, baselines, success (where the task has one), fraction_of_optimum (where the optimum is known).
"""


@dataclass(frozen=True)
class Options:
    """The flags of ``evaluate``."""

    episodes: int = 100  # whole episodes, a fixed quota per lane
    seed: int = 0  # of the episodes' starts; the same seed gives every policy the same episodes
    json: bool = False  # print one JSON object instead of a table
    deterministic: bool = True  # the distribution's mode instead of a sample
    task: str | None = None  # judge on this task; none: the one that the policy was trained on
    trust: str | None = None  # module:Class of a policy kind of your own that the file may use

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise UsageError(f"--episodes: expected at least 1, received {self.episodes}")


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = flags.of_command(argv, USAGE, Options)
    if arguments is None:
        return 0
    options, path = arguments.options(Options), find_policy(Path(arguments.only_word(USAGE)))
    if options.task is not None:
        experiment.find_task(options.task)
    # Imported here: they import torch, which nothing before this line needs.
    from pistar.cli import outcome
    from pistar.evaluation import evaluate
    from pistar.report import jsonl

    judgement = evaluate(
        path,
        options.task,
        episodes=options.episodes,
        seed=options.seed,
        deterministic=options.deterministic,
        trust=options.trust,
    )
    if options.json:
        sys.stdout.write(jsonl.encode(judgement.to_json()).decode())
    else:
        print(f"{judgement.task} · {path}\n\n{outcome.of_judgement(judgement)}")
    return 0

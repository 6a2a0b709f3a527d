"""``pistar train TASK``: one run, or several seeds one after another."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pistar import experiment
from pistar.cli import flags, request
from pistar.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from pistar.training import Result

USAGE = """
usage: pistar train TASK [--flag value ...]

Train a policy. TASK is one that `pistar tasks` lists, a Gymnasium id such as CartPole-v1, or module:Class of your own
environment or task. The run directory holds the resolved experiment.toml, metrics.jsonl, evaluations.jsonl,
learning_curve.png, tensorboard/, checkpoints/ and policy.safetensors.

  pistar train cartpole
  pistar train reacher --steps 1e6 --lanes 16 --ppo.clip 0.1 --mlp.hidden 256 256 --out runs/arm
  pistar train cartpole --config my.toml --learning-rate 1e-3:0:cosine --time-limit 10m --seeds 5

A schedule is one number, FROM:TO (a straight line over the run) or FROM:TO:SHAPE with the shape constant, linear,
cosine or exponential; in TOML also {from = 1e-3, to = 0.0, shape = "cosine"}. A switch that is on is put out by --no-X.
"""

MORE = """
The flags of another algorithm, policy or task: `pistar train TASK --algorithm A --policy P --help`, which also shows
the values that such a run would have. `pistar algorithms` and `pistar tasks` list what there is.
"""


def main(argv: list[str]) -> int:
    """Run the command."""
    if flags.asks_for_help(argv):
        print(help_text(argv))
        return 0
    asked = request.read(argv, USAGE)
    if asked.options.seeds > 1:
        return train_seeds(asked)
    # Imported here: it imports torch, which nothing before this line needs.
    from pistar.cli import outcome

    result = run(asked, asked.experiment, asked.out, asked.options.quiet)
    if not asked.options.quiet:
        print(outcome.of_training(asked.experiment, result))
    return 0


def run(asked: request.Request, wanted: experiment.Experiment, out: Path, quiet: bool) -> Result:
    """Train one experiment."""
    from pistar import training

    start = None if asked.options.from_ is None else Path(asked.options.from_)
    profile = asked.options.profile
    return training.train(wanted, out, command=sys.argv, start_from=start, quiet=quiet, profile=profile)


def train_seeds(asked: request.Request) -> int:
    """One run after another, and a summary of them all."""
    from pistar.cli import outcome

    options, first = asked.options, asked.experiment.training.seed
    results = {}
    for seed in range(first, first + options.seeds):
        training = dataclasses.replace(asked.experiment.training, seed=seed)
        if not options.quiet:
            print(f"seed {seed}", file=sys.stderr)
        try:
            results[seed] = run(
                asked,
                dataclasses.replace(asked.experiment, training=training),
                asked.out / f"seed-{seed}",
                options.quiet,
            )
        except Interrupted as error:
            left = first + options.seeds - seed - 1
            if left:
                error.args = (f"{error}. Not started: {left} seeds, from --seed {seed + 1} on",)
            raise
    if not options.quiet:
        print(outcome.of_seeds(asked.experiment, asked.out, results))
    return 0


def help_text(argv: list[str]) -> str:
    """The flags; once a task is given, those that apply to it, with the values that its run would have."""
    groups = request.groups(argv)
    try:
        arguments = flags.parse(argv, groups)
    except UsageError:  # help must not fail over the mistake that it is asked for
        arguments = flags.Arguments()
    given = bool(arguments.words)
    task = arguments.words[0] if given else "cartpole"
    options = arguments.options(request.Options)
    resolved = request.resolve(task, options, arguments.values)
    shown = request.groups(argv, resolved)
    if not given:  # the values are those of no task in particular, so the classes' own defaults are shown
        shown = [group._replace(defaults=None) for group in shown if not group.title.startswith("task ")]
    return flags.help_text(USAGE, shown) + "\n" + MORE.rstrip()

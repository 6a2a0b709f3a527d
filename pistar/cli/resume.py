"""``pistar resume RUN``: continue from the newest whole checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pistar import experiment
from pistar.cli import flags
from pistar.errors import UsageError
from pistar.run import find_run

USAGE = """
usage: pistar resume RUN [--steps N] [--flag value ...]

Continue a run that was stopped or killed, from its newest whole checkpoint, as if it had not been: on a CPU, with the
same versions, to the last bit. With --steps the run goes on to N steps in all; its schedules keep the horizon that they
were planned with and then hold.
"""


@dataclass(frozen=True)
class Options:
    """The flags of ``resume``."""

    steps: int | None = None  # environment steps in all, at least those of the run; none: those it was planned with
    allow_inexact: bool = False  # go on although a version or the processor has changed
    quiet: bool = False  # print nothing but errors


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = flags.of_command(argv, USAGE, Options)
    if arguments is None:
        return 0
    path, options = find_run(Path(arguments.only_word(USAGE))), arguments.options(Options)
    planned = experiment.read(path / "experiment.toml").training.steps
    if options.steps is not None and options.steps < planned:
        raise UsageError(f"--steps {options.steps} is less than the {planned} of this run; expected at least as many")
    # Imported here: it imports torch, which nothing before this line needs.
    from pistar import training
    from pistar.cli import outcome

    result = training.resume(path, steps=options.steps, allow_inexact=options.allow_inexact, quiet=options.quiet)
    if not options.quiet:
        print(outcome.of_training(experiment.read(path / "experiment.toml"), result))
    return 0

"""``pistar doctor TARGET``: what is wrong with an environment, in words, and what to do about it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from pistar.cli import flags
from pistar.errors import EnvironmentFailure, UsageError

USAGE = """
usage: pistar doctor TARGET [--steps N] [--seed S] [--mask ENTRY] [--json] [--flag value ...]

Examine an environment: a Gymnasium id (CartPole-v1), module:Class of your own, or one of `pistar tasks`. It is played
at random, replayed and timed; every fault is named with lane and step and what to do. The last line is the verdict.

exit codes: 0 no errors (warnings are allowed), 4 errors were found, 2 no environment can be made of TARGET
"""


@dataclass(frozen=True)
class Options:
    """The flags of ``doctor``."""

    steps: int = 600  # random steps on each of two lanes
    seed: int = 0  # of the episodes' starts and of the random actions
    json: bool = False  # print one JSON object instead of a list
    render: bool = True  # try whether it can draw a frame
    mask: str | None = None  # entry of a Dict observation that says which choices are allowed; none: all are

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"--steps: expected at least 1, received {self.steps}")


@dataclass(frozen=True)
class Constructor:
    """How the environment is made; spelled as for ``pistar train``."""

    options: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the environment


def main(arguments: list[str]) -> int:
    """Run the command."""
    groups = [
        flags.Group("", "flags", lambda: Options),
        flags.Group("gymnasium", "the environment", lambda: Constructor),
    ]
    if flags.asks_for_help(arguments):
        print(flags.help_text(USAGE, groups))
        return 0
    parsed = flags.parse(arguments, groups)
    options, target = parsed.options(Options), parsed.only_word(USAGE)
    # Imported here: it imports Gymnasium and torch, which nothing before this line needs.
    from pistar.doctor import examine

    diagnosis = examine(
        target,
        steps=options.steps,
        seed=options.seed,
        options=parsed.values.get("gymnasium", {}).get("options"),
        render=options.render,
        mask=options.mask,
    )
    print(json.dumps(diagnosis.to_json()) if options.json else diagnosis.to_text())
    return 0 if diagnosis.healthy else EnvironmentFailure.exit_code

"""The command line: one file per command, imported when it is called, and one way to report errors.

An error that pistar raises on purpose is one message on standard error and an exit code (see ``pistar.errors``); the
traceback is shown with ``--traceback`` or ``PISTAR_TRACEBACK=1``. An error that nobody foresaw keeps its traceback: it
is a fault in pistar or in the user's own code, and hiding it would help nobody.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from pistar import __version__
from pistar.errors import PistarError, UnknownName, UsageError

FULL_DISK = 5  # exit code; also that of a PistarError raised for it
FULL = (errno.ENOSPC, errno.EDQUOT)


class Command(NamedTuple):
    """A command as the help lists it; ``module`` has ``main(arguments: list[str]) -> int``."""

    arguments: str
    summary: str
    module: str


COMMANDS = {
    "train": Command("TASK", "train a policy on a task, a Gymnasium id or module:Class", "pistar.cli.train"),
    "resume": Command("RUN", "continue a run that was stopped, bit for bit, or extend it", "pistar.cli.resume"),
    "evaluate": Command("RUN|POLICY", "judge a policy beside its task's baselines", "pistar.cli.evaluate"),
    "watch": Command("RUN|POLICY", "see a policy act, in a window or a video file", "pistar.cli.watch"),
    "export": Command(
        "RUN|POLICY", "write the policy as an ONNX file that needs neither pistar nor torch", "pistar.cli.export"
    ),
    "serve": Command(
        "RUN|FILE", "let a policy act on request over HTTP, with a page to look at it", "pistar.cli.serve"
    ),
    "record": Command(
        "RUN|POLICY|BASELINE", "write whole episodes as files, for `train --demonstrations`", "pistar.cli.record"
    ),
    "compare": Command("RUN...", "compare runs of one task: scores, intervals, who is better", "pistar.cli.compare"),
    "report": Command("RUN...", "one self-contained page about runs, with a diagnosis", "pistar.cli.report"),
    "tasks": Command("[NAME]", "the tasks, or one task's settings", "pistar.cli.tasks"),
    "algorithms": Command("[NAME]", "the algorithms, or one algorithm's settings", "pistar.cli.algorithms"),
    "tune": Command("TASK", "search for settings, resumably, and judge them on fresh seeds", "pistar.cli.tune"),
    "doctor": Command("TARGET", "check an environment: what is wrong with it and what to do", "pistar.cli.doctor"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    traced = "--traceback" in arguments or os.environ.get("PISTAR_TRACEBACK", "") not in ("", "0")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr] # a terminal without γ still gets the text
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        try:
            code = dispatch([word for word in arguments if word != "--traceback"])
            sys.stdout.flush()
            return code
        except (PistarError, OSError, KeyboardInterrupt) as error:
            return explain(error, traced)


def dispatch(arguments: list[str]) -> int:
    """Import the command that is named and hand it the rest."""
    if not arguments:
        print(overview(), file=sys.stderr)
        return UsageError.exit_code
    first, rest = arguments[0], arguments[1:]
    if first in ("-h", "--help", "help"):
        if first == "help" and rest:
            return dispatch([rest[0], "--help"])
        print(overview())
        return 0
    if first in ("-V", "--version"):
        print(f"pistar {__version__}")
        return 0
    if first.startswith("-"):
        raise UsageError(
            f"expected a command, received {first}; flags stand after it: pistar train cartpole --steps 1e6"
        )
    if first not in COMMANDS:
        raise UnknownName("command", first, COMMANDS)
    return int(importlib.import_module(COMMANDS[first].module).main(rest))


def overview() -> str:
    """What ``pistar --help`` prints."""
    width = max(len(f"{name} {command.arguments}") for name, command in COMMANDS.items()) + 2
    rows = [f"  {f'{name} {command.arguments}'.ljust(width)}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: pistar COMMAND [ARGUMENT] [--flag value ...]",
            "",
            "Train, evaluate, watch and resume policies by policy gradient.",
            "",
            *rows,
            "",
            "  pistar COMMAND --help     the flags of a command",
            "  pistar --version          the version",
            "  --traceback               show where an error was raised (also: PISTAR_TRACEBACK=1)",
            "",
            "exit codes: 0 done, 2 bad usage or input, 3 numerical failure, 4 environment failure, 5 full disk,",
            "            130 or 143 interrupted and saved",
        ]
    )


def explain(error: BaseException, traced: bool) -> int:
    """Print one message for an error that can be explained, and return its exit code."""
    if isinstance(error, BrokenPipeError):  # the reader of a pipe, as in `pistar tasks | head -1`, has seen enough
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if traced:
        traceback.print_exception(error)
    if isinstance(error, PistarError):
        print(f"pistar: error: {error}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        print("pistar: interrupted", file=sys.stderr)
        return 130
    return explain_system(error, traced)


def explain_system(error: Any, traced: bool) -> int:
    """An error of the operating system: a full disk, or a file that cannot be used; anything else is a fault."""
    where = f": {error.filename}" if error.filename else ""
    if error.errno in FULL:
        print(f"pistar: error: the disk is full{where}; free some space, then `pistar resume` the run", file=sys.stderr)
        return FULL_DISK
    if error.filename:
        print(f"pistar: error: {error.strerror}{where}", file=sys.stderr)
        return UsageError.exit_code
    if not traced:
        traceback.print_exception(error)
    return 1


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """A warning as one line, without the source line that raised it."""
    print(f"pistar: warning: {message}", file=sys.stderr)

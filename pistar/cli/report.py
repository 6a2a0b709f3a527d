"""``pistar report RUN...``: one self-contained page about runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pistar.cli import flags
from pistar.errors import UsageError

USAGE = """
usage: pistar report RUN... [--out report.html] [--label NAME...] [--video]

Write one HTML page about runs of a task: what was run, curves with intervals and the task's baselines, what is wrong with
the runs in words, evaluations, films, settings, and the commands to make it all again. The page holds everything itself: it
opens from the disk, without network. Runs are grouped as by `pistar compare`.

  pistar report runs/cartpole-ppo-0
  pistar report runs/ppo runs/a2c --out report.html
"""


@dataclass(frozen=True)
class Options:
    """The flags of ``report``."""

    out: str | None = None  # the page; none: report.html in the one directory that is given, else here
    label: tuple[str, ...] = ()  # names of the groups, or of the arguments; none: what differs in their settings
    threshold: float | None = None  # the return that steps are counted to; none: the task's own, where it has one
    video: bool = False  # first record a film of the first run of each argument that has none

    def __post_init__(self) -> None:
        if self.out is not None and Path(self.out).suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--out: expected a file that ends in .html, received {self.out!r}")


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = flags.of_command(argv, USAGE, Options)
    if arguments is None:
        return 0
    options = arguments.options(Options)
    if not arguments.words:
        raise UsageError(f"expected runs to report on, received none\n{flags.first_line(USAGE)}")
    # Imported here, so that help and errors of usage need no NumPy.
    from pistar.report import embedded, finished, page
    from pistar.report.replacing import replacing

    named = finished.read_all(arguments.words)
    if options.video:
        first = {argument: run.path for argument, run in reversed(named)}
        for path in first.values():
            if not any(medium.film for medium in embedded.media([path])):
                record(path)
    text = page.build(named, options.label, options.threshold)
    beside = Path(arguments.words[0]) if len(arguments.words) == 1 else Path()
    out = beside / "report.html" if options.out is None else Path(options.out)
    with replacing(out) as partial:
        partial.write_text(text, encoding="utf-8")
    print(out)
    return 0


def record(path: Path) -> None:
    """A film of a run's policy into its directory; imports torch, which the page itself does not need."""
    from pistar.cli import watch

    watch.play(path, watch.Options(out=str(path / "watch.mp4")))

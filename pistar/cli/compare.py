"""``pistar compare RUN...``: runs of one task, grouped by what differs in their settings, seeds as repetitions."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pistar.cli import flags
from pistar.errors import UsageError

if TYPE_CHECKING:
    from pistar.report.comparison import Comparison

USAGE = """
usage: pistar compare RUN... [--label NAME...] [--out FILE...] [--json]

Compare finished runs of one task, judged by one protocol. Runs that differ in nothing but their seed are repetitions; the
groups are named by what differs, or by --label: one name for each group or for each argument (then runs under one name are
one group). A directory that holds seed-0, seed-1, ... stands for all of them. The score of a run is the mean return of its
final evaluation; intervals are of 95 %, by the stratified bootstrap over runs.

  pistar compare runs/ppo runs/a2c
  pistar compare runs/ppo runs/a2c --label "with clipping" without --out compare.png compare.json
"""


@dataclass(frozen=True)
class Options:
    """The flags of ``compare``."""

    label: tuple[str, ...] = ()  # names of the groups, or of the arguments; none: what differs in their settings
    threshold: float | None = None  # the return that steps are counted to; none: the task's own, where it has one
    out: tuple[str, ...] = ()  # files to write: .png the picture, .json the numbers
    json: bool = False  # print one JSON object instead of tables

    def __post_init__(self) -> None:
        for name in self.out:
            if Path(name).suffix.lower() not in (".png", ".json"):
                raise UsageError(f"--out: expected files that end in .png or .json, received {name!r}")


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = flags.of_command(argv, USAGE, Options)
    if arguments is None:
        return 0
    options = arguments.options(Options)
    if not arguments.words:
        raise UsageError(f"expected runs to compare, received none\n{flags.first_line(USAGE)}")
    # Imported here, so that help and errors of usage need no NumPy.
    from pistar.report import finished
    from pistar.report.comparison import compare
    from pistar.report.groups import grouped, require_comparable

    named = finished.read_all(arguments.words)
    runs = [run for _, run in named]
    require_comparable(runs)
    threshold = runs[0].threshold if options.threshold is None else options.threshold
    found = compare(grouped(named, options.label), threshold)
    write(found, options)
    return 0


def write(found: Comparison, options: Options) -> None:
    """To files and to the terminal."""
    from pistar.report import comparison_picture, jsonl
    from pistar.report.replacing import replacing

    encoded = jsonl.encode(found.to_json())
    for name in map(Path, options.out):
        if name.suffix.lower() == ".png":
            comparison_picture.draw(found, name)
        else:
            with replacing(name) as partial:
                partial.write_bytes(encoded)
    if options.json:
        sys.stdout.write(encoded.decode())
    else:
        print(text(found))
        if options.out:
            print("\nwritten: " + " ".join(options.out))


def text(found: Comparison) -> str:
    """The tables."""
    from pistar.report.comparison import verdict
    from pistar.report.numerals import aligned, interval, number, signed

    episodes = found.protocol.get("final_episodes")
    lines = [f"{found.task} · return of {episodes} episodes after training, over {_count(found)}", ""]
    rows = [["", "runs", "interquartile mean", "95 % interval", "least", "greatest"]]
    for each in found.summaries:
        ends = [number(float(each.scores.min())), number(float(each.scores.max()))]
        middle = [number(each.interquartile_mean), interval(each.interval)]
        rows.append([each.group.label, str(len(each.scores)), *middle, *ends])
    lines += aligned(rows)
    crossings = [(each.group.label, len(each.scores), each.crossing) for each in found.summaries if each.crossing]
    if crossings and found.threshold is not None:
        rows = [["", f"reached {number(found.threshold)}", "after steps, median", "95 % interval"]]
        for label, runs, crossing in crossings:
            middle = [number(crossing.median), interval(crossing.interval)]
            rows.append([label, f"{crossing.reached} of {runs}", *middle])
        lines += ["", *aligned(rows)]
    if found.improvements:
        rows = [["a run of", "beats one of", "with probability", "95 % interval", "", "by", "95 % interval"]]
        for pair in found.improvements:
            chance = [f"{pair.probability:.2f}", interval(pair.interval), verdict(pair)]
            rows.append([pair.better, pair.than, *chance, signed(pair.difference), interval(pair.difference_interval)])
        lines += ["", *aligned(rows, left=(0, 1, 4))]
    lines += differing(found)
    return "\n".join([*lines, *([""] if found.notes else []), *(f"note: {note}" for note in found.notes)])


def differing(found: Comparison) -> list[str]:
    """The settings in which the groups differ, a column a group."""
    from pistar.report.numerals import aligned

    names = list(found.summaries[0].group.differs)
    if not names:
        return []
    rows = [["what differs", *(each.group.label for each in found.summaries)]]
    rows += [[name, *(each.group.differs[name] for each in found.summaries)] for name in names]
    return ["", *aligned(rows)]


def _count(found: Comparison) -> str:
    runs = sum(len(each.scores) for each in found.summaries)
    groups = len(found.summaries)
    return f"{runs} run{'s' * (runs != 1)} in {groups} group{'s' * (groups != 1)}"

"""``python -m benchmarks.learning``: train what is left, within a budget of time, and write the pages.

    python -m benchmarks.learning --list
    python -m benchmarks.learning --suite mujoco --rows 'HalfCheetah-v5 ppo' 'Reacher-v5 *po' --time 2h --runs 2
    python -m benchmarks.learning --suite mujoco --pages
    python -m benchmarks.learning parity NEW REFERENCE --random HalfCheetah-v5=-280

Runs are directories under --out. Called again, it skips what is finished or kept, resumes what was begun and starts the rest; when
time is up, or on Ctrl-C, the runs under way are saved and the pages written of what there is. Rows go to
benchmarks/results/learning/SUITE/ROW.json, pages and pictures to benchmarks/results/SUITE.md and SUITE.png.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from benchmarks.learning import page, parity, peers, picture, recipes, results, scoring
from benchmarks.learning.results import Result
from benchmarks.learning.sitting import Job, Sitting, alone, place
from benchmarks.learning.suites import SUITES, Row
from pistar import settings
from pistar.run import RunDirectory

RESULTS = Path(__file__).parent.parent / "results"
RUNS, SMOKE = Path("runs/learning"), Path("runs/learning-smoke")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["parity"]:
        return parity.main(words[1:])
    chosen = parse(words)
    rows = {name: SUITES[name].chosen(chosen.rows, chosen.columns) for name in chosen.suite}
    if not any(rows.values()):
        raise SystemExit("no row matches; --list shows them all")
    recipes.check(row for name in SUITES for row in SUITES[name].rows if row.task != "Pong" or name in chosen.suite)
    if chosen.smoke:
        rows = {name: [row.shortened(chosen.smoke) for row in some] for name, some in rows.items()}
    if chosen.list:
        return show(rows, chosen)
    failed = [] if chosen.pages else train(rows, chosen)
    for name in chosen.suite:
        write(name, rows[name], chosen)
    if failed:
        raise SystemExit("failed:\n" + "\n".join(failed))
    return None


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line; places that depend on --smoke filled in."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", nargs="+", choices=SUITES, default=["mujoco", "classic", "atari"])
    parser.add_argument("--rows", nargs="+", default=[], metavar="WORDS", help="rows whose names have all these words")
    parser.add_argument("--columns", nargs="+", default=[], choices=["defaults", "recipe", "published", "peer"])
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the suite's own")
    parser.add_argument("--time", type=settings.in_seconds, help="begin and go on for so long: 90s, 10m, 2h")
    parser.add_argument("--runs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="cuda: for images; times are no core's then"
    )
    parser.add_argument("--out", type=Path, help=f"where runs lie [{RUNS}]")
    parser.add_argument("--results", type=Path, help="where rows and pages go [benchmarks/results]")
    parser.add_argument(
        "--peer", type=Path, default=peers.DEFAULT, help=f"interpreter with sb3-contrib [{peers.DEFAULT}]"
    )
    parser.add_argument("--smoke", type=int, metavar="STEPS", help="shorten every run: does it all work?")
    parser.add_argument("--list", action="store_true", help="show the rows and how far they are")
    parser.add_argument("--pages", action="store_true", help="write the pages of what there is, and train nothing")
    chosen = parser.parse_args(words)
    chosen.out = chosen.out or (SMOKE if chosen.smoke else RUNS)
    chosen.results = chosen.results or (chosen.out / "results" if chosen.smoke else RESULTS)
    if chosen.smoke and chosen.results.resolve() == RESULTS.resolve():
        parser.error("--smoke writes no results among the real ones; leave --results out")
    if chosen.runs < 1:
        parser.error(f"--runs: expected at least 1, received {chosen.runs}")
    return chosen


# ---- train -----------------------------------------------------------------------------------------------------------


def jobs(name: str, rows: Sequence[Row], chosen: argparse.Namespace) -> list[list[Job]]:
    """For every seed of a suite, a job for every row."""
    seeds = chosen.seeds or SUITES[name].seeds
    return [[Job(row, seed, place(chosen.out, name, row, seed), chosen.device) for row in rows] for seed in seeds]


def train(rows: dict[str, list[Row]], chosen: argparse.Namespace) -> list[str]:
    """One sitting over the rows; gives back what failed."""
    if any(row.column == "peer" for some in rows.values() for row in some):
        reason = peers.missing(chosen.peer)
        if reason:
            print(f"sb3-contrib's rows are left out: {reason}", flush=True)
            rows = {name: [row for row in some if row.column != "peer"] for name, some in rows.items()}
    rounds = itertools.zip_longest(*(jobs(name, some, chosen) for name, some in rows.items()), fillvalue=[])
    every = [job for turn in rounds for some in turn for job in some]
    suite_of = {row.name: name for name, some in rows.items() for row in some}
    kept = {row.name: kept_seeds(name, row, chosen) for name, some in rows.items() for row in some}
    queue = [job for job in every if job.seed not in kept[job.row.name]]
    stale = [f"{job.path}: {'; '.join(changed)}" for job in queue if (changed := job.changed())]
    if stale:
        raise SystemExit(
            "these runs were made with other settings than they would be made with now; remove them, or choose another --out:\n"
            + "\n".join(stale)
        )
    lock = threading.Lock()

    def done(job: Job) -> None:
        with lock:
            name = suite_of[job.row.name]
            result = collect(name, job.row, chosen)
            print(f"{job.row.name}, seed {job.seed}: {[] if result is None else result.scores}", flush=True)

    with alone(chosen.out):
        sitting = Sitting(queue, chosen.time, str(chosen.peer), done)
        sitting.work(chosen.runs)
    finished = len(every) - sum(job.state != "finished" for job in queue)
    print(
        f"{finished} of {len(every)} runs are finished{'' if finished == len(every) else '; call again to go on'}",
        flush=True,
    )
    return sitting.failed


def kept_seeds(name: str, row: Row, chosen: argparse.Namespace) -> set[int]:
    """The seeds of a row that need not be run again, whether their directories are still there or not."""
    kept = results.load(results.file_of(chosen.results, name, row), row)
    return {outcome.seed for outcome in kept.outcomes} if kept is not None and results.is_current(kept, row) else set()


# ---- results ---------------------------------------------------------------------------------------------------------


def collect(name: str, row: Row, chosen: argparse.Namespace) -> Result | None:
    """What is kept of a row and what its finished runs add to that, written down where they add anything."""
    path = results.file_of(chosen.results, name, row)
    kept, fresh = results.load(path, row), []
    for seed in chosen.seeds or SUITES[name].seeds:
        job = Job(row, seed, place(chosen.out, name, row, seed))
        if job.state == "finished" and not job.changed():
            fresh.append(scoring.read(row, RunDirectory(job.path), seed))
    result = results.merged(row, kept, fresh)
    if not result.outcomes:
        return None
    if fresh:
        results.save(path, result)
        return results.load(path, row)  # a page is made of what is kept, which is rounded
    return result


def write(name: str, rows: Sequence[Row], chosen: argparse.Namespace) -> None:
    """The page and the picture of a suite; ``rows`` are read from their runs, the others from what is kept."""
    mine = {row.name: row for row in rows}
    found = [collect(name, mine.get(row.name, row), chosen) for row in SUITES[name].rows]
    known = [result for result in found if result is not None]
    if not known:
        print(f"{name}: nothing is finished yet")
        return
    drawn = picture.draw(SUITES[name].title, known, chosen.results / f"{name}.png")
    text = page.page(name, SUITES[name], known, drawn)
    (chosen.results / f"{name}.md").write_text(text)
    print(text)


def show(rows: dict[str, list[Row]], chosen: argparse.Namespace) -> None:
    """Every row with how many of its seeds are finished and begun, here and in what is kept."""
    for name, some in rows.items():
        seeds = chosen.seeds or SUITES[name].seeds
        print(f"{name}: {len(some)} rows, seeds {' '.join(map(str, seeds))}")
        for row in some:
            states = [Job(row, seed, place(chosen.out, name, row, seed)).state for seed in seeds]
            kept = results.load(results.file_of(chosen.results, name, row), row)
            far = f"{states.count('finished')} finished, {states.count('begun')} begun, {len(kept.outcomes) if kept else 0} kept"
            print(f"  {row.name.ljust(40)} {far}")


if __name__ == "__main__":
    main()

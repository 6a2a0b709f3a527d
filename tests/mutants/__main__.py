"""Run every listed mutant against its tests: ``python -m tests.mutants [NAME ...]``.

Exits 0 where the tests pass as they are and fail under every mutant, 1 where a mutant survives, 2 where the list or the
unmutated tests are broken. Two mutants run at a time; nothing is left behind.

Each runs in a fork of this process, which has imported torch but nothing of pistar: importing torch anew would take most
of the time.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch  # noqa: F401 (for the forks)

from tests.mutants import ROOT, Mutant, listed, problems

AT_ONCE = 2
PATIENCE = 180.0  # seconds; a mutant that hangs its tests says nothing about them
BROKEN = 99  # exit status of a trial that could not begin, or that would have tested another pistar than the copy
OPTIONS = ("-x", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", "--hypothesis-seed=0")


@dataclass(frozen=True)
class Trial:
    """Tests to run on a copy, mutated or (None) as it is."""

    mutant: Mutant | None
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    trial: Trial
    status: int | None  # pytest's exit status; None: it was ended after PATIENCE
    output: str
    seconds: float

    @property
    def killer(self) -> str | None:
        """The test that failed, with its reason; None where none did."""
        found = re.search(r"^(?:FAILED|ERROR) (tests/.*)$", self.output, re.MULTILINE)
        return found[1] if self.status == 1 and found else None


class Running:
    """A trial in a process group of its own, on a copy of its own."""

    def __init__(self, trial: Trial, place: Path) -> None:
        self.trial, self.place, self.began = trial, place, time.monotonic()
        copy(trial.mutant, place)
        sys.stdout.flush()
        self.process = os.fork()
        if self.process == 0:
            status = BROKEN
            try:
                status = tested(trial, place)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)  # nothing of the parent's is to be cleaned up here

    def outcome(self) -> Outcome | None:
        """None while it runs."""
        seconds, (ended, word) = time.monotonic() - self.began, os.waitpid(self.process, os.WNOHANG)
        if not ended and seconds < PATIENCE:
            return None
        self.end(reap=not ended)
        output = (self.place / "output").read_text(errors="replace")
        return Outcome(self.trial, os.waitstatus_to_exitcode(word) if ended else None, output, seconds)

    def end(self, reap: bool = True) -> None:
        """Kill what is left of the process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)
        if reap:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)  # it may not have a group of its own yet
            os.waitpid(self.process, 0)


def copy(mutant: Mutant | None, place: Path) -> None:
    """Package and tests, with the change; what Python compiled of them comes along, except of the changed file."""
    for folder in ("pistar", "tests"):
        shutil.copytree(ROOT / folder, place / folder)
    shutil.copy(ROOT / "pyproject.toml", place)
    (place / "tmp").mkdir()
    if mutant is not None:
        path = place / mutant.file
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            stale.unlink()
        path.write_text(mutant.applied(path.read_text()))


def tested(trial: Trial, place: Path) -> int:
    """In the fork: pytest's exit status, on the copy and nothing else."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    output = os.open(place / "output", os.O_WRONLY | os.O_CREAT)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.path[:] = [str(place), *[entry for entry in sys.path if Path(entry).resolve() != ROOT]]
    os.chdir(place)
    temporary = str(place / "tmp")
    os.environ |= {"PYTHONPATH": str(place), "TMPDIR": temporary}  # for processes that tests start
    tempfile.tempdir = temporary
    import pistar

    if Path(pistar.__file__).resolve() != (place / "pistar" / "__init__.py").resolve():
        raise ImportError(f"pistar was imported from {pistar.__file__}, expected from {place}")
    return int(pytest.main([*OPTIONS, f"--basetemp={place / 'tmp' / 'pytest'}", *trial.tests]))


def outcomes(trials: Sequence[Trial]) -> Iterator[Outcome]:
    """Run all of them, ``AT_ONCE`` at a time; yields as they end."""
    waiting, running = list(enumerate(trials)), set[Running]()
    with tempfile.TemporaryDirectory(prefix="pistar-mutants-", ignore_cleanup_errors=True) as folder:
        try:
            while waiting or running:
                while waiting and len(running) < AT_ONCE:
                    number, trial = waiting.pop(0)
                    place = Path(folder) / str(number)
                    place.mkdir()
                    running.add(Running(trial, place))
                time.sleep(0.05)
                for each in list(running):
                    if (outcome := each.outcome()) is not None:
                        running.remove(each)
                        shutil.rmtree(each.place, ignore_errors=True)
                        yield outcome
        finally:
            for each in running:
                each.end()


def sound(mutants: Sequence[Mutant]) -> bool:
    """Whether the tests pass on a copy that nothing was done to; says what went wrong."""
    files: dict[str, list[str]] = {}
    for test in sorted({test for mutant in mutants for test in mutant.tests}):
        files.setdefault(test.partition("::")[0], []).append(test)
    shares = [list(files.values())[part::AT_ONCE] for part in range(AT_ONCE)]
    trials = [Trial(None, tuple(test for file in share for test in file)) for share in shares if share]
    passed = True
    for outcome in outcomes(trials):
        if outcome.status != 0:
            passed = False
            print(f"the tests do not pass unmutated (status {outcome.status}):\n{outcome.output}", flush=True)
    return passed


def judged(outcome: Outcome) -> bool:
    """Print what became of a mutant; True where a test noticed it."""
    assert outcome.trial.mutant is not None
    name, seconds = outcome.trial.mutant.name, f"{outcome.seconds:.0f} s"
    if outcome.killer:
        print(f"killed    {name}  ({seconds})  by {outcome.killer[:200]}", flush=True)
        return True
    if outcome.status == 0:
        print(f"SURVIVED  {name}  ({seconds}): {outcome.trial.mutant.breaks}", flush=True)
    elif outcome.status is None:
        print(f"SURVIVED  {name}: its tests were ended after {seconds}; a hang is no answer", flush=True)
    else:
        print(f"SURVIVED  {name}: no test ran (status {outcome.status}):\n{outcome.output}", flush=True)
    return False


def main(names: Sequence[str]) -> int:
    """The command."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended and removed
    began, mutants = time.monotonic(), listed()
    if unknown := set(names) - {mutant.name for mutant in mutants}:
        print(f"no such mutants: {', '.join(sorted(unknown))}; known: {', '.join(each.name for each in mutants)}")
        return 2
    mutants = [mutant for mutant in mutants if not names or mutant.name in names]
    if faults := problems(mutants):
        print("\n".join(faults))
        return 2
    if not sound(mutants):
        return 2
    print(f"the tests pass unmutated ({time.monotonic() - began:.0f} s); {len(mutants)} mutants to go", flush=True)
    noticed = [judged(outcome) for outcome in outcomes([Trial(mutant, mutant.tests) for mutant in mutants])]
    survived = noticed.count(False)
    print(f"{noticed.count(True)} killed, {survived} survived, in {time.monotonic() - began:.0f} s")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

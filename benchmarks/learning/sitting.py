"""One sitting: as many runs as a budget of time allows, several at a time, each on a core of its own.

A run is a directory under ``--out``. What is finished is skipped, what was begun is resumed, the rest is started: in the order
of the seeds, so that every row has its first seed before one has its second. When time is up, or on Ctrl-C or SIGTERM, the runs
under way are asked to save and leave; the next sitting goes on with them. A peer cannot resume and begins anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.learning import recipes
from benchmarks.learning.suites import Row
from pistar import experiment
from pistar.run import RunDirectory

State = Literal["new", "begun", "finished"]


@dataclass(frozen=True)
class Job:
    """One seed of one row."""

    row: Row
    seed: int
    path: Path
    device: str = "cpu"  # where a run that is started computes; one that is resumed stays where it was

    @property
    def state(self) -> State:
        """How far it is, by what its directory holds."""
        run = RunDirectory(self.path)
        if run.evaluations.is_file():
            lines = run.evaluations.read_bytes().splitlines()
            if lines and is_final(lines[-1]):
                return "finished"
        return "begun" if run.experiment.is_file() else "new"

    def changed(self) -> list[str]:
        """What differs between the settings that a begun run was made with and those it would be made with now."""
        if self.row.column == "peer" or self.state == "new":
            return []
        then = experiment.read(RunDirectory(self.path).experiment)
        now = recipes.resolved(f"{self.row.arguments} --seed {self.seed}")
        found = recipes.differences(then, now)
        if then.evaluation != now.evaluation:
            found["evaluation"] = (then.evaluation, now.evaluation)
        return [
            f"{name} was {old!r}, is {new!r}" for name, (old, new) in found.items() if name not in recipes.OWN_COURSE
        ]

    def command(self, peer: str) -> list[str]:
        """What to call; ``peer`` is the interpreter of the peers' environment."""
        words = [*self.row.arguments.split(), "--seed", str(self.seed), "--out", str(self.path)]
        if self.row.column == "peer":
            return [peer, str(Path(__file__).parent / "sb3_trpo.py"), *words]
        if self.state == "begun":
            return [sys.executable, "-m", "pistar", "resume", str(self.path), "--quiet"]
        where = [] if self.device == "cpu" else ["--device", self.device]
        return [sys.executable, "-m", "pistar", "train", *words, *where, "--quiet"]


def is_final(line: bytes) -> bool:
    """Whether a record of evaluations.jsonl, which a kill may have torn, is the one after the last update."""
    try:
        return bool(json.loads(line).get("final"))
    except json.JSONDecodeError:
        return False


def place(out: Path, suite: str, row: Row, seed: int) -> Path:
    """Where a run lies."""
    return out / suite / row.file / f"seed-{seed}"


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Refuse to work where another sitting works: both would run the same jobs."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".sitting").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(
                f"another sitting works in {out}; wait for it, or give this one --out of its own"
            ) from None
        yield


@dataclass
class Sitting:
    """Works through jobs until they are done or time is up; ``done`` is told of each that has finished."""

    jobs: Sequence[Job]
    budget: float | None  # seconds; None: until all is done
    peer: str = ""
    done: Callable[[Job], None] = lambda job: None
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left = iter(self.jobs)
        self._turn = threading.Lock()
        self._over = threading.Event()
        self._deadline = None if self.budget is None else time.monotonic() + self.budget

    @property
    def over(self) -> bool:
        """Whether nothing more is to be begun."""
        return self._over.is_set() or (self._deadline is not None and time.monotonic() >= self._deadline)

    def work(self, at_once: int) -> None:
        """Run the jobs, ``at_once`` at a time, each pinned to a core where there are enough of them."""
        cores = sorted(os.sched_getaffinity(0))
        pinned = [cores[k] if at_once <= len(cores) else None for k in range(at_once)]
        threads = [threading.Thread(target=self._follow, args=(core,)) for core in pinned]
        before = signal.signal(signal.SIGTERM, lambda *_: self._over.set())
        try:
            for thread in threads:
                thread.start()
            self._await(threads)
        finally:
            signal.signal(signal.SIGTERM, before)

    def _await(self, threads: list[threading.Thread]) -> None:
        while any(thread.is_alive() for thread in threads):
            try:
                for thread in threads:
                    thread.join(0.2)
            except KeyboardInterrupt:
                print("saving what is under way", flush=True)
                self._over.set()

    def _follow(self, core: int | None) -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})  # of this thread: a process pinned after its start may have ended already
        while not self.over:
            with self._turn:
                job = next((job for job in self._left if job.state != "finished"), None)
            if job is None:
                return
            self._complete(job)

    def _complete(self, job: Job) -> None:
        """Start or resume one run and see to its end, or to its leaving when time is up."""
        what = "resumed" if job.state == "begun" else "started"
        print(f"{job.row.name}, seed {job.seed}: {what}", flush=True)
        job.path.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        # A session of its own, so that Ctrl-C reaches it through us alone, once.
        process = subprocess.Popen(
            job.command(self.peer), env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        asked = False
        while True:
            try:
                errors = process.communicate(timeout=0.2)[1]
                break
            except subprocess.TimeoutExpired:
                if self.over and not asked:
                    process.send_signal(signal.SIGTERM)
                    asked = True
        if process.returncode == 0:
            try:
                self.done(job)
            except ValueError as error:  # the records do not fit the protocol
                self._fail(job, str(error))
        elif not asked:
            self._fail(job, errors.strip()[-1000:])

    def _fail(self, job: Job, why: str) -> None:
        self.failed.append(f"{job.row.name}, seed {job.seed} ({job.path}): {why}")
        print(f"failed: {self.failed[-1]}", flush=True)

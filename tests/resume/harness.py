"""Starts runs in processes of their own, lets them be killed, and looks for what they left behind."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pistar import artefact, checkpoint, experiment, serialization
from pistar.checkpoint import Checkpoints
from resume.equality import assert_equal_runs

TESTS = Path(__file__).parents[1]
GONE = 5.0  # seconds after a kill, in which everything that the run had started must have ended
Kill = tuple[str, int]  # an event's label, and which of them


@dataclass
class Child:
    """A process that trains or resumes."""

    process: int
    connection: socket.socket

    def wait(self) -> int:
        """Its exit code (a signal's number negated)."""
        with self.connection, self.connection.makefile() as answer:
            return int(answer.readline())

    def kill(self) -> None:
        """Kill it as `kill -9` does."""
        with suppress(BrokenPipeError):  # it has just ended by itself
            self.connection.sendall(b"kill")


@dataclass
class Harness:
    """Runs of one test session."""

    address: str
    directory: Path
    wholes: dict[str, tuple[Path, dict[str, int]]] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    def whole(self, world: str, algorithm: str, **training: Any) -> tuple[Path, dict[str, int]]:
        """The run that was never stopped, made once, and how often it passed each kind of event."""
        name = "-".join((world, algorithm, *(f"{key}-{value}" for key, value in training.items())))
        with self.lock:
            if name not in self.wholes:
                run = Run(self, self.directory / name, world, algorithm, training)
                run.finish()
                self.wholes[name] = run.path, run.passed()
            return self.wholes[name]

    def run(self, path: Path, world: str, algorithm: str, **training: Any) -> Run:
        """A run that may be killed."""
        return Run(self, path, world, algorithm, training)


@dataclass
class Run:
    """A run that is killed, and gone on with, until it is finished."""

    harness: Harness
    path: Path
    world: str
    algorithm: str
    training: dict[str, Any]

    def start(self, kill: Kill | None = None) -> Child:
        """Go on with the run as its user would: resume it, or begin it where it is none yet."""
        request = {
            "action": "resume" if self.begun else "train",
            "run": str(self.path),
            "world": self.world,
            "algorithm": self.algorithm,
            "training": self.training,
            "kill": kill,
        }
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.harness.address)
        connection.sendall(json.dumps(request).encode() + b"\n")
        # Unbuffered, so that nothing of the second line is lost with the reader of the first.
        line = b""
        while not line.endswith(b"\n"):
            line += connection.recv(1)
        return Child(int(line), connection)

    def killed_at(self, label: str, count: int = 1) -> None:
        """Go on until the event, where the process kills itself."""
        child = self.start((label, count))
        code = child.wait()
        assert code == -signal.SIGKILL, f"{label} {count} was not met (exit code {code})\n{self.log()}"
        self.assert_nothing_remains(child.process)
        self.assert_whole()

    def killed_after(self, seconds: float) -> bool:
        """Go on, and kill the process after some time; says whether it was still at work."""
        child = self.start()
        time.sleep(seconds)
        child.kill()
        code = child.wait()
        assert code in (0, -signal.SIGKILL), self.log()
        self.assert_nothing_remains(child.process)
        self.assert_whole()
        return code != 0

    def finish(self) -> None:
        """Go on to the end."""
        code = self.start().wait()
        assert code == 0, self.log()

    def assert_equals_whole(self) -> None:
        """Go on to the end, and compare with the run that was never stopped."""
        self.finish()
        whole, _ = self.harness.whole(self.world, self.algorithm, **self.training)
        assert_equal_runs(whole, self.path)

    def log(self) -> str:
        """What its processes have printed."""
        log = Path(f"{self.path}.log")
        return log.read_text() if log.exists() else ""

    def assert_nothing_remains(self, process: int) -> None:
        """No process of the killed one's session runs, nobody has its memory, and nothing lies in /dev/shm."""
        limit = time.monotonic() + GONE
        while left := session(process):
            assert time.monotonic() < limit, f"{GONE} s after the kill, processes {left} still run"
            time.sleep(0.002)
        noted = Path(f"{self.path}.memory")
        if noted.exists():
            inodes = set(noted.read_text().split())
            noted.unlink()
            assert not [path for path, inode in memory_in_use() if inode in inodes]
        assert not [name for name in os.listdir("/dev/shm") if "pistar" in name]

    def assert_whole(self) -> None:
        """No file at its place is half a file; with a run there is a checkpoint, and from the second on there are two."""
        checkpoints = Checkpoints(self.path / "checkpoints").paths()
        for path in checkpoints:
            serialization.read(path, checkpoint.KIND)
        for path in self.path.glob("*.safetensors"):
            artefact.load(path)
        if self.begun:
            experiment.read(self.path / "experiment.toml")
            assert checkpoints
            assert len(checkpoints) > 1 or checkpoints[0].stem == "iteration-00000000"

    @property
    def begun(self) -> bool:
        """Whether it is a run already."""
        return (self.path / "experiment.toml").is_file()

    def passed(self) -> dict[str, int]:
        """How often the last of its processes, which ended by itself, passed each kind of event."""
        return dict(json.loads(Path(f"{self.path}.passed").read_text()))

    def copy(self, path: Path) -> Run:
        """The same run at another place."""
        shutil.copytree(self.path, path)
        return dataclasses.replace(self, path=path)


def session(leader: int) -> list[int]:
    """The processes of a session, those left out that have ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, number, *_ = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(number) == leader and state not in "ZX":
            found.append(int(path.name))
    return found


def memory_in_use() -> Iterator[tuple[str, str]]:
    """(process, inode) of every mapping of a worker's shared memory on this machine."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            lines = (path / "maps").read_text().splitlines()
        except OSError:
            continue
        yield from ((path.name, line.split()[4]) for line in lines if "memfd:pistar" in line)


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """A server of children; yields its address."""
    address = str(directory / "socket")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(TESTS), *sys.path))}
    command = [sys.executable, "-m", "resume.server", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        with closing(server.stdout):
            try:
                assert server.stdout.readline() == "ready\n"
                yield address
            finally:
                server.kill()

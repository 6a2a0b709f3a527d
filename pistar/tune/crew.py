"""The workers as a driver sees them: who is free, what they say, and that they end with it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pistar.errors import UsageError

Key = Hashable
Message = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """What has happened: a worker's message about its job, its death ({"died": exit code}), or a signal."""

    key: Key
    message: Message
    process: int = 0  # who says so


class Hand:
    """One worker; started when it gets its first job, and again after a death."""

    def __init__(self, log: Path, events: queue.SimpleQueue[Event]) -> None:
        self.log, self.events = log, events
        self.process: subprocess.Popen[str] | None = None
        self.key: Key | None = None

    def give(self, key: Key, job: Message) -> None:
        """Start a job; a worker that died while it had none is replaced."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        self.key = key
        self.say(job)

    def say(self, message: Message) -> None:
        """Send a line; the death of a worker is told by the listener, not here."""
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def start(self) -> None:
        """A process of its own session, so that Ctrl-C reaches the driver alone."""
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pistar.tune.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        threading.Thread(target=self.listen, args=(self.process, self.process.stdout), daemon=True).start()

    def listen(self, process: subprocess.Popen[str], lines: IO[str]) -> None:
        """Pass on what a worker says, and that it has died."""
        for line in lines:
            with contextlib.suppress(ValueError):  # half a line of one that was killed
                self.events.put(Event(self.key, json.loads(line), process.pid))
        code = process.wait()
        if self.key is not None:
            self.events.put(Event(self.key, {"died": code}, process.pid))

    def end(self) -> None:
        """Kill it: its runs are as good as their checkpoints at any moment."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Crew:
    """So many workers."""

    def __init__(self, size: int, logs: Path) -> None:
        if size < 1:
            raise UsageError(f"--workers: expected at least 1, received {size}")
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.hands = [Hand(logs / f"worker-{number}.log", self.events) for number in range(size)]

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for hand in self.hands:
            hand.key = None
            hand.end()

    def busy(self) -> list[Key]:
        """The jobs at work."""
        return [hand.key for hand in self.hands if hand.key is not None]

    def free(self) -> bool:
        """Whether somebody has nothing to do."""
        return any(hand.key is None for hand in self.hands)

    def give(self, key: Key, job: Message) -> None:
        """Have a free worker do a job."""
        next(hand for hand in self.hands if hand.key is None).give(key, job)

    def answer(self, key: Key, message: Message) -> None:
        """Answer the worker of a job."""
        for hand in self.of(key):
            hand.say(message)

    def release(self, key: Key) -> None:
        """The worker of a job has nothing to do any more."""
        for hand in self.of(key):
            hand.key = None

    def of(self, key: Key) -> Iterator[Hand]:
        """The worker of a job."""
        return (hand for hand in self.hands if hand.key == key)

    def next(self, seconds: float) -> Event | None:
        """The next event; None where none comes in time."""
        try:
            event = self.events.get(timeout=seconds)
        except queue.Empty:
            return None
        if event.key == SIGNAL:
            return event
        known = any(hand.process is not None and hand.process.pid == event.process for hand in self.of(event.key))
        return event if known else None  # a worker that had died already may have been at this job before


SIGNAL = "signal"  # the key of events that are none of a worker's

"""The driver: hands out trials, hears how they go, stops the hopeless, and puts back what somebody died over.

All that it knows is in the study and in the directory, so that it may be killed at any moment: another one goes on.

::

    DIR/tune.toml        the plan
    DIR/journal.log      the study, where no other storage is named; DIR/driver.lock is whose turn it is
    DIR/trials/NNNN/     the runs of a trial, one a seed; DIR/finalists/, DIR/comparison/ likewise
    DIR/best.toml        what `pistar train --config` takes; DIR/trials.csv, DIR/result.json and pictures beside it
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from pistar.errors import EnvironmentFailure, Interrupted, NumericalError, PistarError, UsageError
from pistar.tune.crew import SIGNAL, Crew, Event, Key
from pistar.tune.plan import Plan
from pistar.tune.study import DEATHS, Study, Ticket

BEAT = 10.0  # seconds between signs of life
IMPOSSIBLE = "cannot be: "  # how a note on a point begins that is no experiment
PATIENCE = 3  # trials in a row that fail for good, after which the search ends

Say = Callable[[str], None]
K = TypeVar("K", bound=Hashable)


class Signals:
    """Within ``with``, Ctrl-C and SIGTERM become events of a crew; a second Ctrl-C ends the process at once."""

    def __init__(self, crew: Crew) -> None:
        self.crew, self.before = crew, dict[int, Any]()

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.before[number] = signal.signal(number, self.note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def note(self, number: int, frame: FrameType | None) -> None:
        """A queue that signal handlers may write to."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.crew.events.put(Event(SIGNAL, {"number": number}))


@dataclass
class Driver:
    """A search at work. ``say`` prints a line."""

    plan: Plan
    study: Study
    crew: Crew
    place: Path
    say: Say
    running: dict[int, Ticket] = field(default_factory=dict)
    failures: int = 0  # in a row

    def search(self, trials: int, seconds: float | None = None) -> None:
        """Make trials until so many have a result, or no new ones after some time."""
        began, beaten = time.monotonic(), 0.0
        left = self.study.recover()
        if left:
            self.say(f"put back: trial{'s' * (len(left) > 1)} {', '.join(map(str, left))}, whose driver had ended")
        while True:
            late = seconds is not None and time.monotonic() - began >= seconds
            while self.crew.free() and not late and self.wanted(trials):
                self.hand_out()
            if not self.running:
                return
            event = self.crew.next(1.0)
            if event is not None:
                self.hear(event)
            if time.monotonic() - beaten >= BEAT:
                beaten = time.monotonic()
                self.study.beat(list(self.running.values()))

    def wanted(self, trials: int) -> bool:
        """Whether one more trial is needed; points that are no experiments do not count, unless there is little else."""
        impossible = sum(
            str(t.user_attrs.get("stopped", "")).startswith(IMPOSSIBLE) for t in self.study.trials("PRUNED")
        )
        if impossible > 10 * trials:
            raise UsageError(
                f"{impossible} points that cannot be trained were proposed; narrow the ranges with --search"
            )
        return self.study.count("COMPLETE", "PRUNED", "RUNNING") - impossible < trials

    def hand_out(self) -> None:
        """Ask for a trial and give it to a worker; a point that is no experiment is a bad one."""
        ticket = self.study.ask()
        try:
            experiment = self.plan.at(ticket.point)
        except PistarError as error:
            self.study.stop(ticket, f"{IMPOSSIBLE}{error}")
            self.say(f"trial {ticket.number}: cannot be: {error}")
            return
        self.running[ticket.number] = ticket
        job = {
            "experiment": experiment.to_table(),
            "directory": str(self.place / "trials" / f"{ticket.origin:04d}"),
            "seeds": list(self.plan.seeds),
            "rungs": self.plan.method.rungs,
        }
        self.crew.give(ticket.number, job)

    def hear(self, event: Event) -> None:
        """Act on what a worker says."""
        refuse_signal(event, self.place)
        assert isinstance(event.key, int)
        ticket, message = self.running[event.key], event.message
        if "areas" in message:
            hopeless = self.study.report(ticket, message["areas"])
            self.crew.answer(event.key, {"go on": not hopeless})
            return
        self.crew.release(event.key)
        del self.running[event.key]
        if "done" in message:
            self.done(ticket, **message["done"])
        elif "stopped" in message:
            self.failures = 0
            self.study.stop(ticket, "hopeless beside the best trial on the same seeds")
            self.say(f"trial {ticket.number}: stopped, hopeless")
        elif message.get("code") == NumericalError.exit_code:
            self.study.stop(ticket, message["failed"])
            self.say(f"trial {ticket.number}: stopped, not finite: {message['failed']}")
            if ticket.origin == 0:
                self.fail(ticket, message["failed"])
        else:
            self.lost(ticket, message)

    def done(self, ticket: Ticket, areas: list[list[float]], finals: list[float]) -> None:
        """A trial has its value."""
        self.failures = 0
        self.study.complete(ticket, areas, finals)
        value = sum(each[-1] for each in areas) / len(areas)
        best = max(self.study.finished(), key=lambda each: each.value)
        mark = "  the best so far" if best.number == ticket.number else ""
        self.say(f"trial {ticket.number}: area {value:.5g} over {len(areas)} seeds{mark}")

    def lost(self, ticket: Ticket, message: Mapping[str, Any]) -> None:
        """A worker has died over a trial, or its run has failed."""
        died = "died" in message
        reason = f"its worker ended with code {message['died']}" if died else str(message["failed"])
        again = self.study.give_back(ticket.number, reason, died=died, raised=not died)
        self.say(f"trial {ticket.number}: {reason}; {'put back' if again else 'given up'}")
        if not again:
            self.fail(ticket, reason)

    def fail(self, ticket: Ticket, reason: str) -> None:
        """End the search where nothing works any more, or where its starting point does not."""
        self.failures += 1
        if ticket.origin == 0 or self.failures >= PATIENCE:
            which = (
                "the starting point, trial 0," if ticket.origin == 0 else f"{self.failures} trials in a row, the last"
            )
            raise EnvironmentFailure(
                f"{which} failed: {reason}. See {self.place / 'logs'}; mend it, then go on with --resume"
            )


def passed_over(study: Study) -> int:
    """How many points were proposed that are no experiments."""
    return sum(str(t.user_attrs.get("stopped", "")).startswith(IMPOSSIBLE) for t in study.trials("PRUNED"))


def refuse_signal(event: Event, place: Path) -> None:
    """Raise Interrupted where an event is a signal."""
    if event.key == SIGNAL:
        number = event.message["number"]
        raise Interrupted(f"stopped by signal {number}. Continue with `pistar tune --resume {place}`", number)


def train_all(crew: Crew, jobs: Mapping[K, dict[str, Any]], place: Path, say: Say) -> dict[K, dict[str, Any]]:
    """Do jobs that are no trials, none of which is stopped early; what each gave."""
    waiting, found, deaths = list(jobs), dict[K, dict[str, Any]](), 0
    named: dict[Key, K] = {key: key for key in jobs}
    while len(found) < len(jobs):
        while waiting and crew.free():
            key = waiting.pop(0)
            crew.give(key, jobs[key])
        event = crew.next(1.0)
        if event is None:
            continue
        refuse_signal(event, place)
        if "areas" in event.message:
            crew.answer(event.key, {"go on": True})
            continue
        crew.release(event.key)
        if "done" in event.message:
            found[named[event.key]] = event.message["done"]
        elif "died" in event.message and deaths < DEATHS:
            deaths += 1
            waiting.insert(0, named[event.key])
            say(f"{event.key}: its worker ended with code {event.message['died']}; again")
        else:
            raise EnvironmentFailure(
                f"{event.key} failed: {event.message.get('failed', event.message)}; see {place / 'logs'}"
            )
    return found

"""The worker processes as the learning process sees them: started, asked, waited for, found dead, ended.

``fork`` copies this process and starts at once. ``spawn`` starts a fresh interpreter, for environments or libraries that
do not survive a fork (threads, GPU or display connections); there the target is given as a string, or as a callable that
can be imported by name, and its options are plain values. Nothing of the main script is run again in either.

The shared memory is anonymous: no name in the file system, nothing to clean up after a kill.

What this leaves out: Windows, and restarting a worker that died. Its lanes' episodes are lost with it, so the run ends
and is resumed from the last checkpoint.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn, Protocol

from pistar.envs import failures, targets
from pistar.envs.lanes import Plan
from pistar.envs.layout import Array
from pistar.envs.worker_messages import (
    DONE,
    QUIT,
    STEP,
    Channel,
    Closed,
    Late,
    lowest,
    rebuild,
)
from pistar.envs.worker_process import HANDLED, Post, briefing, protect, run
from pistar.errors import EnvironmentFailure, PistarError, UsageError

StartMethod = Literal["fork", "spawn"]
GRACE = 5.0  # seconds that workers have for closing their environments
TICK = 1000  # milliseconds between two looks at workers that do not answer


class Process(Protocol):
    """What ``subprocess.Popen`` and ``Forked`` have in common."""

    pid: int

    def poll(self) -> int | None:
        """The exit code (a signal's number negated), or None while it runs."""

    def kill(self) -> None:
        """Send SIGKILL."""


class Forked:
    """A child made by ``os.fork``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code (a signal's number negated), or None while it runs."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                self.returncode = 255
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def kill(self) -> None:
        """Send SIGKILL unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


@dataclass
class Member:
    """One worker."""

    process: Process
    channel: Channel
    post: Post

    @property
    def called(self) -> str:
        """How messages call it: ``"worker 1 (lanes 4 to 7, process 4711)"``."""
        first, last = self.post.start + self.post.lane_offset, self.post.stop - 1 + self.post.lane_offset
        lanes = f"lane {first}" if first == last else f"lanes {first} to {last}"
        return f"worker {self.post.index} ({lanes}, process {self.process.pid})"


class Pool:
    """``workers`` processes that share the lanes of a plan.

    ``progress`` [workers, 2] is what the workers leave word of (``Batch.progress``), once there is shared memory;
    ``names`` lists each worker's scalars of ``info``.
    """

    def __init__(
        self, plan: Plan, workers: int, start_method: StartMethod, timeout: float | None, lane_offset: int
    ) -> None:
        self.name, self.timeout = targets.name_of(plan.target), timeout
        self.members: list[Member] = []
        self.names: list[list[str]] = [[] for _ in range(workers)]
        self.news = 0  # how often names were added
        self.steps = 0  # since `reset`
        self.progress: Array | None = None
        self.memory = _anonymous_memory()
        self._poll = select.poll()
        self._pending: dict[int, Member] = {}  # by the descriptor that its answer will come through
        self._values: list[Any] = [None] * workers
        self.finalizer = weakref.finalize(self, shut_down, self.members, os.getpid())
        if start_method == "spawn":
            plan = replace(plan, target=importable(plan.target))
        main_thread = threading.current_thread() is threading.main_thread()
        for index in range(workers):
            start, stop = (plan.lanes * part // workers for part in (index, index + 1))
            post = Post(index, workers, plan.lanes, start, stop, lane_offset, os.getpid(), main_thread)
            try:
                self._add(start_worker(plan, post, start_method, self.memory, self.members, timeout))
            except BaseException:
                self.close()
                raise

    def _add(self, member: Member) -> None:
        self.members.append(member)
        self._poll.register(member.channel.incoming, select.POLLIN)
        self._pending[member.channel.incoming] = member

    def step(self) -> None:
        """Let every worker step its lanes with the actions in shared memory; raises EnvironmentFailure."""
        if self._pending:
            self.answers()
        for member in self.members:
            try:
                member.channel.signal(STEP)
            except Closed:
                self._died(member)
            self._pending[member.channel.incoming] = member
        self.answers()
        self.steps += 1

    def call(self, name: str, arguments: Sequence[Sequence[Any]], members: Sequence[int] | None = None) -> list[Any]:
        """Ask the workers (all, or those of the given numbers) something else; ``arguments`` has a list for each."""
        if self._pending:
            self.answers()
        asked = self.members if members is None else [self.members[index] for index in members]
        for member, own in zip(asked, arguments, strict=True):
            try:
                member.channel.send([name, *own])
            except (Closed, Late) as error:
                self._lost(member, error)
            self._pending[member.channel.incoming] = member
        values = self.answers()
        return [values[member.post.index] for member in asked]

    def answers(self) -> list[Any]:
        """Wait for every answer that is due; one value per worker. Raises the failure of the lowest lane."""
        errors: list[PistarError] = []
        seen: dict[int, tuple[int, float]] = {}  # worker -> calls begun, and when that was first seen
        while self._pending:
            ready = self._poll.poll(TICK)
            for descriptor, _ in ready:
                self._take(descriptor, errors)
            if not ready:
                self._look(seen)
        if errors:
            raise lowest(errors)
        values, self._values = self._values, [None] * len(self.members)
        return values

    def _take(self, descriptor: int, errors: list[PistarError]) -> None:
        member = next(each for each in self.members if each.channel.incoming == descriptor)
        try:
            if member.channel.signalled() != DONE:
                answer = member.channel.receive()
                if answer["names"]:
                    self.names[member.post.index] += answer["names"]
                    self.news += 1
                if "error" in answer:
                    errors.append(rebuild(answer))
                else:
                    self._values[member.post.index] = answer["value"]
        except (Closed, Late) as error:
            self._lost(member, error)
        self._pending.pop(descriptor, None)

    def _look(self, seen: dict[int, tuple[int, float]]) -> None:
        """Raise where a worker that owes an answer is dead, or has not begun a call for ``timeout`` seconds."""
        now = time.monotonic()
        for member in list(self._pending.values()):
            if member.process.poll() is not None:
                self._died(member)
            index = member.post.index
            begun = 0 if self.progress is None else int(self.progress[index, 1])
            if index not in seen or seen[index][0] != begun:
                seen[index] = begun, now
            elif self.timeout is not None and now - seen[index][1] > self.timeout:
                self._lost(member, Late())

    def _lost(self, member: Member, error: Exception) -> NoReturn:
        if isinstance(error, Closed):
            self._died(member)
        self._fail(
            member,
            f"has not answered for {self.timeout:g} s, though it runs; it and the other workers were ended. If the "
            "environment is that slow, give a longer timeout (None: wait for ever)",
        )

    def _died(self, member: Member) -> NoReturn:
        wait([member], GRACE)
        code = member.process.poll()
        how = "closed its end of the pipes" if code is None else f"died: {_ending(code)}"
        self._fail(member, f"{how}; the other workers were ended")

    def _fail(self, member: Member, what: str) -> NoReturn:
        lane = None if self.progress is None else int(self.progress[member.post.index, 0])
        lane = None if lane == -1 else lane
        self.close(grace=0.0)
        raise EnvironmentFailure(
            f"{failures.place(self.name, lane, self.steps)}: {member.called} {what}", lane, self.steps
        )

    def close(self, grace: float = GRACE) -> None:
        """End the workers, by force after ``grace`` seconds; safe to call twice."""
        self.finalizer.detach()
        self._pending.clear()
        if self.memory >= 0:
            os.close(self.memory)
            self.memory = -1
        shut_down(self.members, os.getpid(), grace)


def shut_down(members: list[Member], owner: int, grace: float = GRACE) -> None:
    """Ask every worker to end, wait, and kill those that did not; empties the list."""
    if os.getpid() != owner:  # a fork of the learning process, which they do not belong to
        return
    for member in members:
        try:
            if grace > 0:
                member.channel.signal(QUIT)
        except Closed:
            pass
        member.channel.close()
    wait(members, grace)
    for member in members:
        member.process.kill()
    wait(members, GRACE)
    members.clear()


def wait(members: Sequence[Member], seconds: float) -> None:
    """Wait until all have ended, at most so long."""
    limit, pause = time.monotonic() + seconds, 0.0005
    while any(member.process.poll() is None for member in members) and time.monotonic() < limit:
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def start_worker(
    plan: Plan, post: Post, method: StartMethod, memory: int, others: Sequence[Member], timeout: float | None
) -> Member:
    """A new process at work on its lanes."""
    commands, replies = os.pipe(), os.pipe()
    # A signal that comes before the worker has its own handlers would end it: it waits till then.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        if method == "fork":
            process: Process = fork(plan, post, commands, replies, memory, others)
        else:
            process = spawn(commands[0], replies[1], memory)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(commands[0])
        os.close(replies[1])
    member = Member(process, Channel(replies[0], commands[1], timeout), post)
    if method == "spawn":
        try:
            member.channel.send(briefing(plan, post))
        except ValueError as error:
            shut_down([member], os.getpid(), 0.0)
            raise UsageError(
                f"the options of {targets.name_of(plan.target)} cannot be sent to a spawned process: expected numbers, "
                f"strings, arrays, and dicts, lists or tuples of them, received options = {plan.options!r}, "
                f"reset_options = {plan.reset_options!r}; give such values, or start_method = 'fork'"
            ) from error
        except Closed:
            pass  # it died at once; the first wait for an answer says so
    return member


def fork(
    plan: Plan,
    post: Post,
    commands: tuple[int, int],
    replies: tuple[int, int],
    memory: int,
    others: Sequence[Member],
) -> Forked:
    """A copy of this process as a worker; ``others`` are those whose pipes it must not hold open."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Forked(pid)
    code = 1
    try:
        gc.freeze()  # what was garbage in the parent is not to be finalised here too
        for member in others:
            member.channel.close()
        os.close(commands[1])
        os.close(replies[0])
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        protect(post)
        run(plan, post, Channel(commands[0], replies[1]), memory)
        sys.stdout.flush()
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def spawn(incoming: int, outgoing: int, memory: int) -> subprocess.Popen[bytes]:
    """A fresh interpreter as a worker, with this one's search path."""
    path = [entry for entry in sys.path if isinstance(entry, str)]
    program = (
        f"import sys; sys.path[:] = {path!r}; "
        f"from pistar.envs.worker_process import main; main({incoming}, {outgoing}, {memory})"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, pass_fds=(incoming, outgoing, memory)
    )


def importable(target: targets.Target) -> str:
    """``module:name`` of a callable; raises UsageError where a fresh interpreter could not find it."""
    if isinstance(target, str):
        return target
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", "")
    found = targets.attribute(sys.modules.get(str(module)), name) if name else None
    if found is not target or module == "__main__":
        raise UsageError(
            f"a spawned process cannot import {targets.name_of(target)} (module {module!r}); expected a class or "
            "function at the top level of a module. Move it to one, or use start_method = 'fork'"
        )
    return f"{module}:{name}"


def _anonymous_memory() -> int:
    """A descriptor of memory, inheritable by the workers alone, that vanishes with the last process that has it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pistar")
    with tempfile.TemporaryFile() as file:  # unlinked from the start
        return os.dup(file.fileno())


def _ending(code: int) -> str:
    if code >= 0:
        return f"it exited with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
    hint = ", which the system sends when memory runs out" if -code == signal.SIGKILL else ""
    return f"killed by signal {-code} ({name}{hint})"

"""How worker processes begin and end, whatever they do in between.

``fork`` copies this process and starts at once. ``spawn`` starts a fresh interpreter, for environments or libraries that
do not survive a fork (threads, GPU or display connections); there the target is given as a string, or as a callable that
can be imported by name, and its options are plain values. Nothing of the main script is run again in either.

What this leaves out: talking to them, and noticing that one is dead or hangs; ``worker_pool`` does both.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pistar.envs import targets
from pistar.envs.lanes import Plan
from pistar.envs.worker_messages import QUIT, Channel, Closed
from pistar.envs.worker_process import HANDLED, Post, briefing, protect, run
from pistar.errors import UsageError

StartMethod = Literal["fork", "spawn"]
GRACE = 5.0  # seconds that workers have for closing their environments


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


def ending(code: int) -> str:
    """How a process ended, from its exit code (a signal's number negated)."""
    if code >= 0:
        return f"it exited with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
    hint = ", which the system sends when memory runs out" if -code == signal.SIGKILL else ""
    return f"killed by signal {-code} ({name}{hint})"

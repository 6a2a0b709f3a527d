"""The worker processes as the learning process sees them: asked, waited for, found dead.

An answer that is due is waited for together with all others. A worker that dies ends its pipe, so it is noticed at once;
one that hangs is noticed when it has begun no call into an environment for ``timeout`` seconds.

The shared memory is anonymous: no name in the file system, nothing to clean up after a kill.

What this leaves out: how processes start and end (``worker_lives``), Windows, and restarting a worker that died. Its
lanes' episodes are lost with it, so the run ends and is resumed from the last checkpoint.
"""

from __future__ import annotations

import os
import select
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

from pistar.envs import failures, targets
from pistar.envs.lanes import Plan
from pistar.envs.layout import Array
from pistar.envs.worker_lives import GRACE, Member, StartMethod, ending, importable, shut_down, start_worker, wait
from pistar.envs.worker_messages import DONE, STEP, Closed, Late, lowest, rebuild
from pistar.envs.worker_process import Post
from pistar.errors import EnvironmentFailure, PistarError

TICK = 1000  # milliseconds between two looks at workers that do not answer


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
        self._poll = select.poll()
        self._pending: dict[int, Member] = {}  # by the descriptor that its answer will come through
        self._values: list[Any] = [None] * workers
        self.owner = os.getpid()  # a fork of it must not end the workers
        self.finalizer = weakref.finalize(self, shut_down, self.members, self.owner)
        if start_method == "spawn":
            plan = replace(plan, target=importable(plan.target))
        self.memory = _anonymous_memory()
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
            if descriptor in self._pending:
                self._lost(member, error)
            # It ended after it had answered, as one does that could not make its environments; what it said counts,
            # and whoever asks it again is told of its end.
            self._poll.unregister(descriptor)
        self._pending.pop(descriptor, None)

    def _look(self, seen: dict[int, tuple[int, float]]) -> None:
        """Raise where a worker that owes an answer is dead, or has not begun a call for ``timeout`` seconds."""
        now = time.monotonic()
        for member in list(self._pending.values()):
            if member.process.poll() is not None and not self._poll.poll(0):  # nothing came since `answers` looked
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
        how = "closed its end of the pipes" if code is None else f"died: {ending(code)}"
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
        shut_down(self.members, self.owner, grace)


def _anonymous_memory() -> int:
    """A descriptor of memory, inheritable by the workers alone, that vanishes with the last process that has it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pistar")
    with tempfile.TemporaryFile() as file:  # unlinked from the start
        return os.dup(file.fileno())

"""What runs in a worker: some of the lanes, stepped at the learning process's word, over shared memory.

Every worker maps the same anonymous memory. Observations, rewards, flags and actions of all lanes lie in it once; a worker
touches the rows of its own lanes only, so a step copies nothing between processes. Scalars of ``info`` get a row each, in
the order in which a worker meets them; it tells new names in its reply.

A worker ignores Ctrl-C and SIGTERM, which a terminal or a job scheduler sends to every process of a run: the learning
process decides, and may need its workers in order to save. It ends with its parent however that dies: at once by the
kernel's parent-death signal (Linux), else within a second by a thread that watches for it.

What this leaves out: torch, so that a spawned worker starts in a fraction of a second and stays small.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from gymnasium import spaces

from pistar import spaces as records
from pistar.envs import failures, replay
from pistar.envs.batch import Allocate, Batch
from pistar.envs.lanes import Lanes, Plan
from pistar.envs.layout import Array, Layout
from pistar.envs.worker_messages import DONE, MESSAGE, STEP, Channel, Closed, describe
from pistar.errors import PistarError, UsageError

SCALARS = 512  # most names of `info` that one environment may report
ALIGNMENT = 64  # bytes; one cache line
PARENT_DEATH = 1  # Linux's PR_SET_PDEATHSIG
HANDLED = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Post:
    """A worker's place among the others."""

    index: int
    workers: int
    lanes: int  # of all workers together
    start: int  # the worker's lanes are start to stop - 1
    stop: int
    lane_offset: int  # number of the first lane of all, for seeds and messages
    parent: int  # process id
    dies_with_thread: bool  # whether the thread that starts the worker lives as long as the process


@dataclass
class Shared:
    """What all processes of one ``WorkerLanes`` see."""

    batch: Batch
    actions: list[Array]  # one [B, ...] per leaf
    info: Array  # [SCALARS, B] float32; NaN where nothing was reported
    reported: Array  # [workers, SCALARS] bool: which rows the last step filled

    @staticmethod
    def lay_out(zeros: Allocate, observations: Layout, actions: Layout, lanes: int, workers: int) -> Shared:
        """The same arrays in the same order in every process."""
        return Shared(
            batch=Batch.allocate(observations, lanes, zeros, workers),
            actions=[zeros((lanes, *field.shape), field.dtype) for field in actions.fields],
            info=zeros((SCALARS, lanes), np.dtype(np.float32)),
            reported=zeros((workers, SCALARS), np.dtype(np.bool_)),
        )

    @staticmethod
    def attach(memory: int, observations: Layout, actions: Layout, lanes: int, workers: int) -> Shared:
        """Map the memory behind a file descriptor, which is closed; it lives as long as the arrays do."""
        sizes: list[int] = []
        Shared.lay_out(lambda shape, dtype: _measure(sizes, shape, dtype), observations, actions, lanes, workers)
        if os.fstat(memory).st_size < sum(sizes):
            os.ftruncate(memory, sum(sizes))
        mapped, offset = mmap.mmap(memory, sum(sizes)), 0
        os.close(memory)

        def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
            nonlocal offset
            array: Array = np.ndarray(shape, dtype, mapped, offset)
            offset += _room(array.nbytes)
            return array

        return Shared.lay_out(zeros, observations, actions, lanes, workers)


def _room(size: int) -> int:
    return -(-max(size, 1) // ALIGNMENT) * ALIGNMENT


def _measure(sizes: list[int], shape: tuple[int, ...], dtype: Any) -> Array:
    sizes.append(_room(int(np.prod(shape)) * np.dtype(dtype).itemsize))
    return np.empty(0, dtype)


@dataclass
class Worker:
    """The lanes of one worker and what it has told of them."""

    plan: Plan  # `lanes` counts the worker's own
    post: Post
    channel: Channel
    memory: int  # file descriptor
    names: list[str] = field(default_factory=list)  # row of `Shared.info` -> name
    told: int = 0  # how many of them the parent knows
    flagged: set[str] = field(default_factory=set)  # names whose `Shared.reported` is set

    def run(self) -> None:
        """Serve until the parent says QUIT or is gone."""
        try:
            lanes = Lanes(self.plan, self.post.start + self.post.lane_offset, self._attach, self._row)
        except Exception as error:
            self._report(error)
            return
        try:
            self.channel.signal(DONE)
            self._serve(lanes)
        finally:
            lanes.close()

    def _serve(self, lanes: Lanes) -> None:
        mine = slice(self.post.start, self.post.stop)
        actions = [array[mine] for array in self.shared.actions]
        calls: dict[str, Callable[..., Any]] = {
            "reset": lanes.reset,
            "cut": lanes.cut,
            "save": lambda: replay.save(lanes),
            "restore": lambda state: replay.restore(lanes, state),
            "render": lanes.render,
        }
        while True:
            word = self.channel.signalled()
            try:
                if word == STEP:
                    lanes.step([array.copy() for array in actions])
                    self._flag(lanes)
                    if self.told == len(self.names):
                        self.channel.signal(DONE)
                    else:
                        self._reply({"value": None})
                elif word == MESSAGE:
                    call, *arguments = self.channel.receive()
                    self._reply({"value": calls[call](*arguments)})
                else:
                    return
            except Closed:
                return
            except Exception as error:
                self._report(error)

    def _attach(self, observations: Layout, actions: Layout) -> Batch:
        """Tell the spaces, wait until the parent has made the memory, and give this worker's part of it."""
        self._reply({"value": [records.encode(plain(layout.structure)) for layout in (observations, actions)]})
        if self.channel.signalled() != MESSAGE:
            raise Closed
        self.channel.receive()
        post = self.post
        self.shared = Shared.attach(self.memory, observations, actions, post.lanes, post.workers)
        return self.shared.batch.part(post.index, slice(post.start, post.stop))

    def _row(self, name: str) -> Array:
        if len(self.names) == SCALARS:
            raise UsageError(
                f"the environment reports more than {SCALARS} different scalars in info, {name!r} the last; workers "
                "carry no more. Step it in this process (workers = 0), or wrap it to report fewer"
            )
        self.names.append(name)
        row: Array = self.shared.info[len(self.names) - 1, self.post.start : self.post.stop]
        return row

    def _flag(self, lanes: Lanes) -> None:
        if lanes.info.keys() != self.flagged:
            self.flagged = set(lanes.info)
            self.shared.reported[self.post.index, : len(self.names)] = [name in self.flagged for name in self.names]

    def _reply(self, tree: dict[str, Any]) -> None:
        self.channel.send(tree | {"names": self.names[self.told :]})
        self.told = len(self.names)

    def _report(self, error: Exception) -> None:
        """Pass an error on; the parent raises it."""
        if isinstance(error, Closed):
            return
        if not isinstance(error, PistarError):
            error = failures.raised(f"worker {self.post.index}", "its loop", error)
        try:
            self._reply(describe(error))
        except Closed:
            return


def protect(post: Post) -> None:
    """Leave Ctrl-C and SIGTERM to the parent, and do not outlive it."""
    for number in HANDLED:
        # A handler that does nothing, rather than SIG_IGN, which programs that an environment starts would inherit.
        signal.signal(number, _ignore)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    if sys.platform == "linux" and post.dies_with_thread:
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
    threading.Thread(target=_watch, args=(post.parent,), daemon=True).start()


def _ignore(number: int, frame: Any) -> None:
    pass


def _watch(parent: int) -> None:
    """End the process within a second after its parent is gone, also where the kernel does not."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def plain(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """A space of a subclass as one of Gymnasium's own that holds the same values."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict([(key, plain(part)) for key, part in space.items()])
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([plain(part) for part in space.spaces])
    if isinstance(space, spaces.Box) and type(space) is not spaces.Box:
        return spaces.Box(space.low, space.high, space.shape, np.dtype(space.dtype).type)
    if isinstance(space, spaces.Discrete) and type(space) is not spaces.Discrete:
        return spaces.Discrete(int(space.n), start=int(space.start), dtype=np.dtype(space.dtype).type)
    if isinstance(space, spaces.MultiDiscrete) and type(space) is not spaces.MultiDiscrete:
        return spaces.MultiDiscrete(space.nvec, np.dtype(space.dtype).type, start=space.start)
    if isinstance(space, spaces.MultiBinary) and type(space) is not spaces.MultiBinary:
        return spaces.MultiBinary(space.n)
    return space


def briefing(plan: Plan, post: Post) -> dict[str, Any]:
    """What a spawned worker is told first."""
    return {"plan": {name: getattr(plan, name) for name in plan.__dataclass_fields__}, "post": asdict(post)}


def main(incoming: int, outgoing: int, memory: int) -> None:
    """A spawned worker's whole life."""
    channel = Channel(incoming, outgoing)
    try:
        if channel.signalled() != MESSAGE:
            return
        told = channel.receive()
        post = Post(**told["post"])
        protect(post)
        run(Plan(**told["plan"]), post, channel, memory)
    except Closed:
        return


def run(plan: Plan, post: Post, channel: Channel, memory: int) -> None:
    """The worker's lanes until its parent lets go of it."""
    try:
        Worker(replace(plan, lanes=post.stop - post.start), post, channel, memory).run()
    except Closed:
        return

"""A fuse that kills its own process with SIGKILL at the n-th of the events that a run consists of.

An event is a step of the training's or of an evaluation's environment, an optimizer step, a stage of resuming, and every
single operation on the files of the run: each is passed *before* it happens, and a write is passed once more when half
of its bytes are on their way. What is patched is Python's own open, write, fsync, rename, ..., so that it does not depend
on how pistar writes files; nothing of what is written or computed changes.
"""

from __future__ import annotations

import builtins
import functools
import io
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pistar import evaluation, training
from pistar.collector import Collector
from pistar.envs import worker_pool
from pistar.learner import Learner
from pistar.report import appending, recorder

ANY = "any event"


class Fuse:
    """Burns down at event number ``count`` of the kind ``label``; ``passed`` counts what it has seen of each kind."""

    def __init__(self, run: Path, label: str | None = None, count: int = 1) -> None:
        self.run, self.label, self.count = str(run), label, count
        self.process = os.getpid()  # its workers inherit the fuse, and are not what it kills
        self.passed: Counter[str] = Counter()
        self.renamed = ""  # what was renamed last: whose directory is flushed next

    def passes(self, label: str) -> None:
        self.passed[label] += 1
        self.passed[ANY] += 1
        burnt = self.label in (label, ANY) and self.passed[self.label] == self.count
        if burnt and os.getpid() == self.process:
            os.kill(os.getpid(), signal.SIGKILL)

    def name(self, path: Any) -> str | None:
        """What the label calls a file of the run, free of numbers; None for any other file."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        inside = os.path.relpath(os.fspath(path), self.run)
        if inside.startswith(".."):
            return None
        inside = re.sub(r"(^|/)\.(.+)\.\d+\.tmp$", r"\1\2", inside)  # written beside its place
        return re.sub(r"tensorboard/.*", "tensorboard/events", re.sub(r"-\d+\.", ".", inside))

    def touches(self, operation: str, path: Any) -> None:
        name = self.name(path)
        if name is not None:
            self.passes(f"{operation} {name}")


# ---- files -----------------------------------------------------------------------------------------------------------


def watch_files(fuse: Fuse) -> None:
    """Let every change of a file or directory of the run pass the fuse first."""

    def watched(function: Callable[..., Any], operation: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(path: Any, *rest: Any, **keywords: Any) -> Any:
            if operation != "unlink" or os.path.lexists(path):
                fuse.touches(operation, path)
            return function(path, *rest, **keywords)

        return call

    replace = os.replace

    def replaced(source: Any, target: Any) -> None:
        fuse.touches("rename", target)
        replace(source, target)
        fuse.renamed = fuse.name(target) or ""

    def flushed(descriptor: int) -> None:
        """Only pass: what a killed process has written is safe with the system, and flushing is what takes longest."""
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            fuse.passes(f"fsync-directory {fuse.renamed}")
        else:
            fuse.touches("fsync", descriptor)

    os.replace, os.fsync = replaced, flushed
    for operation in ("unlink", "mkdir", "truncate"):
        setattr(os, operation, watched(getattr(os, operation), operation))
    watch_writes(fuse)


def watch_writes(fuse: Fuse) -> None:
    """The same for what is written into files, in two parts."""
    opening = builtins.open

    def in_parts(file: Any, path: Any, write: Callable[[Any], Any], data: Any) -> int:
        view = memoryview(data)
        fuse.touches("write", path)
        write(view[: len(view) // 2])
        file.flush()
        fuse.touches("half-write", path)
        write(view[len(view) // 2 :])
        return len(view)

    class File:
        def __init__(self, file: Any, path: Any) -> None:
            self.file, self.path = file, path

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def __enter__(self) -> File:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: Any) -> int:
            return in_parts(self.file, self.path, self.file.write, data)

        def truncate(self, size: int) -> int:
            fuse.touches("truncate", self.path)
            return int(self.file.truncate(size))

    def opened(file: Any, mode: str = "r", *rest: Any, **keywords: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+") or fuse.name(file) is None:
            return opening(file, mode, *rest, **keywords)
        fuse.touches("open", file)
        return File(opening(file, mode, *rest, **keywords), file)

    class Appended(io.FileIO):
        def __init__(self, path: Any, mode: str) -> None:
            fuse.touches("open", path)
            super().__init__(path, mode)

        def write(self, data: Any) -> int:
            return in_parts(self, self.name, super().write, data)

    builtins.open = opened  # type: ignore[assignment]
    appending.FileIO = Appended  # type: ignore[misc]


# ---- computation -----------------------------------------------------------------------------------------------------


def watch_steps(fuse: Fuse) -> None:
    """Let steps of environments and optimizers, and the stages of resuming, pass the fuse."""

    def before(owner: Any, name: str, label: str) -> None:
        function = getattr(owner, name)

        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            fuse.passes(label)
            return function(*arguments, **keywords)

        setattr(owner, name, call)

    def after_init(cls: Any, label: str) -> None:
        """Watch the environment that a ``cls`` owns."""
        make = cls.__init__

        @functools.wraps(make)
        def init(self: Any, *arguments: Any, **keywords: Any) -> None:
            make(self, *arguments, **keywords)
            before(self.environment, "step", label)

        cls.__init__ = init

    after_init(training.Session, "collect")
    after_init(evaluation.Evaluator, "judge")
    before(Learner, "descend", "descend")
    before(worker_pool, "start_worker", "start worker")
    before(training.Session, "restore", "restore")
    before(Collector, "load_state", "restore environment")
    before(Learner, "set_learning_rate", "iterate")  # the first act of an iteration
    before(training.Recorder, "__init__", "cut records")
    before(training, "loop", "loop")


def without_picture(fuse: Fuse) -> None:
    """Leave out the picture: it is drawn from the records that are compared, and takes longer than all the rest."""

    def leave_out(*_: object, **__: object) -> None:
        fuse.passes("picture")

    recorder.learning_curve = leave_out


def install(fuse: Fuse) -> None:
    """Patch everything that the fuse watches, in this process and for good."""
    watch_files(fuse)
    watch_steps(fuse)
    without_picture(fuse)

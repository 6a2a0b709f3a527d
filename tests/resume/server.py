"""A process that has imported all it takes and forks a child for every run: some milliseconds instead of seconds.

``python -m resume.server SOCKET`` answers each connection's request, a line of JSON, with the child's process id and,
when it has ended, with its exit code: two lines. A further word, or closing the connection, kills the child. It leads a
session of its own, by which everything that it starts can be found after it was killed.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pistar.run
from pistar import training
from pistar.envs import worker_pool
from resume.fuse import Fuse, install
from resume.worlds import ALGORITHMS, experiment


def serve(listener: socket.socket) -> None:
    """Start what is asked for and tell how it ended, until the process that started this one is gone."""
    woken, wakes = socket.socketpair()
    for end in (woken, wakes):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno())
    parent, children = os.getppid(), dict[int, socket.socket]()
    while os.getppid() == parent:
        ready, _, _ = select.select([listener, woken, *children.values()], [], [], 0.5)
        if woken in ready:
            woken.recv(64)
        for process, connection in children.items():
            if connection in ready:  # a word to kill it, or the end of who would have said it
                connection.recv(4)
                os.kill(process, signal.SIGKILL)  # it was not waited for yet, so the number is still its own
        while children:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                break
            with children.pop(process) as connection, suppress(BrokenPipeError):
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
                with suppress(BlockingIOError):  # a word that came too late, unread, would take the answer along
                    connection.recv(4, socket.MSG_DONTWAIT)
        if listener in ready:
            connection, _ = listener.accept()
            request = connection.makefile().readline()
            process = os.fork()
            if process == 0:
                for inherited in (listener, woken, wakes, connection, *children.values()):
                    inherited.close()
                live(json.loads(request))
            children[process] = connection
            connection.sendall(f"{process}\n".encode())


def live(request: dict[str, Any]) -> NoReturn:
    """A child's whole life."""
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        run = Path(request["run"])
        for stream in (1, 2):
            os.dup2(os.open(f"{run}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
        note_memory(Path(f"{run}.memory"))
        fuse = Fuse(run, *(request["kill"] or ()))
        install(fuse)
        if request["action"] == "train":
            training.train(experiment(request["world"], request["algorithm"], **request["training"]), run, quiet=True)
        else:
            training.resume(run, quiet=True)
        Path(f"{run}.passed").write_text(json.dumps(fuse.passed))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def prepare() -> None:
    """Do once what every child would have to do anew: imports, and asking for the versions of packages."""
    for world, algorithm in itertools.product(("native", "mujoco", "lanes", "vector"), ALGORITHMS):
        session = training.Session(experiment(world, algorithm))
        session.collector.start(8)
        session.environment.close()
    importlib.import_module("torch.profiler")  # of the optimizers' first step
    versions = pistar.run.machine()
    pistar.run.machine = lambda: versions


def note_memory(path: Path) -> None:
    """Write down the inode of every shared memory that workers are given."""
    make: Callable[[], int] = worker_pool._anonymous_memory

    def noted() -> int:
        descriptor = make()
        with path.open("a") as file:
            file.write(f"{os.fstat(descriptor).st_ino}\n")
        return descriptor

    worker_pool._anonymous_memory = noted


if __name__ == "__main__":
    prepare()
    gc.freeze()  # so that no collection touches, and thereby copies, what every child shares with this process
    with socket.socket(socket.AF_UNIX) as entrance:
        entrance.bind(sys.argv[1])
        entrance.listen()
        print("ready", flush=True)
        serve(entrance)

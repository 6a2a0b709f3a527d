"""The process in which a task is played for the page: ``python -m pistar.serve.stage TABLE``.

The task's world may import torch or a simulator, crash, or hang; none of that can happen to the service. It reads commands and
writes what came of them, as msgpack messages behind their length. Actions come from the service, so that what is shown
is the served policy itself. TABLE is the JSON of a task that is registered in pistar; nothing else is ever imported.
"""

from __future__ import annotations

import io
import sys
from typing import Any, BinaryIO

import msgspec
import numpy as np
import torch

from pistar import configuration, spaces
from pistar.envs.environment import Environment
from pistar.errors import PistarError, UsageError
from pistar.tasks import TASKS
from pistar.tasks.task import Execution, Task
from pistar.tree import map_leaves

QUALITY = 88  # of JPEG: text on a frame stays clear


class Stage:
    """Episodes of one task, each in an environment of its own."""

    def __init__(self, table: dict[str, Any]) -> None:
        table = dict(table)
        kind = str(table.pop("kind", ""))
        if kind not in TASKS.names():
            raise UsageError(f"expected a task of pistar's own ({', '.join(TASKS.names())}), received {kind!r}")
        self.task: Task = configuration.build(TASKS.get(kind), table, f"task {kind}")
        self.environments: dict[str, Environment] = {}

    def opened(self) -> dict[str, Any]:
        """The task's spaces; raises UsageError where it cannot be drawn."""
        environment = self.task.make(1, Execution(), training=False, drawn=True)
        try:
            environment.reset(0)
            if environment.render(0) is None:
                raise UsageError(f"{environment.name} cannot be drawn: its environment renders no frames")
            pair = environment.spaces
            return {
                "observation_space": spaces.encode(pair.observation),
                "action_space": spaces.encode(pair.action),
                "name": str(getattr(self.task, "id", "") or TASKS.kind_of(self.task)),
            }
        finally:
            environment.close()

    def begin(self, play: str, seed: int, live: list[str]) -> dict[str, Any]:
        """A new episode; those that are no longer ``live`` end."""
        for old in [each for each in self.environments if each not in live]:
            self.environments.pop(old).close()
        environment = self.environments[play] = self.task.make(1, Execution(), training=False, drawn=True)
        return {"observation": plain(environment.reset(seed)), "frame": picture(environment)}

    def step(self, play: str, action: Any) -> dict[str, Any]:
        """One action; at an episode's end the next one has begun."""
        environment = self.environments[play]
        step = environment.step(batched(environment.spaces.action, action))
        while step.valid is not None and not bool(step.valid[0]):  # a backend that resets in a step of its own
            step = environment.step(batched(environment.spaces.action, action))
        ended = "terminated" if bool(step.terminated[0]) else "truncated" if bool(step.truncated[0]) else None
        return {
            "observation": plain(step.observation),
            "reward": float(step.reward[0]),
            "ended": ended,
            "frame": picture(environment),
        }

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What a command brings; an error is an answer too."""
        try:
            if asked["do"] == "open":
                return self.opened()
            if asked["do"] == "begin":
                return self.begin(asked["play"], asked["seed"], asked["live"])
            return self.step(asked["play"], asked["action"])
        except Exception as error:  # whatever a world raises is told to the service, which goes on
            return {"error": str(error) if isinstance(error, PistarError) else f"{type(error).__name__}: {error}"}


def plain(observation: Any) -> Any:
    """The one lane's observation as lists and numbers."""
    listed = map_leaves(
        lambda x: np.asarray(x.detach().cpu() if isinstance(x, torch.Tensor) else x)[0].tolist(), observation
    )
    return msgspec.to_builtins(listed)


def batched(space: Any, action: Any) -> Any:
    """Lists and numbers as an action of one lane."""
    if hasattr(space, "spaces"):
        if isinstance(space.spaces, dict):
            return {key: batched(child, action[key]) for key, child in space.spaces.items()}
        return tuple(batched(child, part) for child, part in zip(space.spaces, action, strict=True))
    return torch.as_tensor(np.asarray(action, space.dtype)[None])


def picture(environment: Environment) -> bytes:
    """The lane's frame as JPEG."""
    from PIL import Image

    frame = environment.render(0)
    if frame is None:
        raise UsageError(f"{environment.name} drew no frame")
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()


def write(stream: BinaryIO, message: Any) -> None:
    """A message behind its length."""
    data = msgspec.msgpack.encode(message)
    stream.write(len(data).to_bytes(4, "big") + data)
    stream.flush()


def main() -> None:
    """Answer commands until the service closes the pipe."""
    commands, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what a world prints is no answer
    torch.set_num_threads(1)
    try:
        stage = Stage(msgspec.json.decode(sys.argv[1]))
    except (PistarError, ImportError) as error:
        write(answers, {"error": str(error)})
        return
    while len(length := commands.read(4)) == 4:
        write(answers, stage.answer(msgspec.msgpack.decode(commands.read(int.from_bytes(length, "big")))))


if __name__ == "__main__":
    main()

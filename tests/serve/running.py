"""A service in a thread of this process, on a port of its own, with policies that nobody trained."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces

from pistar import artefact
from pistar.envs.environment import Spaces
from pistar.export import ExportedPolicy, to_bytes
from pistar.policies.mlp import MLP
from pistar.serve import server
from pistar.serve.service import Serving
from pistar.serve.settings import Service
from pistar.serve.source import Source
from pistar.tasks.cartpole import CartPole
from pistar.tasks.task import Execution

POLE = Spaces(spaces.Box(-np.inf, np.inf, (4,), np.float32), spaces.Discrete(2))
ARM = Spaces(spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Box(-2.0, 2.0, (2,), np.float32))
MIXED = Spaces(
    spaces.Dict(
        {
            "angle [rad]": spaces.Box(-1.0, 1.0, (2, 2), np.float32),
            "gear": spaces.Discrete(3, start=1),
            "lamps": spaces.MultiBinary(3),
            "level": spaces.Box(0, 255, (), np.uint8),
            "switch": spaces.MultiDiscrete([2, 3]),
        }
    ),
    spaces.Dict({"push": spaces.Box(-1.0, 1.0, (1,), np.float32), "shift": spaces.MultiDiscrete([2, 3])}),
)
KINDS = {
    "pole": (POLE, MLP(hidden=(8,), last_gain=1.0)),
    "arm": (ARM, MLP(hidden=(8,), last_gain=1.0)),
    "memory": (POLE, MLP(hidden=(8,), memory="gru", memory_size=6, last_gain=1.0)),
    "gsde": (ARM, MLP(hidden=(8,), distribution="gsde", redraw=3)),
    "mixed": (MIXED, MLP(hidden=(8,), last_gain=1.0)),
}
KINDS["cartpole"] = (CartPole().environment(1, Execution(), training=False).spaces, KINDS["pole"][1])
CARTPOLE = {"task": {"kind": "cartpole"}, "steps": 7, "algorithm": "ppo", "seed": 3}


def made(kind: str, seed: int = 0) -> Any:
    space, mlp = KINDS[kind]
    return mlp.build(space, torch.Generator().manual_seed(seed))


class Files:
    """Exported policies by (kind, seed), each written once."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __call__(self, kind: str, seed: int = 0) -> Path:
        path = self.place / f"{kind}-{seed}.onnx"
        if not path.exists():
            path.write_bytes(to_bytes(made(kind, seed), CARTPOLE))
        return path

    def read(self, kind: str, seed: int = 0) -> ExportedPolicy:
        return ExportedPolicy.load(self(kind, seed))


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Running:
    """A service, and how to speak to it."""

    def __init__(self, address: str, instance: server.Server, serving: Serving) -> None:
        self.address, self.server, self.serving = address, instance, serving
        self.port, self.plays = int(address.rpartition(":")[2]), instance.plays

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One request on a connection of its own; ``body`` may be bytes, or anything that becomes JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"content-type": "application/json"} if data is not None else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, data, {**fields, **(headers or {})})
        answer = connection.getresponse()
        result = Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        connection.close()
        return result

    def act(self, **fields: Any) -> Answer:
        return self.ask("POST", "/v1/act", fields)

    def metric(self, name: str) -> float:
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def raw(self, *pieces: bytes, seconds: float = 5.0) -> bytes:
        """Bytes as they are, and all that comes back until the service closes the connection or time is over."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.1 if len(pieces) > 1 else 0)
            received = b""
            try:
                while more := connection.recv(65536):
                    received += more
            except TimeoutError:
                received += b"<still open>"
            return received


@contextmanager
def running(path: Path, token: str | None = None, **settings: Any) -> Iterator[Running]:
    """Serve ``path`` in a thread."""
    chosen = Service(**{"port": 0, "poll": 0.05, "log_level": "error", **settings})
    started, found, failure = threading.Event(), list[Any](), list[BaseException]()

    def announce(source: Source, instance: server.Server, address: str) -> None:
        found.extend((address, instance))
        started.set()

    source = Source(path, chosen.trust, chosen.max_observations)

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=server.loop_factory()) as runner:
                runner.run(server.run(source, chosen, token, announce))
        except BaseException as error:
            failure.append(error)
        started.set()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait(60)
    if not found:
        thread.join()
        raise failure[0]
    address, instance = found
    try:
        yield Running(address, instance, instance.serving)
    finally:
        instance.should_exit = True
        thread.join(30)
    assert not failure
    assert not thread.is_alive()


def save_policy(path: Path, kind: str, seed: int = 0) -> None:
    """A policy.safetensors, as a run writes it."""
    artefact.save(made(kind, seed), path, CARTPOLE)

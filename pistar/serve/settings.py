"""What a service is told when it starts: where it listens, what it allows, and what it keeps."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pistar import bounds
from pistar.errors import UsageError
from pistar.run import find_policy

TOKEN = "PISTAR_SERVE_TOKEN"  # environment variable


@dataclass(frozen=True)
class Service:
    """The settings of ``pistar serve``; each limit is there because something could otherwise grow without end."""

    host: str = "127.0.0.1"  # address to listen on; any but loopback needs a token
    port: int = 8000  # 0: a free one, which is printed
    token_file: str | None = None  # file that holds the token; none: the environment variable PISTAR_SERVE_TOKEN
    allowed_host: tuple[str, ...] = ()  # further names that requests may call this service by, as behind a proxy
    reload: bool = True  # serve a newer policy when its file changes
    poll: float = 1.0  # seconds between looks at the file
    max_body: int = 1_048_576  # bytes of a request's body
    max_observations: int = 1000  # observations in one request
    timeout: float = 10.0  # seconds in which a request must have arrived, and in which it must be answered
    connections: int = 1000  # open at the same time; more are answered with 503
    sessions: int = 1000  # memories that are kept at the same time: lanes of sessions
    session_idle: float = 600.0  # seconds without a request after which a session ends
    play: bool = False  # let the page run the policy's task and show it, where the task is one of pistar's own
    task: str | None = None  # play this task; none: the one that the policy names
    trust: str | None = None  # module:Class of a policy kind of your own, where a run is served
    log_level: str = "info"  # debug, info, warning or error

    def __post_init__(self) -> None:
        bounds.between(0, 65_535, self, "port")
        bounds.at_least(1, self, "max_body", "max_observations", "connections", "sessions")
        bounds.above(0, self, "poll", "timeout", "session_idle")


def located(path: Path) -> tuple[Path, bool]:
    """The file of a policy, and whether it must be exported. Raises UsageError where there is none."""
    if path.suffix == ".onnx" and not path.is_dir():
        if not path.is_file():
            raise UsageError(f"no such file: {path} (expected a run directory, a policy.safetensors or a policy.onnx)")
        return path, False
    found = find_policy(path)
    return found / "policy.safetensors" if found.is_dir() else found, True


def environment() -> dict[str, str]:
    """What other processes that the service starts are given: all but the token."""
    return {name: value for name, value in os.environ.items() if name != TOKEN}

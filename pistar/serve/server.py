"""Listening, and ending well.

On SIGTERM or Ctrl-C the service stops listening, tells every client with its next answer to close the connection, closes those
that stay idle, and ends when the last answer is out. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn

from pistar.errors import Interrupted, UsageError
from pistar.serve import source as sources
from pistar.serve.application import application
from pistar.serve.connection import Connection
from pistar.serve.guard import LOOPBACK_NAMES, Guard
from pistar.serve.plays import Plays
from pistar.serve.service import Serving
from pistar.serve.settings import TOKEN, Service
from pistar.serve.source import Source

SHORTEST_TOKEN = 16  # characters
FAREWELL = 0.5  # seconds in which answers ask clients to close, before idle connections are closed
LONGEST_FAREWELL = 30  # seconds after which what is still not answered is given up
HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
]
log = logging.getLogger("pistar.serve")


def serve(path: Path, settings: Service) -> int:
    """Serve until a signal; 0 once all was answered. Raises UsageError, ArtefactError before anything is listened to."""
    token = find_token(settings)
    require_safe(settings.host, token)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    log.setLevel(settings.log_level.upper())
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    source = Source(path, settings.trust, settings.max_observations)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run(source, settings, token, announce))


def announce(source: Source, server: Server, address: str) -> None:
    """Say where the service is."""
    print(f"serving {source.given} on {address} (Ctrl-C ends it)", flush=True)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop of uvloop, where that is installed (it is not for Windows)."""
    with contextlib.suppress(ImportError):
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
        return factory
    return None


async def run(
    source: Source, settings: Service, token: str | None, announce: Callable[[Source, Server, str], None]
) -> int:
    """Load, listen, serve, end; ``announce`` is told once requests can be sent."""
    seen, plays, watching = source.stamp(), None, None
    bound = bind(settings.host, settings.port)
    try:
        async with ends_on_sigterm():
            serving = Serving(await source.load(), settings)
            if settings.play:
                plays = await Plays.open(serving, settings.task)
        server = Server(application(serving, plays, token, names_of(settings, token)), serving)
        server.plays = plays
        if settings.reload:
            watching = asyncio.create_task(sources.watch(source, serving, seen))
        server.started_at = lambda: announce(source, server, url(bound))
        await server.serve([bound])
        serving.close()
    finally:
        bound.close()
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        if plays is not None:
            await plays.close()
    return 0


@contextlib.asynccontextmanager
async def ends_on_sigterm() -> AsyncIterator[None]:
    """While a policy is loaded, which starts other processes, SIGTERM cleans up after them too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError):  # on Windows
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    except asyncio.CancelledError:
        raise Interrupted("ended by a signal before the policy was loaded", signal.SIGTERM) from None
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGTERM)


class Server(uvicorn.Server):
    """uvicorn's server, which sweeps its connections and says farewell."""

    plays: Plays | None = None

    def __init__(self, guard: Guard, serving: Serving) -> None:
        self.guard, self.serving, settings = guard, serving, serving.settings
        self.started_at: Callable[[], None] = lambda: None
        super().__init__(
            uvicorn.Config(
                guard,
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                headers=HEADERS,
                timeout_keep_alive=max(5, int(settings.timeout)),
                timeout_graceful_shutdown=LONGEST_FAREWELL,
            )
        )
        guard.most = settings.connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.started_at()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: end connections whose request does not arrive."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.sweep(self.serving.settings.timeout, now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let answers say that it ends, then end as uvicorn does."""
        self.guard.draining = True
        for server in self.servers:
            server.close()
        log.info("ending: no new connections, answering what is under way")
        for _ in range(round(FAREWELL / 0.05)):
            if self.force_exit or not self.server_state.connections:
                break
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals ask for the end; unlike uvicorn's, they are not raised again after it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends the service, a second one at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


# ---- addresses and the token -----------------------------------------------------------------------------------------


def find_token(settings: Service) -> str | None:
    """The token of ``--token-file``, else of the environment; it is never printed. Raises UsageError for a weak one."""
    if settings.token_file is not None:
        place = Path(settings.token_file)
        try:
            token, where = place.read_text().strip(), f"--token-file {place}"
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"--token-file: cannot read {place}: {getattr(error, 'strerror', None) or error}"
            ) from error
    elif TOKEN in os.environ:
        token, where = os.environ[TOKEN].strip(), f"the environment variable {TOKEN}"
    else:
        return None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"{where} holds no token that could protect anything: expected at least {SHORTEST_TOKEN} printable characters "
            f"without spaces, received {len(token)}; {ADVICE}"
        )
    return token


ADVICE = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def require_safe(host: str, token: str | None) -> None:
    """Raise UsageError for an address that others can reach while there is no token."""
    if token is None and not is_loopback(host):
        raise UsageError(
            f"--host {host} can be reached from elsewhere, and there is no token: set {TOKEN} or give --token-file FILE "
            f"({ADVICE}), or listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether all that a host name stands for is this machine alone."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"--host {host}: expected an address or a name of this machine ({error})") from error
    return all(ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_loopback for each in found)


def names_of(settings: Service, token: str | None) -> tuple[str, ...] | None:
    """The Host headers that are answered; None: any, because the token protects."""
    own = f"[{settings.host}]" if ":" in settings.host else settings.host
    return None if token is not None else tuple(dict.fromkeys((*LOOPBACK_NAMES, own, *settings.allowed_host)))


def bind(host: str, port: int) -> socket.socket:
    """A socket that has the address but does not listen yet. Raises UsageError where it is taken or not this machine's."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose another with --host or --port "
            "(--port 0 takes a free one)"
        ) from error
    return bound


def url(bound: socket.socket) -> str:
    """What to open."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"

"""Who may ask: the names this service answers to, pages of other origins, the token; and what becomes of a refusal.

On loopback any page that a person visits can send requests here, and a name that its owner points at 127.0.0.1 makes the
browser think that they are of the same origin (DNS rebinding). So requests must call the service by a loopback name, and a
page must be its own. There are no CORS headers. Elsewhere the token decides.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

from pistar.serve.metrics import Metrics
from pistar.serve.refusals import Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Direct = Callable[[Scope, Receive], Awaitable[bytes | None]]  # the body of a 200; None: the client left

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
OPEN = ("/", "/healthz")  # without a token: the page holds nothing that is secret, and health is asked by machines
GONE = 499  # counted where the client left before its answer
log = logging.getLogger("pistar.serve")


class Guard:
    """Admits or refuses, counts, and answers what was raised; ASGI around ``application``."""

    def __init__(
        self,
        application: Application,
        metrics: Metrics,
        routes: tuple[str, ...],
        token: str | None,
        hosts: tuple[str, ...] | None,
        direct: Mapping[tuple[str, str], Direct],
    ) -> None:
        self.direct = direct  # (method, path) -> what answers without a router, whose cost would be felt
        self.application, self.metrics, self.routes = application, metrics, frozenset(routes)
        self.digest = None if token is None else hashlib.sha256(token.encode()).digest()
        self.hosts = hosts  # None: any, because the token protects
        self.admitted: set[bytes] = set()  # Host headers that were looked at, as they came; a few
        self.most = 1000  # connections at the same time
        self.draining = False  # set before the end: every answer then asks its client to connect elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        began, status = time.perf_counter(), 0
        path = scope["path"]

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.draining:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        try:
            scope["app"] = self  # Starlette's routes then raise instead of answering in plain text
            scope["fields"] = headers = dict(scope["headers"])
            self.admit(path, headers)
            direct = self.direct.get((scope["method"], path))
            if direct is None:
                await self.application(scope, receive, watched)
            elif (body := await direct(scope, receive)) is not None:
                await respond(watched, 200, body)
        except Refusal as refusal:
            await answer(refusal, watched, status)
        except HTTPException as error:
            await answer(from_starlette(error, scope), watched, status)
        except Exception:
            log.exception("a request to %r failed", path[:200])
            fault = Refusal(500, "a fault in the service", next_step="its log has the traceback; please report it")
            await answer(fault, watched, status)
        finally:
            self.metrics.count(self.route_of(path), status or GONE, time.perf_counter() - began)

    def route_of(self, path: str) -> str:
        """The route that a path belongs to, for the metrics: whatever clients ask for, they are few."""
        if path in self.routes:
            return path
        parent = path.rpartition("/")[0]
        return next((route for route in self.routes if route.partition("/{")[0] == parent != route), "other")

    def admit(self, path: str, headers: dict[bytes, bytes]) -> None:
        """Raise Refusal for a foreign host (421), a foreign page (403) or a missing token (401)."""
        host = headers.get(b"host", b"")
        if self.hosts is not None and host not in self.admitted:
            self.require_own(host, self.hosts)
        origin = headers.get(b"origin")
        if origin is not None and origin.rpartition(b"//")[2].lower() != host.lower():
            raise foreign(origin)
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
            raise foreign(headers[b"sec-fetch-site"])
        if self.digest is not None and path not in OPEN:
            self.require_token(headers, self.digest)

    def require_own(self, host: bytes, hosts: tuple[str, ...]) -> None:
        """Raise Refusal (421) where a request calls the service by a name that is not its own."""
        if hostname(host) not in hosts:
            raise Refusal(
                421,
                "this service is not known by that name",
                " or ".join(hosts),
                host.decode("latin-1")[:100],
                "call it by its address, or start it with --allowed-host NAME where a proxy gives it another",
            )
        if len(self.admitted) < 64:
            self.admitted.add(host)

    def require_token(self, headers: dict[bytes, bytes], digest: bytes) -> None:
        """Raise Refusal (401) where a request does not carry the token; compared in constant time."""
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        right = hmac.compare_digest(hashlib.sha256(given.strip()).digest(), digest)
        if not right or kind.lower() != b"bearer":
            raise Refusal(
                401,
                "a token is needed",
                "the header Authorization: Bearer TOKEN",
                "another token" if kind.lower() == b"bearer" else "none",
                "ask whoever started the service for its token",
                [(b"www-authenticate", b"Bearer")],
            )


def hostname(host: bytes) -> str:
    """The name in a Host header, without its port: "[::1]:80" -> "[::1]"."""
    text = host.decode("latin-1").lower()
    name, _, port = text.rpartition(":")
    return (name if port.isdigit() and name else text).rstrip(".")


def foreign(origin: bytes) -> Refusal:
    """A page of another origin asks."""
    return Refusal(
        403,
        "pages of other origins may not use this service",
        "a request of this service's own page, or of a program",
        origin.decode("latin-1")[:100],
        "send the request from a program, or put both behind one origin",
    )


def from_starlette(error: HTTPException, scope: Scope) -> Refusal:
    """404 and 405 of the router."""
    headers = [(k.lower().encode(), v.encode()) for k, v in (error.headers or {}).items()]
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return Refusal(405, "no such method here", allowed, scope["method"], "GET /openapi.json lists all", headers)
    return Refusal(error.status_code, "there is nothing here", "a path of GET /openapi.json", scope["path"][:100])


async def answer(refusal: Refusal, send: Send, status: int) -> None:
    """Send a refusal, unless an answer has begun."""
    if status == 0:
        await respond(send, refusal.status, refusal.body(), headers=refusal.headers)


async def crowded(scope: Scope, receive: Receive, send: Send) -> None:
    """An application in the place of the guard, for connections beyond the limit."""
    refusal = Refusal(
        503,
        "too many connections",
        "fewer at the same time",
        "one more than the service allows",
        "send several requests by one connection, or start the service with more --connections",
        [(b"retry-after", b"1"), (b"connection", b"close")],
    )
    await answer(refusal, send, 0)


async def respond(send: Send, status: int, body: bytes, kind: bytes = b"application/json", headers: Any = ()) -> None:
    """One whole answer."""
    fields = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})

"""A connection that ends when its request does not arrive: uvicorn's, with limits on time and on the head's size.

uvicorn closes connections that are idle between requests, but waits for ever for a head or a body that comes slowly or never.
Here every connection notes since when it waits, and `sweep`, once a second, ends those that wait for too long; no timer is
set for a request. Refusals at this level are JSON too.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pistar.serve.guard import crowded
from pistar.serve.refusals import Refusal

LARGEST_HEAD = 65_536  # bytes of request line and headers


class Joined:
    """A transport that sends the head of an answer together with its body: one system call and one packet, not two."""

    def __init__(self, transport: Any) -> None:
        self.transport, self.kept = transport, b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Keep a head, send what follows it."""
        if not self.kept and data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
            self.kept = data
        else:
            self.transport.write(self.kept + data)
            self.kept = b""

    def flush(self) -> None:
        """Send a head that no body follows."""
        if self.kept:
            self.write(b"")

    def close(self) -> None:
        """Send what is kept, then close."""
        self.flush()
        self.transport.close()


class Connection(HttpToolsProtocol):
    """One client's connection."""

    since = 0.0  # loop time since which a request is awaited; 0: none is
    in_head = False  # whether a head has begun and is not complete
    head = 0  # its bytes

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self.joined = Joined(transport)
        self.since = self.loop.time()
        guard: Any = self.config.app
        if len(self.connections) > guard.most:
            self.app = crowded

    def data_received(self, data: bytes) -> None:
        """Parse; refuse a head that never ends. What came with its beginning is not counted: it may be another's body."""
        already = self.in_head
        super().data_received(data)
        self.head = self.head + len(data) if already and self.in_head else 0
        if self.head > LARGEST_HEAD and not self.transport.is_closing():
            self.refuse(Refusal(431, "the head is too large", f"at most {LARGEST_HEAD} bytes", "more", "send less"))

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.in_head = True
        if self.since == 0.0:
            self.since = self.loop.time()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self.in_head = False
        super().on_headers_complete()
        if self.cycle is not None:
            self.cycle.transport = self.joined  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        """Its body too: from here on it is the service that takes time."""
        self.since, self.in_head = 0.0, False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out."""
        self.joined.flush()
        super().on_response_complete()

    def sweep(self, limit: float, now: float) -> None:
        """End the connection where a request has been awaited for more than ``limit`` seconds."""
        if self.since == 0.0 or now - self.since <= limit or self.transport.is_closing():
            return
        answered = self.cycle is None or self.cycle.response_started
        if answered and not self.in_head:
            self.transport.close()  # nothing was asked, or the answer is out already
            return
        self.refuse(
            Refusal(408, "the request came too slowly", f"all of it within {limit:g} s", "a part", "send it at once")
        )

    def send_400_response(self, msg: str) -> None:
        """A request that is no HTTP."""
        self.refuse(Refusal(400, "the request is no HTTP", "HTTP/1.1", msg, "use an HTTP client"))

    def refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close."""
        body = refusal.body()
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[refusal.status] + head + body)
        self.transport.close()

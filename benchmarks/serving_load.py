"""Load for a service on this machine, from a process of its own: `serving.py` starts it, and reads the JSON that it prints.

Requests are sent when they are due, whether or not earlier ones were answered, and timed from then on: a service that stalls is
charged for all that it made wait. ``--rate 0`` sends the next request of a connection as soon as the one before is answered.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import time
from collections import Counter, deque

BACK = 0.02  # seconds before a refused connection is tried again


class Client:
    """One connection; connects again where the service closes it between requests."""

    def __init__(self, address: tuple[str, int], poll: select.epoll, clients: dict[int, Client]) -> None:
        self.address, self.poll, self.clients = address, poll, clients
        self.due, self.busy, self.data = 0.0, False, b""
        self.connect()

    def connect(self) -> None:
        self.socket = socket.create_connection(self.address, timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.poll.register(self.socket, select.EPOLLIN)
        self.clients[self.socket.fileno()] = self

    def close(self) -> None:
        self.clients.pop(self.socket.fileno(), None)
        self.poll.unregister(self.socket)
        self.socket.close()

    def send(self, request: bytes, due: float) -> None:
        self.due, self.busy, self.data = due, True, b""
        self.socket.send(request)

    def read(self) -> tuple[int, bool] | None:
        """(status, whether the service closes) of a whole answer, or None; raises OSError where the connection broke."""
        received = self.socket.recv(1 << 20)
        if not received:
            raise ConnectionResetError
        self.data += received
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return None
        lower = head.lower()
        length = int(lower.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        return (int(head[9:12]), b"connection: close" in lower) if len(body) >= length else None


def load(
    address: tuple[str, int], request: bytes, seconds: float, rate: float, connections: int, until_closed: bool
) -> dict:
    """Run it. ``until_closed``: stop once the service has closed every connection, as it does when it ends."""
    poll, clients = select.epoll(), {}
    everyone = [Client(address, poll, clients) for _ in range(connections)]
    free = deque(everyone)
    statuses: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    times: list[float] = []
    sent, begin = 0, time.perf_counter()
    stop = begin + seconds

    def again(client: Client) -> bool:
        """Connect anew, unless the service has gone."""
        client.close()
        client.busy = False
        try:
            client.connect()
        except OSError:
            return False
        return True

    while True:
        now = time.perf_counter()
        due = begin + sent / rate if rate else now
        while free and due <= now < stop:
            client = free.popleft()
            try:
                client.send(request, due)
                sent += 1
            except OSError as error:  # closed between requests, as HTTP lets a service do
                failures[type(error).__name__] += not until_closed
                if again(client):
                    free.append(client)
            due = begin + sent / rate if rate else now
        waiting = [client for client in everyone if client.busy] if now >= stop else None
        if now >= stop and (not waiting or now > stop + 5):
            failures["unanswered"] += len(waiting or [])
            break
        if until_closed and not clients:
            break
        for number, _ in poll.poll(0 if rate else 0.01):
            client = clients.get(number)
            if client is None:
                continue
            try:
                answer = client.read()
            except OSError as error:
                if client.busy:
                    failures[type(error).__name__] += 1
                if again(client):
                    free.append(client)
                continue
            if answer is not None:
                status, closes = answer
                times.append(time.perf_counter() - client.due)
                statuses[str(status)] += 1
                client.busy = False
                if not closes or again(client):
                    free.append(client)
    times.sort()
    spent = min(time.perf_counter(), stop) - begin
    quantile = (
        {name: times[min(len(times) - 1, int(len(times) * q))] * 1e3 for name, q in QUANTILES.items()} if times else {}
    )
    return {
        "requests": len(times),
        "seconds": spent,
        "statuses": dict(statuses),
        "failures": {name: number for name, number in failures.items() if number},
        "milliseconds": quantile,
    }


QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--body", required=True)
    parser.add_argument("--path", default="/v1/act")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--until-closed", action="store_true")
    options = parser.parse_args()
    head = f"POST {options.path} HTTP/1.1\r\nHost: 127.0.0.1:{options.port}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(options.body)}\r\n\r\n{options.body}".encode()
    address = ("127.0.0.1", options.port)
    print(json.dumps(load(address, request, options.seconds, options.rate, options.connections, options.until_closed)))


if __name__ == "__main__":
    main()

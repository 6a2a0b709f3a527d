"""The command: what it says, and how it ends under load."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from pistar.serve.settings import TOKEN as VARIABLE

TOKEN = "a-token-of-some-length"


@contextmanager
def command(*words: str, token: str | None = None):
    """``pistar serve``, and its address once it has printed one."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.pop(VARIABLE, None)
    if token is not None:
        environment[VARIABLE] = token
    process = subprocess.Popen(
        [sys.executable, "-m", "pistar", "serve", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+:(\d+)", line)
        yield process, int(found.group(1)) if found else None
    finally:
        process.kill()
        process.communicate()


class Client(threading.Thread):
    """Requests one after another on a connection, which it closes when it is asked to."""

    BODY = json.dumps({"observation": [0.0] * 4}).encode()

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port, self.answered, self.fault, self.told = port, 0, "", False

    def run(self) -> None:
        head = (
            b"POST /v1/act HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            while not self.told:
                try:
                    connection.sendall(head % len(self.BODY) + self.BODY)
                    answer = b""
                    while b"\r\n\r\n{" not in answer or not answer.endswith(b"}"):
                        received = connection.recv(65536)
                        if not received:
                            raise ConnectionResetError("closed before the answer")
                        answer += received
                except OSError as error:
                    self.fault = str(error)
                    return
                if not answer.startswith(b"HTTP/1.1 200"):
                    self.fault = answer[:100].decode()
                    return
                self.answered += 1
                self.told = b"connection: close" in answer.lower()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_request_is_answered_when_it_ends_under_load(files, number):
    with command(str(files("pole")), "--port", "0") as (process, port):
        clients = [Client(port) for _ in range(6)]
        for client in clients:
            client.start()
        time.sleep(0.7)
        process.send_signal(number)
        assert process.wait(20) == 0
        for client in clients:
            client.join(10)
        assert [client.fault for client in clients] == [""] * 6
        assert all(client.told for client in clients)  # each was asked to go before its connection was closed
        assert min(client.answered for client in clients) > 5
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1)


def test_a_request_under_way_is_answered(files):
    head = b"POST /v1/act HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 32\r\n\r\n"
    with command(str(files("pole")), "--port", "0") as (process, port):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(head + b'{"observation": ')
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            connection.sendall(b"[0, 0, 0, 0.25]}"[:16])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        assert process.wait(10) == 0


def test_a_second_signal_does_not_wait(files):
    head = b"POST /v1/act HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 32\r\n\r\n"
    with (
        command(str(files("pole")), "--port", "0") as (process, port),
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
    ):
        connection.sendall(head + b"{")
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(1.2)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_the_token_is_nowhere_to_be_read(files):
    with command(str(files("pole")), "--port", "0", "--host", "0.0.0.0", token=TOKEN) as (process, port):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET /v1/policy HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 401")
            connection.sendall(f"GET /v1/policy HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            assert TOKEN.encode() not in answer
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=20)
        assert TOKEN not in out + errors


def test_another_address_without_a_token_is_refused_at_once(files):
    with command(str(files("pole")), "--host", "0.0.0.0") as (process, port):
        assert port is None
        assert process.wait(20) == 2
        assert "PISTAR_SERVE_TOKEN" in process.stderr.read()


def test_a_damaged_file_is_an_error_of_usage(tmp_path):
    (tmp_path / "policy.onnx").write_bytes(b"no policy")
    with command(str(tmp_path / "policy.onnx")) as (process, port):
        assert port is None
        assert process.wait(20) == 2
        assert "Traceback" not in process.stderr.read()


def test_the_service_imports_no_torch(files):
    code = (
        "import sys, asyncio\nfrom pathlib import Path\nfrom pistar.serve import server\n"
        "from pistar.serve.settings import Service\n"
        "def announce(source, instance, address):\n    instance.should_exit = True\n"
        f"source = server.Source(Path({str(files('pole'))!r}), None, 10)\n"
        "asyncio.run(server.run(source, Service(port=0), None, announce))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

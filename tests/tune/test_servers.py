"""Studies that several machines share: through Optuna's proxy, and in PostgreSQL where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pistar.errors import UsageError
from pistar.tune.storage import open_storage, without_password
from pistar.tune.study import Study
from tune.studies import finish, plan

PROXY = """
import sys
from optuna.storages import JournalStorage, run_grpc_proxy_server
from optuna.storages.journal import JournalFileBackend
run_grpc_proxy_server(JournalStorage(JournalFileBackend(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]))
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("grpc")
    port, journal = free_port(), tmp_path_factory.mktemp("proxy") / "journal.log"
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", PROXY, journal, str(port)]) as server:
        yield f"grpc://127.0.0.1:{port}"
        server.kill()


def postgres_programs() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((place for place in places if (place / "initdb").exists()), None)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    programs = postgres_programs()
    pytest.importorskip("psycopg")
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    place, port = tmp_path_factory.mktemp("postgres"), free_port()
    root = os.geteuid() == 0  # PostgreSQL refuses to run as root
    place.chmod(0o777)
    for parent in place.parents[:2] if root else []:
        parent.chmod(0o755)

    def call(*words: object) -> None:
        command = [str(word) for word in words]
        if root:
            command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]
        subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=place)

    call(programs / "initdb", "-D", place / "data", "-U", "me", "--auth=trust", "--no-sync")
    options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c fsync=off"
    call(programs / "pg_ctl", "-D", place / "data", "-o", options, "-l", place / "log", "-w", "start")
    try:
        yield f"postgresql://me:secret@127.0.0.1:{port}/postgres"
    finally:
        call(programs / "pg_ctl", "-D", place / "data", "-m", "immediate", "stop")


@pytest.fixture(params=["proxy", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def test_two_machines_share_a_study(url: str, tmp_path: Path):
    began = time.monotonic()
    one, two = (Study.open(open_storage(url, tmp_path), "shared", plan(), name, shared=True) for name in ("one", "two"))
    tickets = [one.ask(), two.ask(), one.ask(), two.ask()]
    assert len({ticket.number for ticket in tickets}) == 4
    assert len({str(ticket.point) for ticket in tickets}) == 4
    for study, ticket in zip((one, two, one), tickets, strict=False):
        finish(study, ticket, float(ticket.number))
    assert one.finished() == two.finished()
    assert one.recover() == []  # what is running is the other's
    assert Study.open(open_storage(url, tmp_path), "shared", plan(), "two", shared=True).recover() == [
        tickets[3].number
    ]
    assert one.ask().origin == tickets[3].number
    with pytest.raises(UsageError, match="searches something else"):
        Study.open(open_storage(url, tmp_path), "shared", plan(seeds=4), "three", shared=True)
    assert time.monotonic() - began < 60


def test_a_proxy_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from optuna.storages import GrpcStorageProxy

    def silent(self: object, timeout: float) -> None:
        raise ConnectionError

    monkeypatch.setattr(GrpcStorageProxy, "wait_server_ready", silent)
    with pytest.raises(UsageError, match="no Optuna proxy answers"):
        open_storage(f"grpc://127.0.0.1:{free_port()}", tmp_path)


def test_an_address_is_written_down_without_its_password():
    assert without_password("postgresql://me:secret@host/base") == "postgresql://me@host/base"
    assert without_password("grpc://host:13000") == "grpc://host:13000"
    assert "secret" not in without_password("nonsense:secret")

"""Where a study is kept: a journal on disk, or a database or gRPC proxy that several machines share.

The journal is Optuna's: one JSON object a line. It is read line by line before Optuna sees it, and refused where one is
damaged; half a line at the end, of a writer that was killed, is cut off. A killed writer also leaves Optuna's lock behind,
which would stop the next one for half a minute; whoever holds the search's directory (`Claim`) may remove it.

No pickle is loaded. Optuna has two places that would: the snapshots of a journal in Redis, which is therefore no choice here,
and the state of its CMA-ES sampler, which `study` does not use. Journal files, databases and the proxy hold JSON.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pistar.errors import ArtefactError, MissingExtra, StorageError, UnknownName, UsageError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

SCHEMES = ("postgresql", "mysql", "sqlite", "grpc")
OPERATIONS = range(11)  # the operations of a journal, by number
PATIENCE = 2.0  # seconds that a lock may stand without a holder of the directory


class Claim:
    """A directory that one driver at a time works in; the kernel gives it up for one that is killed."""

    def __init__(self, path: Path, what: str, patience: float = 0.0) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+")  # noqa: SIM115 - held open as long as the claim lasts
        except OSError as error:
            raise StorageError(path, error) from error
        limit = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() >= limit:
                    self._file.close()
                    raise UsageError(f"{what} is in use by another process; wait for it, or stop it first") from error
                time.sleep(0.05)

    def release(self) -> None:
        """Let others have it; safe to call twice."""
        self._file.close()


def require_optuna() -> Any:
    """The module, or MissingExtra."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import optuna
    except ImportError as error:
        raise MissingExtra("optuna", "tune", "pistar tune") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def open_storage(url: str | None, journal: Path) -> BaseStorage:
    """The storage of ``url``; without one the journal, whose directory the caller has claimed."""
    if url is None:
        return open_journal(journal)
    require_known(url)
    require_optuna()
    return open_proxy(url) if url.startswith("grpc:") else open_database(url)


def require_known(url: str) -> None:
    """Refuse an address of a kind that is not supported."""
    if url.partition(":")[0].partition("+")[0] not in SCHEMES or "://" not in url:
        hint = "postgresql://USER@HOST/DATABASE for example; leave --storage out for a journal on disk"
        raise UnknownName("storage", url, [f"{name}://" for name in SCHEMES], hint)


def open_proxy(url: str) -> BaseStorage:
    """A proxy of Optuna's (`optuna.storages.run_grpc_proxy_server`) at grpc://HOST:PORT."""
    import grpc
    from optuna.storages import GrpcStorageProxy

    host, _, port = url.removeprefix("grpc://").rstrip("/").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--storage: expected grpc://HOST:PORT, received {url!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls it experimental
        proxy = GrpcStorageProxy(host=host, port=int(port))
    try:
        proxy.wait_server_ready(timeout=10)
    except (ConnectionError, TimeoutError, grpc.RpcError, grpc.FutureTimeoutError) as error:
        raise UsageError(f"no Optuna proxy answers at {url} within 10 s; is it running, and reachable?") from error
    return proxy


def open_database(url: str) -> BaseStorage:
    """A database of SQLAlchemy's."""
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    if url.startswith("postgresql://") and importlib.util.find_spec("psycopg2") is None:
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    try:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except ImportError as error:
        missing = error.name or "its driver"
        raise UsageError(
            f'--storage: {missing} is not installed; for PostgreSQL: pip install "psycopg[binary]"'
        ) from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise UsageError(f"--storage: {without_password(url)} is no address of a database: {error}") from error
    except (SQLAlchemyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--storage: {without_password(url)} cannot be used: {reason}") from error


def without_password(url: str) -> str:
    """An address as it may be shown and written down."""
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError

    if url.startswith("grpc:"):
        return url
    try:
        known = make_url(url)
    except ArgumentError:
        return url.partition(":")[0] + "://..."
    bare = URL.create(known.drivername, known.username, None, known.host, known.port, known.database, known.query)
    return bare.render_as_string()


# ---- the journal -----------------------------------------------------------------------------------------------------


def open_journal(path: Path) -> BaseStorage:
    """Optuna's storage on a journal that is whole; created where it is missing."""
    require_optuna()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free(path)
        check_journal(path)
        storage = JournalStorage(JournalFileBackend(str(path)))
        for study in storage.get_all_studies():  # every value is made once, so that none fails in the midst of a search
            for trial in storage.get_all_trials(study._study_id, deepcopy=False):
                for name, each in trial.distributions.items():
                    each.to_internal_repr(trial.params[name])
    except (OSError, ArtefactError):
        raise
    except Exception as error:  # whatever Optuna's reader stumbles over, the journal is at fault
        raise ArtefactError(f"{path} is damaged: {error!r}. {WAY_OUT}") from error
    return storage


WAY_OUT = "Restore it from a copy, or begin another search with --out"


def free(path: Path) -> None:
    """Remove the lock that a killed writer has left; one that somebody holds (a dashboard) is gone in a moment."""
    lock = path.with_name(path.name + ".lock")
    limit = time.monotonic() + PATIENCE
    while lock.is_symlink() and time.monotonic() < limit:
        time.sleep(0.05)
    lock.unlink(missing_ok=True)


def check_journal(path: Path) -> None:
    """Cut half a line off the end; ArtefactError where another line is no entry of a journal."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        if not is_entry(line):
            raise ArtefactError(f"line {number} of {path} is no entry of a journal: {line[:80]!r}. {WAY_OUT}")
    if whole < len(content):
        with open(path, "r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())


def is_entry(line: bytes) -> bool:
    """Whether a line is a JSON object with a known operation and its author."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("op_code"), int)
        and not isinstance(entry["op_code"], bool)
        and entry["op_code"] in OPERATIONS
        and isinstance(entry.get("worker_id"), str)
    )

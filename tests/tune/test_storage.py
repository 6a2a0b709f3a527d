"""Where a study is kept: damage is refused, locks of the dead are removed, and no pickle is loaded."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from pistar.errors import ArtefactError, MissingExtra, PistarError, UnknownName, UsageError
from pistar.tune import storage
from pistar.tune.storage import Claim, open_journal, open_storage
from pistar.tune.study import Study
from tune.studies import finish, plan


def study_in(path: Path, trials: int = 3) -> Study:
    study = Study.open(open_journal(path), "pistar", plan(), "me", shared=False)
    for number in range(trials):
        finish(study, study.ask(), float(number))
    return study


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    study_in(tmp_path / "journal.log")
    return tmp_path / "journal.log"


def reopened(path: Path) -> Study:
    return Study.open(open_journal(path), "pistar", plan(), "me", shared=False)


def test_a_journal_is_read_as_it_was_written(journal: Path):
    assert [done.value for done in reopened(journal).finished()] == [0.0, 1.0, 2.0]


def test_half_a_line_at_the_end_is_cut_off_and_nothing_else(journal: Path):
    whole = journal.read_bytes()
    for half in (b"{", b'{"op_code":9,"worker_id":"a', b"\xff\x00"):
        journal.write_bytes(whole + half)
        assert len(reopened(journal).finished()) == 3
        assert journal.read_bytes() == whole


def test_a_journal_cut_anywhere_opens_with_a_part_of_its_trials(journal: Path):
    whole = journal.read_bytes()
    chance = random.Random(0)
    for _ in range(30):
        journal.write_bytes(whole[: chance.randrange(len(whole))])
        assert [done.value for done in reopened(journal).finished()] in ([], [0.0], [0.0, 1.0], [0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"op_code":99,"worker_id":"a"}',
        b'{"op_code":true,"worker_id":"a"}',
        b'{"op_code":4,"worker_id":7}',
        b'{"op_code":6,"worker_id":"a"}',
        b"\x80\x04\x95.",
        b"[" * 100_000,
    ],
    ids=lambda line: line[:24].decode("latin-1"),
)
def test_another_line_is_refused_with_the_file_and_a_way_out(journal: Path, line: bytes):
    lines = journal.read_bytes().splitlines()
    journal.write_bytes(b"\n".join([*lines[:5], line, *lines[5:]]) + b"\n")
    with pytest.raises(ArtefactError, match=r"journal\.log.*--out"):
        reopened(journal)


def test_whatever_is_done_to_a_journal_it_opens_or_is_refused_by_an_error_of_ours(journal: Path):
    whole = journal.read_bytes()
    chance, refused = random.Random(1), 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 1, 3, 40))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        journal.write_bytes(damaged)
        try:
            reopened(journal)
        except PistarError:
            refused += 1
    assert refused > 50


def test_entries_that_are_left_out_doubled_or_exchanged_are_refused_or_harmless(journal: Path):
    lines = journal.read_bytes().splitlines(keepends=True)
    chance = random.Random(2)
    for _ in range(60):
        changed = list(lines)
        one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
        if chance.random() < 0.5:
            del changed[one]
        else:
            changed[one], changed[two] = changed[two], changed[one]
        journal.write_bytes(b"".join(changed))
        with contextlib.suppress(PistarError):
            reopened(journal).finished()


def test_a_value_that_is_not_that_of_its_areas_is_refused(journal: Path):
    text = journal.read_text()
    assert text.count('"values":[2.0]') == 1
    journal.write_text(text.replace('"values":[2.0]', '"values":[9.0]'))
    with pytest.raises(ArtefactError, match="trial 2 of the study is damaged"):
        reopened(journal)


def test_the_lock_of_a_killed_writer_does_not_stop_the_next_one(journal: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(storage, "PATIENCE", 0.1)
    lock = journal.with_name("journal.log.lock")
    lock.symlink_to(journal)
    study = reopened(journal)
    finish(study, study.ask(), 5.0)
    assert not lock.is_symlink()


def test_a_directory_belongs_to_one_driver_at_a_time(tmp_path: Path):
    claim = Claim(tmp_path / "lock", "the search")
    with pytest.raises(UsageError, match="the search is in use"):
        Claim(tmp_path / "lock", "the search")
    claim.release()
    Claim(tmp_path / "lock", "the search").release()


def test_the_claim_of_a_killed_process_is_given_up_by_the_kernel(tmp_path: Path):
    code = "import sys, time; from pathlib import Path; from pistar.tune.storage import Claim\n"
    code += "Claim.held = Claim(Path(sys.argv[1]), 'it'); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "lock"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UsageError):
            Claim(tmp_path / "lock", "it")
        holder.kill()
        holder.wait()
    Claim(tmp_path / "lock", "it", patience=1.0).release()


@pytest.mark.parametrize("url", ["redis://localhost", "journal.log", "file:///x", "http://x", "pickle://x"])
def test_only_storages_without_pickle_can_be_named(url: str, tmp_path: Path):
    with pytest.raises(UnknownName, match=r"postgresql://.*leave --storage out"):
        open_storage(url, tmp_path / "journal.log")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("grpc://localhost", "grpc://HOST:PORT"),
        ("postgresql+nothing://x", "no address"),
        ("postgresql://me:secret@localhost:1/x", "cannot be used"),
        ("mysql+notthere://x", "no address"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_without_its_password(url: str, message: str, tmp_path: Path):
    with pytest.raises(UsageError, match=message) as caught:
        open_storage(url, tmp_path / "journal.log")
    assert "secret" not in str(caught.value)


def test_a_database_is_a_storage(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = Study.open(open_storage(url, tmp_path), "one", plan(), "me", shared=True)
    finish(study, study.ask(), 3.0)
    again = Study.open(open_storage(url, tmp_path), "one", plan(), "other", shared=True)
    assert [done.value for done in again.finished()] == [3.0]


def test_a_search_loads_no_pickle(journal: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pickle is loaded")

    for name in ("load", "loads", "Unpickler", "dump", "dumps", "Pickler"):
        monkeypatch.setattr(f"pickle.{name}", refuse)
    for sampler in ("tpe", "gp", "random"):
        path = journal.with_name(f"{sampler}.log")
        study = Study.open(open_journal(path), "pistar", plan(sampler=sampler), "me", shared=False)
        for number in range(10):
            finish(study, study.ask(), float(number % 4))
        again = Study.open(open_journal(path), "pistar", plan(sampler=sampler), "me", shared=False)
        assert len(again.finished()) == 10


def test_the_dashboard_reads_the_journal(journal: Path):
    dashboard = pytest.importorskip("optuna_dashboard")
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    app = dashboard.wsgi(JournalStorage(JournalFileBackend(str(journal))))
    answer: list[str] = []
    environment = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies", "SERVER_NAME": "x", "SERVER_PORT": "1"}
    environment |= {"wsgi.input": sys.stdin, "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http"}
    body = b"".join(app(environment, lambda status, headers, *_: answer.append(status)))
    assert answer == ["200 OK"]
    assert json.loads(body)["study_summaries"][0]["study_name"] == "pistar"


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"pistar\[tune\]"):
        storage.require_optuna()

"""Records reach Weights & Biases and MLflow as they are, a resumed run goes on there, and no service costs a run."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pistar
from pistar.errors import MissingExtra, UnknownName, UsageError
from pistar.report import jsonl, mirrors
from pistar.report.sink import scalars

SMALL: dict[str, Any] = {"steps": 512, "lanes": 2, "horizon": 64, "warm_up": 16, "quiet": True, "ppo": {"epochs": 1}}
SMALL |= {"evaluation": {"episodes": 2, "every": 256, "final_episodes": 2}, "checkpoints": {"every": 1}}


def train(out: Path, *to: str, **more: Any) -> Path:
    return pistar.train("cartpole", out=out, reporting={"to": to}, **{**SMALL, **more}).directory


def expected(run: Path) -> dict[int, dict[str, float]]:
    """Steps -> the numbers that a mirror was given."""
    found: dict[int, dict[str, float]] = {}
    for record in jsonl.read(run / "metrics.jsonl"):
        found.setdefault(record["steps"], {}).update(scalars(record))
    for record in jsonl.read(run / "evaluations.jsonl"):
        group = "final" if record.get("final") else "evaluation"
        shown = {f"{group}/{name}": float(record[name]) for name in ("mean", "length")}
        found.setdefault(record["steps"], {}).update(shown)
    return found


# ---- Weights & Biases, offline -------------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "wandb-own"))


def messages(path: Path) -> Iterator[Any]:
    """The protocol buffers in a ``.wandb`` file: LevelDB's log format, blocks of 32 KiB after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    content, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(content):  # what is being written may end anywhere
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        _, length, kind = struct.unpack_from("<IHB", content, at)
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if at > len(content):
            return
        if kind in (1, 4):  # a whole one, or the last part
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def history(run: Path, last: int) -> dict[int, dict[str, float]]:
    """What the files hold, once the step ``last`` is there: W&B's own process may write on when it has been told to finish."""
    until = time.monotonic() + 60
    while "final/mean" not in (found := written(run)).get(last, {}) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def written(run: Path) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        for message in messages(path):
            if message.WhichOneof("record_type") == "history":
                row = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in message.history.item
                }
                step = int(row.pop("_step", message.history.step.num))
                found.setdefault(step, {}).update({k: v for k, v in row.items() if not k.startswith("_")})
    return found


def test_wandb_holds_every_number_at_its_step(offline: None, tmp_path: Path):
    run = train(tmp_path / "run", "wandb")
    assert history(run, 512) == expected(run)


def test_a_resumed_run_goes_on_in_the_same_run_of_wandb(
    offline: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run = train(tmp_path / "run", "wandb")
    kept = (run / "wandb.json").read_text()
    pistar.resume(run, steps=1024, quiet=True)
    assert not [message for message in caplog.messages if "takes no more records" in message]
    assert (run / "wandb.json").read_text() == kept
    identity = json.loads(kept)["id"]
    assert {path.stem for path in run.glob("wandb/offline-run-*/*.wandb")} == {f"run-{identity}"}
    assert history(run, 1024).keys() == expected(run).keys()


# ---- MLflow, in a file ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def client(database: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    return MlflowClient(database)


def points(client: Any, run: Path) -> dict[int, dict[str, float]]:
    identity, found = json.loads((run / "mlflow.json").read_text())["run_id"], {}
    for name in client.get_run(identity).data.metrics:
        for point in client.get_metric_history(identity, name):
            assert name not in found.setdefault(point.step, {"steps": point.step}), "a point came twice"
            found[point.step][name] = point.value
    return found


def status(client: Any, run: Path) -> Any:
    return client.get_run(json.loads((run / "mlflow.json").read_text())["run_id"])


def test_mlflow_holds_every_number_once_and_goes_on_with_a_resumed_run(client: Any, tmp_path: Path):
    run = train(tmp_path / "run", "mlflow")
    assert points(client, run) == expected(run)
    kept = status(client, run)
    assert kept.info.status == "FINISHED"
    assert kept.data.params["training.lanes"] == "2"
    assert client.get_experiment(kept.info.experiment_id).name == "pistar"
    before = {step: named for step, named in expected(run).items() if step < 512}
    pistar.resume(run, steps=1024, quiet=True)
    after = points(client, run)
    assert after.keys() == expected(run).keys()
    assert before.items() <= after.items()


def test_a_run_that_is_cut_off_is_marked_so(client: Any, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", "mlflow", on_iteration=interrupt)
    assert status(client, tmp_path / "run").info.status == "KILLED"


def interrupt(_: Any) -> None:
    raise KeyboardInterrupt


# ---- any of them ---------------------------------------------------------------------------------------------------


class Listed:
    """A mirror of a user's own."""

    taken: list[dict[str, Any]] = []

    def __init__(self, run: Any, settings: Any, resumed_at: int | None, quiet: bool) -> None:
        self.taken.append({"run": run.path, "settings": settings, "resumed_at": resumed_at, "quiet": quiet})

    def write(self, record: Any) -> None:
        self.taken.append(dict(record))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.taken.append({"closed": True})


class Unwilling(Listed):
    """One that cannot start."""

    def __init__(self, *_: Any) -> None:
        raise ConnectionError("no such server")


class Failing(Listed):
    """One that is lost on the way."""

    def write(self, record: Any) -> None:
        super().write(record)
        raise ConnectionError("the server\nis gone")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Listed, "taken", [])


def own(cls: type) -> str:
    return f"{__name__}:{cls.__name__}"


def test_a_mirror_of_ones_own_is_told_all(tmp_path: Path):
    run = train(tmp_path / "run", own(Listed))
    first, *records, last = Listed.taken
    assert first["run"] == run
    assert first["settings"]["training"]["lanes"] == 2
    assert first["resumed_at"] is None
    assert first["quiet"]
    assert last == {"closed": True}
    seen: dict[int, dict[str, float]] = {}
    for record in records:
        seen.setdefault(record["steps"], {}).update(scalars(record))
    assert seen == expected(run)


def test_mirrors_change_no_bit_of_what_is_learned(tmp_path: Path):
    runs = [train(tmp_path / name, *to) for name, to in (("with", [own(Listed)]), ("without", []))]
    one, other = ((run / "policy.safetensors").read_bytes() for run in runs)
    assert weights(one) == weights(other)


def weights(content: bytes) -> bytes:
    return content[8 + struct.unpack_from("<Q", content)[0] :]


def test_a_mirror_that_is_lost_costs_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    run = train(tmp_path / "run", own(Failing))
    assert (run / "policy.safetensors").exists()
    assert len(jsonl.read(run / "metrics.jsonl")) == 4
    said = [message for message in caplog.messages if "takes no more records" in message]
    assert len(said) == 1
    assert "the server is gone" in said[0]
    assert len([record for record in Listed.taken if "iteration" in record]) == 1  # it is not asked again


def test_a_mirror_that_cannot_start_ends_a_new_run_and_not_a_resumed_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(UsageError, match="could not start: ConnectionError: no such server"):
        train(tmp_path / "refused", own(Unwilling))
    run = train(tmp_path / "run", own(Listed))
    monkeypatch.setattr(Listed, "__init__", Unwilling.__init__)
    pistar.resume(run, steps=1024, quiet=True)
    assert jsonl.read(run / "metrics.jsonl")[-1]["steps"] == 1024
    assert any("no such server" in message for message in caplog.messages)


def test_unknown_missing_and_doubled_mirrors_are_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(UnknownName, match="did you mean 'wandb'"):
        train(tmp_path / "run", "wamdb")
    with pytest.raises(UsageError, match="twice"):
        train(tmp_path / "run", "wandb", "wandb")
    monkeypatch.setitem(mirrors.MIRRORS._targets, "absent", own(Absent))
    monkeypatch.setattr(mirrors.MIRRORS, "get", refuse)
    with pytest.raises(MissingExtra, match=r"pip install \"pistar\[wandb\]\""):
        train(tmp_path / "run", "absent")
    assert not (tmp_path / "run").exists()


class Absent(Listed):
    """Stands for one whose package is not installed."""


def refuse(_: str) -> Any:
    raise MissingExtra("wandb", "wandb", "--reporting.to wandb")

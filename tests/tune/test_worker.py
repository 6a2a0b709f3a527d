"""A worker's job: areas of its runs, the same bits whoever stops it, and the same as `pistar train` gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pistar import artefact, configuration
from pistar.cli import main
from pistar.errors import UsageError
from pistar.report import jsonl
from pistar.tune import plan as plans
from pistar.tune import space, worker
from pistar.tune.plan import Plan
from pistar.tune.storage import Claim
from pistar.tune.worker import perform
from tune.studies import plan

SMALL: dict[str, Any] = {"steps": 512, "lanes": 2, "horizon": 32, "warm_up": 16, "mlp": {"hidden": [8, 8]}}
SMALL |= {"evaluation": {"episodes": 2, "final_episodes": 2}, "checkpoints": {"every": 2}}


def small(**more: Any) -> Plan:
    return plan(rungs=4, search=("ppo.clip", "ppo.discount", "learning-rate"), **{**SMALL, **more})


def job(wanted: Plan, directory: Path) -> dict[str, Any]:
    point = {**space.start(wanted.base, wanted.searched), "algorithm.clip": 0.123, "training.learning_rate": 0.0031}
    return {
        "experiment": json.loads(json.dumps(wanted.at(point).to_table())),
        "directory": str(directory),
        "seeds": list(wanted.seeds),
        "rungs": wanted.method.rungs,
        "point": point,
    }


def forever(_: object) -> bool:
    return True


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list]:
    directory = tmp_path_factory.mktemp("whole") / "trial"
    told: list = []
    return directory, perform(job(small(), directory), lambda areas: told.append(areas) or True), told


def test_the_driver_is_told_every_rung_of_every_seed_once(whole):
    _, done, told = whole
    cells = [(seed, rung) for seed in (1, 2) for rung in (1, 2, 3, 4)]
    assert [(len(areas), len(areas[-1])) for areas in told] == cells[:-1]  # after the last nothing could be saved
    assert [len(areas) for areas in done["areas"]] == [4, 4]
    assert told[4][0] == done["areas"][0]  # a finished seed is told as it will be noted
    assert [areas[:3] for areas in told[-1]] == [areas[:3] for areas in done["areas"]]


def test_the_area_is_that_of_the_evaluations_in_the_run(whole):
    directory, done, _ = whole
    for seed, areas in enumerate(done["areas"]):
        means = [record["mean"] for record in jsonl.read(directory / f"seed-{seed}" / "evaluations.jsonl")]
        # Steps of 32 with 16 evaluations, the last of which is replaced by the final one.
        curve = [*means[:-2], means[-1]]
        inner = sum(curve[:-1]) + curve[-1] / 2
        start = 2 * (16 * areas[-1] - inner)
        assert start > 0  # the untrained policy's return, which is no record of the run
        assert done["finals"][seed] == means[-1]


def test_a_job_that_is_stopped_and_done_again_gives_the_same_bits(whole, tmp_path: Path):
    directory, done, _ = whole
    for stop in (1, 3, 6):
        again = tmp_path / f"stopped-{stop}"
        calls = iter(range(99))
        with pytest.raises(worker.Stopped):
            perform(job(small(), again), lambda _, calls=calls, stop=stop: next(calls) < stop)
        assert perform(job(small(), again), forever) == done
        for seed in (0, 1):
            assert policies(again / f"seed-{seed}") == policies(directory / f"seed-{seed}")


def test_a_job_that_is_done_is_only_read(whole):
    directory, done, _ = whole
    times = {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}
    assert perform(job(small(), directory), forever) == done
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()} == {
        path: stamp if path.suffix != ".lock" else path.stat().st_mtime_ns for path, stamp in times.items()
    }


def test_a_run_of_something_else_in_its_place_begins_anew(whole, tmp_path: Path):
    _, done, _ = whole
    calls = iter(range(99))
    with pytest.raises(worker.Stopped):
        perform(job(small(lanes=4), tmp_path / "trial"), lambda _: next(calls) < 1)
    assert perform(job(small(), tmp_path / "trial"), forever) == done


def test_a_run_whose_checkpoints_are_lost_begins_anew(whole, tmp_path: Path):
    _, done, _ = whole
    with pytest.raises(worker.Stopped):
        perform(job(small(), tmp_path / "trial"), lambda _: False)
    for path in (tmp_path / "trial").rglob("checkpoints/*"):
        path.write_bytes(b"no checkpoint")
    assert perform(job(small(), tmp_path / "trial"), forever) == done


def policies(run: Path) -> dict[str, list]:
    return {name: value.tolist() for name, value in artefact.load(run / "policy.safetensors").state_dict().items()}


def test_training_from_the_toml_gives_the_trial_bit_for_bit(whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    directory, _, _ = whole
    wanted = small()
    tables = plans.result_tables(wanted, job(wanted, directory)["point"])
    (tmp_path / "best.toml").write_text(configuration.to_toml(tables))
    line = f"train cartpole --config {tmp_path / 'best.toml'} --seeds 2 --quiet --out {tmp_path / 'again'}"
    assert main(line.split()) == 0
    for seed in (0, 1):
        mine, theirs = directory / f"seed-{seed}", tmp_path / "again" / f"seed-{seed}"
        assert (mine / "evaluations.jsonl").read_bytes() == (theirs / "evaluations.jsonl").read_bytes()
        without = [{k: v for k, v in r.items() if k != "time"} for r in jsonl.read(mine / "metrics.jsonl")]
        assert without == [{k: v for k, v in r.items() if k != "time"} for r in jsonl.read(theirs / "metrics.jsonl")]
        assert policies(mine) == policies(theirs)


def test_two_workers_never_train_in_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "PATIENCE", 0.1)
    claim = Claim(tmp_path / "trial" / "seed-0.lock", "the other worker's")
    with pytest.raises(UsageError, match="in use by another process"):
        perform(job(small(), tmp_path / "trial"), forever)
    claim.release()

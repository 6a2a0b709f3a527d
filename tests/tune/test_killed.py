"""A search that is killed, its driver or a worker, and gone on with: no finished trial is lost, none is left running."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pistar.tune import searching
from pistar.tune.storage import open_journal
from pistar.tune.study import Study

SMALL = "--steps 1024 --lanes 2 --horizon 32 --warm-up 16 --ppo.epochs 2 --mlp.hidden 8 8 --evaluation.episodes 2 "
SMALL += "--evaluation.final-episodes 2 --seeds 2 --search ppo.clip learning-rate --finalists 1 --compare 0"
GONE = 20.0  # seconds after the death of a driver, in which its workers must have ended
LONG = 300.0


def start(place: Path, trials: int, workers: int = 2) -> subprocess.Popen[bytes]:
    line = f"tune cartpole {SMALL} --trials {trials} --workers {workers} --out {place}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with open(place.with_suffix(".out"), "ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "pistar", *line.split()], env=environment, stdout=out, stderr=out
        )


def children(process: int) -> list[int]:
    """The processes that one has started and that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, *_ = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(parent) == process and state not in "ZX":
            found.append(int(path.name))
    return found


def alive(process: int) -> bool:
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def finished(place: Path) -> dict[int, float]:
    """Trial -> value, as the journal has it on the disk."""
    found: dict[int, float] = {}
    journal = place / "journal.log"
    for line in journal.read_bytes().splitlines() if journal.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:  # half of one
            continue
        if entry["op_code"] == 6 and entry["state"] == 1:
            found[entry["trial_id"]] = entry["values"][0]
    return found


def until(what, place: Path, driver: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + LONG
    while not what():
        log = place.with_suffix(".out").read_text()
        assert driver.poll() is None, log
        assert time.monotonic() < limit, log
        time.sleep(0.02)


def kill_driver(driver: subprocess.Popen[bytes]) -> None:
    workers = children(driver.pid)
    driver.kill()
    driver.wait()
    limit = time.monotonic() + GONE
    while left := [each for each in workers if alive(each)]:
        assert time.monotonic() < limit, f"workers {left} outlive their driver"
        time.sleep(0.01)


def study_of(place: Path) -> Study:
    plan, extent, driver = searching.read(place)
    return Study.open(open_journal(place / "journal.log"), extent.study, plan, driver, shared=False)


def assert_whole(place: Path, trials: int, before: dict[int, float]) -> None:
    study = study_of(place)
    assert before.items() <= finished(place).items()
    assert study.count("RUNNING", "WAITING") == 0
    assert study.count("COMPLETE", "PRUNED") == trials
    retried = {trial.user_attrs.get("retry_of") for trial in study.trials()}
    # One that was killed before it had a point has none to retry.
    assert {trial.number for trial in study.trials("FAIL") if study.point_of(trial) is not None} <= retried
    rows = list(csv.DictReader((place / "trials.csv").open()))
    assert len(rows) == len(study.trials())
    assert (place / "best.toml").exists()


def test_a_killed_driver_and_a_killed_worker(tmp_path: Path):
    place = tmp_path / "search"
    driver = start(place, 5)
    until(lambda: len(finished(place)) >= 1, place, driver)
    before = finished(place)
    assert len(before) < 5
    kill_driver(driver)
    driver = start(place, 5)
    until(lambda: children(driver.pid) != [], place, driver)  # which are importing torch for some time yet
    os.kill(children(driver.pid)[0], signal.SIGKILL)
    assert driver.wait(LONG) == 0, place.with_suffix(".out").read_text()
    assert "its worker ended with code -9; put back" in place.with_suffix(".out").read_text()
    assert_whole(place, 5, before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("whole") / "search"
    assert start(place, 8, workers=1).wait(LONG) == 0
    return place


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["driver", "worker", "either"])
def test_five_kills_at_random_moments(tmp_path: Path, undisturbed: Path, victim: str):
    place, chance = tmp_path / "search", random.Random(victim)
    before: dict[int, float] = {}
    driver = start(place, 8, workers=1)
    for _ in range(5):
        seen = len(finished(place))
        until(lambda driver=driver: children(driver.pid) != [], place, driver)
        moment = time.monotonic() + chance.uniform(0.0, 5.0)
        until(lambda moment=moment, seen=seen: time.monotonic() > moment or len(finished(place)) > seen, place, driver)
        if victim == "driver" or (victim == "either" and chance.random() < 0.5):
            before |= finished(place)
            kill_driver(driver)
            driver = start(place, 8, workers=1)
        elif workers := children(driver.pid):
            os.kill(workers[0], signal.SIGKILL)
    assert driver.wait(LONG) == 0, place.with_suffix(".out").read_text()
    assert_whole(place, 8, before)
    # Bit for bit: every point that both searches have come to has the same value, kills or not.
    mine, theirs = ({str(d.point): d.value for d in study_of(p).finished()} for p in (place, undisturbed))
    common = mine.keys() & theirs.keys()
    assert len(common) >= 1
    assert {point: mine[point] for point in common} == {point: theirs[point] for point in common}


def test_ctrl_c_leaves_nothing_running_and_says_how_to_go_on(tmp_path: Path):
    place = tmp_path / "search"
    driver = start(place, 50, workers=1)
    until(lambda: len(finished(place)) >= 1, place, driver)
    workers = children(driver.pid)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(20) == 130
    assert not [each for each in workers if alive(each)]
    assert f"pistar tune --resume {place}" in place.with_suffix(".out").read_text()
    assert study_of(place).count("RUNNING") == 0

"""The driver, with workers that do what the test says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pistar.errors import EnvironmentFailure, Interrupted, UsageError
from pistar.tune import space
from pistar.tune.crew import SIGNAL, Event, Key
from pistar.tune.driver import Driver, train_all
from pistar.tune.plan import Plan
from pistar.tune.storage import open_journal
from pistar.tune.study import Study
from tune.studies import plan

Script = Callable[[Key, dict[str, Any]], list[dict[str, Any]]]


class Puppets:
    """A crew of one whose messages a script gives; "answered" marks where it waits for the driver."""

    def __init__(self, script: Script) -> None:
        self.script, self.key, self.messages = script, None, []  # type: ignore[var-annotated]
        self.jobs: list[tuple[Key, dict[str, Any]]] = []
        self.answers: list[dict[str, Any]] = []

    def free(self) -> bool:
        return self.key is None

    def give(self, key: Key, job: dict[str, Any]) -> None:
        self.key, self.messages = key, list(self.script(key, job))
        self.jobs.append((key, job))

    def answer(self, key: Key, message: dict[str, Any]) -> None:
        self.answers.append(message)
        if not message["go on"]:
            self.messages = [{"stopped": True}]

    def release(self, key: Key) -> None:
        self.key = None

    def next(self, seconds: float) -> Event | None:
        message = self.messages.pop(0)
        return Event(SIGNAL if "number" in message else self.key, message)


def driver(path: Path, script: Script, **more: Any) -> tuple[Driver, Puppets, list[str]]:
    wanted = plan(**more)
    study = Study.open(open_journal(path / "journal.log"), "pistar", wanted, "me", shared=False)
    puppets, said = Puppets(script), []  # type: ignore[var-annotated]
    return Driver(wanted, study, puppets, path, said.append), puppets, said  # type: ignore[arg-type]


def done(value: float) -> dict[str, Any]:
    return {"done": {"areas": [[value, value], [value, value]], "finals": [value, value]}}


def names(made: Driver) -> list[str]:
    return [trial.state.name for trial in made.study.trials()]


def test_trials_are_made_until_there_are_enough(tmp_path: Path):
    made, puppets, said = driver(tmp_path, lambda key, job: [done(float(key))])  # type: ignore[arg-type]
    made.search(5)
    assert names(made) == ["COMPLETE"] * 5
    assert [job["seeds"] for _, job in puppets.jobs] == [[0, 1]] * 5
    assert len({job["directory"] for _, job in puppets.jobs}) == 5
    assert said[-1] == "trial 4: area 4 over 2 seeds  the best so far"
    made.search(5)
    assert len(puppets.jobs) == 5
    made.search(7)
    assert names(made) == ["COMPLETE"] * 7


def test_a_hopeless_trial_is_stopped_where_it_stands(tmp_path: Path):
    def script(key: Key, job: dict[str, Any]) -> list[dict[str, Any]]:
        value = -100.0 if key == 4 else 10.0 + key  # type: ignore[operator]
        return [{"areas": [[value]]}, {"areas": [[value, value]]}, done(value)]

    made, puppets, _ = driver(tmp_path, script)
    made.search(5)
    assert names(made) == ["COMPLETE"] * 4 + ["PRUNED"]
    assert puppets.answers == [{"go on": True}] * 8 + [{"go on": False}]


def test_a_worker_that_dies_is_replaced_and_its_trial_retried_in_place(tmp_path: Path):
    deaths = iter([[{"died": -9}], [{"areas": [[1.0]]}, {"died": -9}]])

    def script(key: Key, job: dict[str, Any]) -> list[dict[str, Any]]:
        return next(deaths, [done(1.0)])

    made, puppets, said = driver(tmp_path, script)
    made.search(2)
    assert names(made) == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert {job["directory"] for _, job in puppets.jobs[:3]} == {str(tmp_path / "trials" / "0000")}
    assert said[0] == "trial 0: its worker ended with code -9; put back"


def test_a_run_that_is_not_finite_counts_as_a_bad_trial(tmp_path: Path):
    made, _, _ = driver(tmp_path, lambda key, job: [done(1.0) if key != 1 else {"failed": "a NaN", "code": 3}])
    made.search(3)
    assert names(made) == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert made.study.trials()[1].user_attrs["stopped"] == "a NaN"


def test_where_the_starting_point_fails_the_search_ends_with_the_reason(tmp_path: Path):
    for code in (2, 3, 4):
        (tmp_path / str(code)).mkdir()
        made, _, _ = driver(tmp_path / str(code), lambda key, job, code=code: [{"failed": "no such arm", "code": code}])
        with pytest.raises(EnvironmentFailure, match=r"starting point.*no such arm.*--resume"):
            made.search(3)
        assert made.study.count("RUNNING") == 0


def test_where_nothing_works_any_more_the_search_ends(tmp_path: Path):
    made, _, _ = driver(tmp_path, lambda key, job: [done(1.0) if key == 0 else {"failed": "out of memory", "code": 1}])
    with pytest.raises(EnvironmentFailure, match=r"3 trials in a row.*out of memory"):
        made.search(30)


def test_points_that_cannot_be_trained_do_not_count_but_have_an_end(tmp_path: Path):
    made, puppets, _ = driver(tmp_path, lambda key, job: [done(1.0)], rungs=8, search=("lanes", "horizon"))
    made.search(6)
    assert len(puppets.jobs) == 6
    assert made.study.count("COMPLETE") == 6


def test_where_no_point_can_be_trained_the_search_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made, puppets, _ = driver(tmp_path, lambda key, job: [done(1.0)])
    start, right = space.start(made.plan.base, made.plan.searched), Plan.at

    def at(self: Plan, point: dict[str, Any]) -> Any:
        if point != start:
            raise UsageError("no")
        return right(self, point)

    monkeypatch.setattr(Plan, "at", at)
    with pytest.raises(UsageError, match="narrow the ranges"):
        made.search(3)
    assert len(puppets.jobs) == 1


def test_a_signal_ends_the_search_with_its_exit_code(tmp_path: Path):
    made, _, _ = driver(tmp_path, lambda key, job: [{"number": 15}])
    with pytest.raises(Interrupted, match=f"pistar tune --resume {tmp_path}") as caught:
        made.search(3)
    assert caught.value.exit_code == 143
    assert made.study.recover() == [0]


def test_after_the_time_limit_no_trial_is_begun(tmp_path: Path):
    made, puppets, _ = driver(tmp_path, lambda key, job: [done(1.0)])
    made.search(3, seconds=0.0)
    assert puppets.jobs == []


def test_jobs_that_are_no_trials_are_never_stopped_and_survive_deaths(tmp_path: Path):
    deaths = iter([[{"died": -9}], [{"areas": [[-1e9]]}, {"died": 1}]])
    puppets = Puppets(lambda key, job: next(deaths, [{"areas": [[-1e9]]}, done(float(key[1]))]))  # type: ignore[index]
    jobs: dict[tuple[str, int], dict[str, Any]] = {("a", 1): {}, ("b", 2): {}}
    found = train_all(puppets, jobs, tmp_path, lambda _: None)  # type: ignore[arg-type]
    assert {key: value["finals"][0] for key, value in found.items()} == {("a", 1): 1.0, ("b", 2): 2.0}
    assert all(answer == {"go on": True} for answer in puppets.answers)


def test_a_job_that_fails_is_told(tmp_path: Path):
    puppets = Puppets(lambda key, job: [{"failed": "no such arm", "code": 4}])
    with pytest.raises(EnvironmentFailure, match="no such arm"):
        train_all(puppets, {"a": {}}, tmp_path, lambda _: None)  # type: ignore[arg-type]

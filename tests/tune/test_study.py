"""A study: what is asked, what is finished, what is put back, whoever dies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pistar.errors import ArtefactError, UsageError
from pistar.tune import space, study
from pistar.tune.storage import open_journal, open_storage
from pistar.tune.study import DEATHS, ERRORS, Study, Ticket
from tune.studies import areas, finish, plan


def journaled(path: Path, driver: str = "me", **more: Any) -> Study:
    return Study.open(open_journal(path / "journal.log"), "pistar", plan(**more), driver, shared=False)


def shared(path: Path, driver: str) -> Study:
    return Study.open(open_storage(f"sqlite:///{path / 'db'}", path), "pistar", plan(), driver, shared=True)


def states(found: Study) -> list[str]:
    return [trial.state.name for trial in found.trials()]


def test_the_first_trial_is_the_starting_point(tmp_path: Path):
    found = journaled(tmp_path)
    ticket = found.ask()
    assert ticket.number == 0
    assert found.plan.at(ticket.point) == found.plan.base
    assert found.plan.at(found.ask().point) != found.plan.base


def test_every_proposal_lies_in_its_range(tmp_path: Path):
    found = journaled(tmp_path)
    for number in range(25):
        ticket = found.ask()
        finish(found, ticket, float(number))
        experiment = found.plan.at(ticket.point)
        assert 0.05 <= experiment.algorithm.clip.start <= 0.5
        assert 0.9 - 1e-12 <= experiment.algorithm.discount <= 0.999 + 1e-12
        assert experiment.training.lanes in (4, 8, 16, 32, 64)
    assert len({str(done.point) for done in found.finished()}) == 25


def test_what_is_proposed_depends_on_the_seed_and_the_trials_alone(tmp_path: Path):
    """A driver that is killed and gone on with proposes what it would have proposed."""
    points = {}
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
        found = journaled(tmp_path / name)
        points[name] = []
        for number in range(12):
            if name == "stopped":
                found = journaled(tmp_path / name)
            ticket = found.ask()
            points[name].append(ticket.point)
            finish(found, ticket, float(number % 5))
    assert points["whole"] == points["stopped"]


def test_another_seed_proposes_otherwise(tmp_path: Path):
    (tmp_path / "other").mkdir()
    one, two = journaled(tmp_path), journaled(tmp_path / "other", seed=7)
    assert one.ask().point == two.ask().point
    assert one.ask().point != two.ask().point


def test_a_trial_has_the_mean_of_its_seeds(tmp_path: Path):
    found = journaled(tmp_path)
    found.complete(found.ask(), [[0.0, 1.0], [0.0, 4.0]], [5.0, 7.0])
    (done,) = found.finished()
    assert (done.value, done.finals, done.areas) == (2.5, [5.0, 7.0], [[0.0, 1.0], [0.0, 4.0]])


def test_a_hopeless_trial_is_reported_and_stopped(tmp_path: Path):
    found = journaled(tmp_path)
    for number in range(4):
        finish(found, found.ask(), 100.0 + number)
    ticket = found.ask()
    assert found.report(ticket, [[1.0]])
    found.stop(ticket, "hopeless")
    assert states(found)[-1] == "PRUNED"
    assert found.trials()[-1].intermediate_values == {1: 1.0}
    good = found.ask()
    assert not found.report(good, [[103.0]])


# ---- deaths ----------------------------------------------------------------------------------------------------------


def test_what_a_dead_driver_left_is_failed_and_retried_in_its_directory(tmp_path: Path):
    found = journaled(tmp_path)
    finish(found, found.ask(), 1.0)
    left = found.ask()
    again = journaled(tmp_path)
    assert again.recover() == [left.number]
    assert states(again) == ["COMPLETE", "FAIL", "WAITING"]
    retry = again.ask()
    assert (retry.point, retry.origin) == (left.point, left.number)
    assert retry.number != left.number
    third = journaled(tmp_path)  # killed again
    third.recover()
    assert third.ask().origin == left.number
    assert [done.value for done in third.finished()] == [1.0]


@pytest.mark.parametrize("moment", ["enqueue_trial", "tell"])
def test_a_kill_before_or_after_a_trial_is_put_back_puts_it_back_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    found = journaled(tmp_path)
    ticket = found.ask()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(found.study, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            found.recover()
    again = journaled(tmp_path)
    assert again.recover() == [ticket.number]
    assert states(again) == ["FAIL", "WAITING"]


def test_a_kill_before_a_trial_has_a_point_loses_nothing(tmp_path: Path):
    found = journaled(tmp_path)
    finish(found, found.ask(), 1.0)
    found.storage.create_new_trial(found.study._study_id)  # running, without a single parameter
    again = journaled(tmp_path)
    again.recover()
    assert states(again) == ["COMPLETE", "FAIL"]
    assert again.ask().number == 2


def test_a_trial_is_not_tried_for_ever(tmp_path: Path):
    for deadly, limit in (({"died": True}, DEATHS), ({"raised": True}, ERRORS)):
        place = tmp_path / str(limit)
        place.mkdir()
        found = journaled(place)
        tries = 1
        while found.give_back(found.ask().number, "again", **deadly):
            tries += 1
        assert tries == limit
        assert set(states(found)) == {"FAIL"}


def test_on_a_shared_storage_a_restarted_driver_takes_back_its_own_trials_only(tmp_path: Path):
    one, two = shared(tmp_path, "one"), shared(tmp_path, "two")
    mine, theirs = one.ask(), two.ask()
    assert shared(tmp_path, "one").recover() == [mine.number]
    assert states(two)[theirs.number] == "RUNNING"


def test_a_silent_machine_loses_its_trial_and_a_living_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    monkeypatch.setattr(study.time, "monotonic", lambda: clock[0])
    one, two, three = (shared(tmp_path, name) for name in ("one", "two", "three"))
    silent, living = one.ask(), two.ask()
    one.beat([silent])
    for _ in range(30):
        clock[0] += 10.0
        two.beat([living])
        three.beat([])
    assert [states(three)[t.number] for t in (silent, living)] == ["FAIL", "RUNNING"]
    assert three.ask().point == silent.point
    finish(one, silent, 1.0)  # it was only asleep: its result comes too late, and harms nothing
    assert states(three)[silent.number] == "FAIL"


# ---- whose study -----------------------------------------------------------------------------------------------------


def test_a_study_of_something_else_is_refused_with_what_differs(tmp_path: Path):
    journaled(tmp_path)
    with pytest.raises(UsageError, match=r"tune\.seeds: 2 there, 3 here"):
        journaled(tmp_path, seeds=3)
    with pytest.raises(UsageError, match=r"training\.steps"):
        journaled(tmp_path, steps=60_000)


def test_a_study_of_somebody_elses_is_refused(tmp_path: Path):
    found = journaled(tmp_path)
    for value in (7, "[", '{"tune": {}}', "{}"):
        found.study.set_user_attr("plan", value)
        with pytest.raises(ArtefactError, match="the study 'pistar'"):
            journaled(tmp_path)


def test_areas_that_are_missing_are_noticed(tmp_path: Path):
    found = journaled(tmp_path)
    ticket: Ticket = found.ask()
    found.complete(ticket, areas(found, 1.0)[:1], [1.0, 1.0])
    with pytest.raises(ArtefactError, match="trial 0 of the study is damaged"):
        journaled(tmp_path)


def test_points_are_json(tmp_path: Path):
    found = journaled(tmp_path)
    point = space.start(found.plan.base, found.plan.searched)
    assert found.ask().point == point
    assert all(isinstance(value, bool | int | float | str) for value in point.values())

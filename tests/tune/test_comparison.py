"""Defaults against tuned: pairs, intervals, verdicts, and which seeds are used."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from pistar.tune import comparison, space
from pistar.tune.comparison import Paired, choose, compare
from pistar.tune.study import Finished
from tune.studies import plan
from tune.test_driver import Puppets


def finished(number: int, value: float, **point: Any) -> Finished:
    made = plan()
    whole = {**space.start(made.base, made.searched), "algorithm.clip": 0.1 + number / 100, **point}
    return Finished(number, number, value, whole, [[value] * 2] * 2, [value] * 2)


def test_the_interval_is_students_of_the_paired_differences():
    found = Paired((1.0, 2.0, 5.0, 3.0), (2.0, 2.5, 5.5, 5.0))
    reference = stats.ttest_rel(found.tuned, found.defaults).confidence_interval(0.95)
    assert found.interval == pytest.approx((reference.low, reference.high))
    assert found.difference == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("tuned", "verdict"),
    [
        ((2.0, 3.0, 4.1), "better"),
        ((0.0, 1.0, 2.1), "worse"),
        ((1.0, 2.0, 3.0), "as good"),
        ((2.0, 0.0, 9.0), "undecided"),
    ],
)
def test_the_verdict_says_what_the_seeds_can_tell(tuned: tuple[float, ...], verdict: str):
    assert Paired((1.0, 2.0, 3.0), tuned).verdict == verdict


def test_one_seed_decides_nothing_and_is_written_as_json():
    found = Paired((1.0,), (2.0,))
    assert (found.verdict, found.to_json()["interval"]) == ("undecided", None)


def test_a_lucky_trial_is_found_out_on_further_seeds(tmp_path: Path):
    merits = {1: 10.0, 2: 1.0, 3: 9.0}  # trial 2 owes its place to luck

    def script(key: Any, job: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"done": {"areas": [[merits[key[0]]]], "finals": [0.0]}}]

    trials = [finished(1, 10.0), finished(2, 12.0), finished(3, 9.0), finished(4, 2.0)]
    puppets = Puppets(script)
    chosen, areas = choose(plan(), puppets, tmp_path, lambda _: None, trials, 3)  # type: ignore[arg-type]
    assert chosen.number == 1
    assert areas == {2: [12.0, 12.0, 1.0, 1.0], 1: [10.0] * 4, 3: [9.0] * 4}
    assert {seed for _, job in puppets.jobs for seed in job["seeds"]} == {2, 3}  # the search had 0 and 1


def test_one_finalist_needs_no_further_seeds(tmp_path: Path):
    puppets = Puppets(lambda key, job: [])
    chosen, _ = choose(plan(), puppets, tmp_path, print, [finished(1, 1.0), finished(2, 2.0)], 1)  # type: ignore[arg-type]
    assert (chosen.number, puppets.jobs) == (2, [])


def test_both_are_trained_on_the_same_seeds_that_nothing_has_seen(tmp_path: Path):
    made = plan()

    def script(key: Any, job: dict[str, Any]) -> list[dict[str, Any]]:
        value = key[1] + (10.0 if key[0] != "defaults" else 0.0)
        return [{"done": {"areas": [[0.0, value]], "finals": [2 * value]}}]

    puppets = Puppets(script)
    found = compare(made, puppets, tmp_path, lambda _: None, finished(7, 1.0), 4)  # type: ignore[arg-type]
    assert found is not None
    assert found.seeds == (4, 5, 6, 7)  # 0 and 1 were searched on, 2 and 3 chose among the best
    assert found.area.differences == [10.0] * 4
    assert found.final.differences == [20.0] * 4
    assert statistics.fmean(found.area.defaults) == 5.5
    directories = [job["directory"] for _, job in puppets.jobs]
    assert set(directories) == {str(tmp_path / "comparison" / name) for name in ("defaults", "trial-7")}


def test_the_starting_point_is_not_compared_with_itself(tmp_path: Path):
    made = plan()
    start = Finished(0, 0, 1.0, space.start(made.base, made.searched), [[1.0] * 2] * 2, [1.0] * 2)
    assert compare(made, Puppets(lambda key, job: []), tmp_path, print, start, 4) is None  # type: ignore[arg-type]
    other = finished(1, 1.0)
    assert compare(made, Puppets(lambda key, job: []), tmp_path, print, other, 0) is None  # type: ignore[arg-type]


def test_a_job_trains_one_seed_of_one_point(tmp_path: Path):
    made, trial = plan(), finished(3, 1.0)
    found = comparison.job(made, trial.point, tmp_path, 9)
    assert (found["seeds"], found["rungs"]) == ([9], 2)
    assert found["experiment"]["algorithm"]["clip"] == pytest.approx(0.13)

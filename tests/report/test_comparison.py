"""What is compared, and that the numbers are those of `pistar.statistics` for the right runs."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from written import write_run

from pistar.report import comparison_picture, finished, jsonl
from pistar.report.comparison import compare, verdict
from pistar.report.groups import Group, grouped

SCORES = {"ppo": (40.0, 44.0, 48.0, 52.0, 90.0), "a2c": (30.0, 31.0, 45.0, 32.0, 33.0)}


@pytest.fixture
def groups(tmp_path: Path) -> list[Group]:
    for kind, scores in SCORES.items():
        for seed, score in enumerate(scores):
            means = (10.0, 20.0, 30.0, score)
            write_run(
                tmp_path / kind / f"seed-{seed}",
                seed=seed,
                means=means,
                final=score,
                tables={"algorithm": {"kind": kind}},
            )
    return grouped(finished.read_all([str(tmp_path / "ppo"), str(tmp_path / "a2c")]))


def test_scores_are_final_evaluations_and_aggregates_scipys(groups: list[Group]):
    found = compare(groups)
    for each in found.summaries:
        scores = SCORES[each.group.label]
        assert each.scores.tolist() == list(scores)
        assert each.interquartile_mean == pytest.approx(stats.trim_mean(scores, 0.25), abs=1e-12)
        expected = stats.bootstrap(
            (np.array(scores),),
            lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
            n_resamples=10_000,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        assert each.interval == pytest.approx(tuple(expected), abs=1e-12)
        assert each.curve.x.tolist() == [1000, 2000, 3000, 4000]
        assert each.curve.centre[:3].tolist() == [10, 20, 30]
        assert each.curve.centre[3] == each.interquartile_mean
    (pair,) = found.improvements
    assert pair.probability == stats.mannwhitneyu(SCORES["ppo"], SCORES["a2c"]).statistic / 25
    assert pair.difference == pytest.approx(
        found.summaries[0].interquartile_mean - found.summaries[1].interquartile_mean
    )
    assert verdict(pair) == "better"
    assert verdict(compare(groups[::-1]).improvements[0]) == "worse"
    assert compare(groups).to_json() == found.to_json()  # the same every time


def test_steps_to_a_threshold(groups: list[Group]):
    ppo, a2c = (each.crossing for each in compare(groups, threshold=44.0).summaries)
    assert ppo is not None
    assert a2c is not None
    assert (ppo.reached, ppo.steps, ppo.median) == (4, (math.inf, 4000, 4000, 4000, 4000), 4000)
    assert (a2c.reached, a2c.median) == (1, math.inf)
    assert compare(groups).summaries[0].crossing is None


def test_what_is_infinite_is_null_in_json(groups: list[Group]):
    text = jsonl.encode(compare(groups, threshold=44.0).to_json()).decode()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found: dict[str, Any] = json.loads(text, parse_constant=refuse)
    assert found["groups"][1]["steps_to_threshold"]["median"] is None
    assert [run["score"] for run in found["groups"][0]["runs"]] == list(SCORES["ppo"])
    assert {"task", "protocol", "improvements", "bootstrap", "notes"} <= set(found)


def test_a_single_run_has_no_interval_but_a_note(tmp_path: Path):
    found = compare(grouped(finished.read_all([str(write_run(tmp_path / "run"))])))
    assert found.summaries[0].interval == (-math.inf, math.inf)
    assert found.improvements == ()
    assert any("train more seeds" in note for note in found.notes)


def test_runs_that_ended_elsewhere_are_compared_as_they_ended_and_the_note_says_so(tmp_path: Path, groups: list[Group]):
    path = write_run(tmp_path / "long", seed=9)
    lines = (path / "evaluations.jsonl").read_text().replace('"steps":4000,"final"', '"steps":9000,"final"')
    (path / "evaluations.jsonl").write_text(lines)
    assert any("4,000 to 9,000" in note for note in compare([*groups, Group("long", (finished.read(path),), {})]).notes)
    assert not any("different numbers" in note for note in compare(groups).notes)


def test_the_picture_is_the_same_every_time_and_grows_with_the_groups(groups: list[Group], tmp_path: Path):
    first = comparison_picture.draw(compare(groups, 44.0), tmp_path / "a.png").read_bytes()
    assert comparison_picture.draw(compare(groups, 44.0), tmp_path / "b.png").read_bytes() == first
    many = [Group(f"{group.label} {n}", group.runs, {}) for n in range(5) for group in groups]
    comparison_picture.draw(compare(many), tmp_path / "many.png")
    sizes = [Image.open(tmp_path / name).size for name in ("a.png", "many.png")]
    assert sizes[0][0] == sizes[1][0] == 1800
    assert sizes[1][1] > sizes[0][1]

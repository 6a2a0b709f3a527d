"""What a search leaves behind."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pistar.tune import results, space
from pistar.tune.comparison import Comparison, Paired
from pistar.tune.results import Outcome
from pistar.tune.storage import open_journal
from pistar.tune.study import Study
from tune.studies import finish, plan


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Thirty trials whose area is decided by the clip range alone; one was stopped, one failed."""
    found = Study.open(open_journal(tmp_path / "journal.log"), "pistar", plan(sampler="random"), "me", shared=False)
    for number in range(32):
        ticket = found.ask()
        if number == 5:
            found.report(ticket, [[3.0]])
            found.stop(ticket, "hopeless")
        elif number == 6:
            found.give_back(ticket.number, "its worker ended", died=True)
        else:
            finish(found, ticket, -abs(math.log(float(ticket.point["algorithm.clip"]) / 0.1)))
    return found


def outcome_of(study: Study, compared: bool = True) -> Outcome:
    chosen = max(study.finished(), key=lambda done: done.value)
    pairs = Paired((1.0, 2.0, 3.0), (2.0, 3.5, 4.0))
    both = Comparison((4, 5, 6), pairs, pairs) if compared else None
    return Outcome(chosen, {chosen.number: [1.0, 2.0]}, results.importance(study), both)


def test_what_mattered_is_found(study: Study):
    found = results.importance(study)
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["algorithm.clip"] > 0.5


def test_trials_that_were_stopped_tell_what_mattered_too(tmp_path: Path):
    found = Study.open(open_journal(tmp_path / "journal.log"), "pistar", plan(sampler="random"), "me", shared=False)
    for _ in range(32):
        ticket = found.ask()
        value = -abs(math.log(float(ticket.point["algorithm.clip"]) / 0.1))
        if value < -0.5:
            found.report(ticket, [[value]])
            found.stop(ticket, "hopeless")
        else:
            finish(found, ticket, value)
    assert 2 <= len(found.finished()) < 16
    assert max(results.importance(found).items(), key=lambda item: item[1])[0] == "algorithm.clip"


def test_of_few_or_equal_trials_nothing_is_said(tmp_path: Path):
    found = Study.open(open_journal(tmp_path / "journal.log"), "pistar", plan(), "me", shared=False)
    for _ in range(7):
        finish(found, found.ask(), 1.0)
    assert results.importance(found) == {}
    for _ in range(3):
        finish(found, found.ask(), 1.0)
    assert results.importance(found) == {}


def test_every_file_is_written_and_whole(study: Study, tmp_path: Path):
    place = tmp_path / "out"
    results.write(study, place, outcome_of(study))
    rows = list(csv.DictReader((place / "trials.csv").open()))
    assert [row["state"] for row in rows[4:8]] == ["complete", "pruned", "fail", "complete"]
    assert rows[5]["note"] == "hopeless"
    assert rows[7]["retry_of"] == "6"
    assert float(rows[9]["area"]) == study.trials()[9].value
    read = json.loads((place / "result.json").read_text())
    assert read["trials"] == {"complete": 30, "pruned": 1, "fail": 1, "running": 0, "waiting": 0}
    assert read["comparison"]["area"]["verdict"] == Paired((1.0, 2.0, 3.0), (2.0, 3.5, 4.0)).verdict
    assert not [path for path in place.iterdir() if "partial" in path.name]
    for name in ("history", "settings", "comparison"):
        with Image.open(place / f"{name}.png") as image:
            pixels = np.asarray(image.convert("L"))
        assert pixels.shape[0] > 300
        assert 0.005 < (pixels < 200).mean() < 0.5, name  # something is drawn, and not everywhere


def test_without_a_comparison_there_is_no_picture_of_one(study: Study, tmp_path: Path):
    results.write(study, tmp_path / "out", outcome_of(study, compared=False))
    assert not (tmp_path / "out" / "comparison.png").exists()


def test_a_table_names_every_setting_with_what_it_was_and_became(study: Study):
    outcome = outcome_of(study)
    rows = results.settings_rows(study, outcome)
    assert rows[1][0] == "algorithm.clip"  # what mattered most comes first
    assert {row[0] for row in rows[1:]} == set(space.start(study.plan.base, study.plan.searched))
    assert rows[1][1] == "0.2"


def test_the_csv_reads_back_as_the_points(study: Study):
    rows = list(csv.DictReader(io.StringIO(results.table(study))))
    for row, trial in zip(rows, study.trials(), strict=True):
        assert float(row["algorithm.clip"]) == trial.params["algorithm.clip"]


def test_words_are_honest():
    better = results.words(Paired((1.0, 2.0, 3.0), (2.0, 3.0, 4.1)), "area", 3)
    assert "tuned is better" in better
    assert "keep the defaults" in results.words(Paired((1.0, 2.0, 3.0), (0.0, 1.0, 1.9)), "area", 3)
    assert "not decided" in results.words(Paired((1.0, 2.0, 3.0), (9.0, 0.0, 1.9)), "area", 3)

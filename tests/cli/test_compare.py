"""``pistar compare`` and ``pistar report`` on real runs."""

import json
from pathlib import Path

import pytest

from pistar.cli import main

TINY = "--steps 256 --lanes 2 --horizon 32 --warm-up 16 --evaluation.episodes 2 --evaluation.final-episodes 4 --quiet"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Two seeds each of two algorithms."""
    place = tmp_path_factory.mktemp("compared")
    for kind in ("ppo", "a2c"):
        line = f"train cartpole --algorithm {kind} {TINY} --seeds 2"
        assert main([*line.split(), "--out", str(place / kind)]) == 0
    return {kind: place / kind for kind in ("ppo", "a2c")}


def test_tables_a_picture_and_json_say_the_same(pistar, runs, tmp_path: Path):
    files = [tmp_path / "c.png", tmp_path / "c.json"]
    code, out, err = pistar("compare", runs["ppo"], runs["a2c"], "--out", *files)
    assert (code, err) == (0, "")
    for words in (
        "cartpole",
        "interquartile mean",
        "ppo",
        "a2c",
        "reached 475",
        "beats one of",
        "algorithm.kind",
        "note: few runs",
    ):
        assert words in out
    assert files[0].read_bytes().startswith(b"\x89PNG")
    code, printed, _ = pistar("compare", runs["ppo"], runs["a2c"], "--json", "--label", "new", "old")
    found, written = json.loads(printed), json.loads(files[1].read_text())
    assert [each["label"] for each in found["groups"]] == ["new", "old"]
    assert [each["label"] for each in written["groups"]] == ["ppo", "a2c"]
    assert [each["interval"] for each in found["groups"]] == [each["interval"] for each in written["groups"]]
    for kind, each in zip(("ppo", "a2c"), found["groups"], strict=True):
        for run in each["runs"]:
            last = (runs[kind] / f"seed-{run['seed']}" / "evaluations.jsonl").read_text().splitlines()[-1]
            assert json.loads(last)["mean"] == run["score"]


def test_a_report_is_written_beside_its_runs_or_where_it_is_wanted(pistar, runs, tmp_path: Path, monkeypatch):
    code, out, err = pistar("report", runs["ppo"])
    assert (code, err, out.strip()) == (0, "", str(runs["ppo"] / "report.html"))
    text = (runs["ppo"] / "report.html").read_text()
    assert text.startswith("<!DOCTYPE html>")
    monkeypatch.chdir(tmp_path)
    assert pistar("report", runs["ppo"], runs["a2c"])[1] == "report.html\n"
    assert pistar("report", runs["ppo"], "--out", tmp_path / "deep" / "page.html")[0] == 0
    assert (tmp_path / "deep" / "page.html").read_text() == text


def test_a_report_can_record_its_film_first(pistar, runs, tmp_path: Path):
    seed = runs["a2c"] / "seed-0"
    assert pistar("report", seed, "--video", "--out", tmp_path / "r.html")[0] == 0
    film = next(seed.glob("watch.*"))
    before = film.stat().st_mtime_ns
    assert "data:video/mp4" in (tmp_path / "r.html").read_text() or film.suffix == ".gif"
    assert pistar("report", seed, "--video", "--out", tmp_path / "r.html")[0] == 0
    assert film.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("compare", "expected runs to compare, received none"),
        ("report", "expected runs to report on, received none"),
        ("compare /nowhere", "no such run: /nowhere"),
        ("report /nowhere", "no such run: /nowhere"),
        ("compare /nowhere --out x.svg", "expected files that end in .png or .json, received 'x.svg'"),
        ("report /nowhere --out x.pdf", "expected a file that ends in .html, received 'x.pdf'"),
        ("compare /nowhere --lable x", "unknown flag --lable; did you mean --label"),
    ],
)
def test_what_cannot_be_done_says_why(pistar, line: str, message: str):
    code, out, err = pistar(line)
    assert (code, out) == (2, "")
    assert message in err


def test_runs_that_cannot_be_compared_are_refused(pistar, runs, run):
    code, _, err = pistar("compare", runs["ppo"], run)
    assert code == 2
    assert "different tasks" in err
    code, _, err = pistar("compare", runs["ppo"], "--label", "a", "b", "c")
    assert code == 2
    assert "expected 1 names, one for each group (ppo)" in err

"""``pistar tune``: what it accepts, what it leaves, and that its result is what `pistar train` makes of it."""

import json
import tomllib
from pathlib import Path

import pytest

from pistar.report import jsonl

SMALL = "--steps 1024 --lanes 2 --horizon 32 --warm-up 16 --ppo.epochs 2 --mlp.hidden 8 8 --evaluation.episodes 2 "
SMALL += "--evaluation.final-episodes 2 --seeds 2 --search ppo.clip learning-rate --trials 3 --finalists 2 --compare 2"


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> tuple[Path, str]:
    """A search that is done, and what it printed."""
    import contextlib
    import io

    from pistar.cli import main

    place = tmp_path_factory.mktemp("search") / "out"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(f"tune cartpole {SMALL} --out {place}".split()) == 0
    return place, out.getvalue()


def test_it_leaves_what_its_report_says(searched):
    place, out = searched
    for name in ("best.toml", "trials.csv", "result.json", "history.png", "settings.png"):
        assert (place / name).stat().st_size > 0
        assert str(place / name) in out
    assert out.count("area") >= 3
    assert "algorithm.clip" in out
    assert f"pistar train cartpole --config {place / 'best.toml'}" in out
    assert f"optuna-dashboard {place / 'journal.log'}" in out
    read = json.loads((place / "result.json").read_text())
    assert read["trials"]["running"] == read["trials"]["waiting"] == 0
    if read["comparison"] is not None:
        assert read["comparison"]["seeds"] == [4, 5]
        assert "2 fresh seeds" in out


def test_training_from_the_result_gives_the_trial_bit_for_bit(searched, pistar, tmp_path: Path):
    place, _ = searched
    trial = tomllib.loads((place / "best.toml").read_text())["run"]["trial"]
    line = f"train cartpole --config {place / 'best.toml'} --seeds 2 --quiet --out {tmp_path / 'again'}"
    assert pistar(line)[0] == 0
    for seed in (0, 1):
        mine, theirs = place / "trials" / f"{trial:04d}" / f"seed-{seed}", tmp_path / "again" / f"seed-{seed}"
        assert (mine / "evaluations.jsonl").read_bytes() == (theirs / "evaluations.jsonl").read_bytes()
        for one, two in zip(jsonl.read(mine / "metrics.jsonl"), jsonl.read(theirs / "metrics.jsonl"), strict=True):
            assert {**one, "time": None} == {**two, "time": None}


def test_the_same_command_again_changes_nothing_and_resume_goes_further(searched, pistar):
    place, _ = searched
    before = (place / "journal.log").read_bytes()
    code, out, _ = pistar(f"tune cartpole {SMALL} --out {place}")
    assert code == 0
    assert "chosen: trial" in out
    assert (place / "journal.log").read_bytes() == before
    code, out, err = pistar(f"tune --resume {place} --trials 4 --compare 0 --finalists 1")
    assert code == 0, err
    assert (place / "journal.log").read_bytes().startswith(before)
    assert len((place / "trials.csv").read_text().splitlines()) == 5


def test_another_search_in_the_same_place_is_refused(searched, pistar):
    place, _ = searched
    code, _, err = pistar(f"tune cartpole {SMALL} --ppo.trace 0.5 --out {place}")
    assert code == 2
    assert "algorithm.trace: 0.95 there, 0.5 here" in err
    assert f"pistar tune --resume {place}" in err


def test_a_damaged_search_is_refused_with_its_file(searched, pistar, tmp_path: Path):
    place = tmp_path / "copy"
    place.mkdir()
    for name in ("tune.toml", "journal.log"):
        (place / name).write_bytes((searched[0] / name).read_bytes())
    (place / "journal.log").write_bytes(b"\x80\x04\x95 a pickle\n" + (place / "journal.log").read_bytes())
    code, _, err = pistar(f"tune --resume {place}")
    assert (code, "Traceback" in err) == (2, False)
    assert f"line 1 of {place / 'journal.log'} is no entry of a journal" in err
    (place / "tune.toml").write_text("[tune]\nseeds = 3\n")
    code, _, err = pistar(f"tune --resume {place}")
    assert (code, "tune.toml is not the plan of a search" in err) == (2, True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tune", "expected one argument"),
        ("tune cartpol", "did you mean 'cartpole'"),
        ("tune cartpole --trials 0", "trials"),
        ("tune cartpole --seeds 0", "seeds"),
        ("tune cartpole --workers 0", "workers"),
        ("tune cartpole --sampler cmaes", "tpe | gp | random"),
        ("tune cartpole --search ppo.klip", "did you mean 'ppo.clip'"),
        ("tune cartpole --storage redis://localhost", "unknown storage"),
        ("tune cartpole --stop-at 400", "cannot be compared"),
        ("tune cartpole --a2c.trace 0.5", "'ppo' is chosen"),
        ("tune --resume /nowhere", "holds no search"),
        ("tune cartpole --resume /nowhere", "as it was planned"),
        ("tune --resume /nowhere --lanes 4", "drop lanes"),
        ("tune cartpole --time-limit soon", "expected a time"),
    ],
)
def test_mistakes_are_refused(pistar, tmp_path: Path, monkeypatch, line: str, message: str):
    monkeypatch.chdir(tmp_path)
    code, _, err = pistar(line)
    assert code == 2
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_is_left_alone(pistar, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    code, _, err = pistar(f"tune cartpole --out {tmp_path}")
    assert code == 2
    assert "holds no search" in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_flags_give_is_held_fixed(pistar, tmp_path: Path):
    line = f"tune cartpole --steps 2048 --lanes 4 --ppo.clip 0.3 --trials 1 --time-limit 0 --out {tmp_path / 'out'}"
    code, out, _ = pistar(line)
    assert code == 0
    assert "nothing to choose from yet" in out
    tables = tomllib.loads((tmp_path / "out" / "tune.toml").read_text())
    assert "training.horizon" in tables["search"]
    assert not {"training.lanes", "algorithm.clip"} & set(tables["search"])
    assert tables["training"]["lanes"] == 4


def test_several_settings_are_searched_with_ranges_of_ones_own(pistar, tmp_path: Path):
    wanted = "--search lanes=8/16 ppo.clip=0.1:0.3:log mlp.activation=tanh/relu policy.last-gain"
    assert pistar(f"tune cartpole --steps 2048 {wanted} --time-limit 0 --out {tmp_path / 'out'}")[0] == 0
    tables = tomllib.loads((tmp_path / "out" / "tune.toml").read_text())
    assert tables["search"] == {
        "training.lanes": {"choices": [8, 16]},
        "algorithm.clip": {"low": 0.1, "high": 0.3, "scale": "log"},
        "policy.activation": {"choices": ["tanh", "relu"]},
        "policy.last_gain": {"low": 0.001, "high": 1.0, "scale": "log"},
    }

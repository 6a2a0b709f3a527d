"""``resume``, ``evaluate``, ``watch``, ``tasks``, ``algorithms`` and ``doctor``; and what all commands have in common."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest

from pistar import __version__
from pistar.algorithms import ALGORITHMS
from pistar.cli import COMMANDS
from pistar.fields import field_types
from pistar.tasks import TASKS

# ---- all commands ----------------------------------------------------------------------------------------------------


def test_the_overview_lists_every_command_and_exit_code(pistar):
    code, text, err = pistar("--help")
    assert (code, err) == (0, "")
    for name, command in COMMANDS.items():
        assert f"  {name} " in text
        assert command.summary in text
    for number in ("2", "3", "4", "5", "130", "143"):
        assert number in text.split("exit codes:")[1]
    assert pistar("help") == (0, text, "")
    assert pistar("") == (2, "", text)
    assert pistar("--version") == pistar("-V") == (0, f"pistar {__version__}\n", "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian cartpole", "unknown command 'trian'; did you mean 'train'"),
        ("--lanes 3", "expected a command, received --lanes; flags stand after it"),
        ("resume", "expected one argument, received none"),
        ("resume a b", "expected one argument, received 2: a b"),
        ("resume /nowhere", "no such run: /nowhere"),
        ("resume /tmp", "/tmp is not a run directory: it has no experiment.toml"),
        ("resume /nowhere --step 5", "unknown flag --step; did you mean --steps"),
        ("evaluate /nowhere", "no such file or run: /nowhere"),
        ("evaluate /tmp", "/tmp holds no policy.safetensors"),
        ("evaluate /nowhere --episodes 0", "--episodes: expected at least 1, received 0"),
        ("watch /nowhere", "no such file or run: /nowhere"),
        ("watch /nowhere --episodes 0", "--episodes: expected a positive number, received 0"),
        ("tasks reachr", "unknown task 'reachr'; did you mean 'reacher'"),
        ("tasks a b", "expected one argument, received 2"),
        ("tasks --json", "unknown flag --json"),
        ("algorithms reinforc", "unknown algorithm 'reinforc'; did you mean 'reinforce'"),
        ("doctor", "expected one argument, received none"),
        ("doctor CartPole-v1 --steps 0", "--steps: expected at least 1, received 0"),
        ("doctor CartPol-v1", "did you mean 'CartPole-v1'"),
    ],
)
def test_a_request_that_cannot_be_met_says_why_with_code_2(pistar, line: str, message: str):
    code, out, err = pistar(line)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_a_traceback_is_shown_to_those_who_ask(pistar, monkeypatch):
    for line in ("--traceback resume /nowhere", "resume /nowhere --traceback"):
        code, _, err = pistar(line)
        assert code == 2
        assert "Traceback" in err
        assert err.endswith("that `pistar train --out` made)\n")
    monkeypatch.setenv("PISTAR_TRACEBACK", "1")
    assert "Traceback" in pistar("resume /nowhere")[2]
    monkeypatch.setenv("PISTAR_TRACEBACK", "0")
    assert "Traceback" not in pistar("resume /nowhere")[2]


def test_a_fault_of_pistar_itself_is_not_disguised(pistar, monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr("pistar.cli.tasks.main", fail)
    with pytest.raises(ZeroDivisionError):
        pistar("tasks")


# ---- resume ----------------------------------------------------------------------------------------------------------


def test_resuming_a_run_that_is_done_changes_no_weight_and_extending_it_goes_on(pistar, run: Path):
    policy = (run / "policy.safetensors").read_bytes()
    code, out, _ = pistar("resume", run)
    assert code == 0
    assert "256 steps" in out
    assert (run / "policy.safetensors").read_bytes() == policy
    code, out, err = pistar("resume", run, "--steps", "320", "--quiet")
    assert (code, out, err) == (0, "", "")
    steps = [json.loads(line)["steps"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [64, 128, 192, 256, 320]
    assert (run / "policy.safetensors").read_bytes() != policy
    code, _, err = pistar("resume", run, "--steps", "300")
    assert code == 2
    assert "--steps 300 is less than the 320 of this run" in err


def test_a_changed_version_is_refused_unless_it_is_allowed(pistar, run: Path):
    toml = run / "experiment.toml"
    text = toml.read_text()
    toml.write_text(text.replace('gymnasium = "', 'gymnasium = "0.'))
    code, _, err = pistar("resume", run)
    assert code == 2
    assert "gymnasium: 0." in err
    assert "--allow-inexact" in err
    assert pistar("resume", run, "--allow-inexact", "--quiet")[0] == 0


def test_a_run_whose_checkpoints_are_gone_says_so(pistar, run: Path):
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    code, _, err = pistar("resume", run)
    assert code == 2
    assert "holds no checkpoint" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nlanes = 2\n", "has no kind"),
        ("[task]\n", "has no kind (known:"),
        ("nonsense", "is not valid TOML"),
    ],
)
def test_an_experiment_that_cannot_be_read_is_named(pistar, run: Path, text: str, message: str):
    (run / "experiment.toml").write_text(text)
    code, _, err = pistar("resume", run)
    assert code == 2
    assert message in err
    assert "experiment.toml" in err


def test_a_checkpoint_of_other_settings_does_not_fit(pistar, run: Path):
    toml = run / "experiment.toml"
    toml.write_text(toml.read_text().replace("hidden = [64, 64]", "hidden = [32]"))
    code, _, err = pistar("resume", run)
    assert code == 2
    assert "does not fit the experiment beside it" in err


# ---- evaluate --------------------------------------------------------------------------------------------------------


def test_evaluate_prints_one_json_object(pistar, trained: Path):
    code, out, err = pistar("evaluate", trained, "--episodes", "5", "--json")
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    judged = json.loads(out)
    assert list(judged) == ["task", "episodes", "mean", "interval", "length", "baselines"]
    assert (judged["task"], judged["episodes"]) == ("gymnasium", 5)
    assert judged["interval"][0] <= judged["mean"] <= judged["interval"][1]
    random = judged["baselines"]["random"]
    assert math.isclose(random["difference"], judged["mean"] - random["mean"], abs_tol=1e-9)
    assert pistar("evaluate", trained, "--episodes", "5", "--json")[1] == out
    assert pistar("evaluate", trained / "policy.safetensors", "--episodes", "5", "--json")[1] == out
    assert pistar("evaluate", trained, "--episodes", "5", "--json", "--seed", "1")[1] != out


def test_one_episode_has_no_interval_and_the_json_stays_json(pistar, trained: Path):
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    out = pistar("evaluate", trained, "--episodes", "1", "--json")[1]
    assert json.loads(out, parse_constant=refuse)["interval"] == [None, None]
    assert "–" in pistar("evaluate", trained, "--episodes", "1")[1]


def test_evaluate_prints_a_table_for_people(pistar, trained: Path):
    code, out, _ = pistar("evaluate", trained, "--episodes", "4", "--no-deterministic")
    assert code == 0
    assert [word for word in ("mean return", "policy", "random", "over 4 episodes") if word not in out] == []


def test_evaluate_on_another_task(pistar, trained: Path):
    code, out, _ = pistar("evaluate", trained, "--task", "cartpole", "--episodes", "4", "--json")
    assert code == 0
    assert json.loads(out)["task"] == "cartpole"
    for task, message in (("reacher", "the policy is for"), ("reachr", "did you mean 'reacher'")):
        code, _, err = pistar("evaluate", trained, "--task", task)
        assert code == 2
        assert message in err


# ---- watch -----------------------------------------------------------------------------------------------------------


def test_watch_writes_a_film_where_it_is_told_to(pistar, trained: Path, tmp_path: Path):
    film = tmp_path / "films" / "pole.gif"
    code, out, _ = pistar("watch", trained, "--episodes", "1", "--steps", "5", "--out", film)
    assert code == 0
    assert film.read_bytes()[:3] == b"GIF"
    assert str(film) in out
    code, _, err = pistar("watch", trained, "--out", tmp_path / "pole.avi")
    assert code == 2
    assert "expected a file that ends in .mp4, .gif, .webp" in err


def test_without_a_screen_the_film_stands_beside_the_policy(pistar, run: Path, monkeypatch):
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    shutil.copy(run / "policy.safetensors", run / "mine.safetensors")
    code, out, _ = pistar("watch", run / "mine.safetensors", "--episodes", "1", "--steps", "30")
    assert code == 0
    written = Path(out.splitlines()[0])
    assert written.parent == run
    assert written.stem == "mine-watch"
    assert written.stat().st_size > 0
    assert "episode 1: return" in out


# ---- tasks, algorithms -----------------------------------------------------------------------------------------------


def test_every_task_and_algorithm_is_listed_and_described(pistar):
    for command, registry in (("tasks", TASKS), ("algorithms", ALGORITHMS)):
        code, listing, _ = pistar(command)
        assert code == 0
        for name in registry.names():
            cls = registry.get(name)
            assert f"{name} " in listing
            code, text, err = pistar(f"{command} {name}")
            assert (code, err) == (0, "")
            assert text.startswith(f"{name}: {cls.summary}")
            for field in field_types(cls):
                assert f"--{name}." in text
                assert field.replace("_", "-") in text
    assert "success" in pistar("tasks reacher")[1]
    assert "Schulman" in pistar("algorithms ppo")[1]


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_every_algorithm_says_which_paper_it_is_from(pistar, name):
    papers = ALGORITHMS.get(name).paper.split("; ")
    for paper in papers:
        named = re.match(r"([A-Z]\w+(?: et al\.)?) ((?:19|20)\d\d), ", paper)
        assert named, f"{name}: {paper!r} does not begin with authors and year"
        authors, year = named.groups()
        arxiv = re.search(r"arXiv:(\d\d)\d\d\.\d{4,5}(?=$|, )", paper)
        assert arxiv or int(year) < 2007, f"{name}: {paper} has no arXiv id"
        assert arxiv is None or int(year) >= 2000 + int(arxiv[1])  # printed when it was posted, or later
        for command in ("algorithms", f"algorithms {name}"):
            assert f"{authors} {year}" in " ".join(pistar(command)[1].split())


# ---- doctor ----------------------------------------------------------------------------------------------------------


def test_the_doctor_finds_a_healthy_world_healthy(pistar):
    code, out, _ = pistar("doctor CartPole-v1 --steps 50 --no-render --json")
    assert code == 0
    assert json.loads(out)
    code, out, _ = pistar("doctor CartPole-v1 --steps 50 --no-render")
    assert code == 0
    assert out.strip()

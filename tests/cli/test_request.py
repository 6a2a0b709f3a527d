"""What a ``pistar train`` command line resolves to, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest

from pistar import configuration
from pistar.cli import request
from pistar.errors import UsageError
from pistar.experiment import Experiment
from pistar.schedules import Schedule


def asked(line: str, *more: object) -> Experiment:
    return request.read([*line.split(), *map(str, more)], "usage: pistar train TASK").experiment


# ---- layers ----------------------------------------------------------------------------------------------------------


def test_defaults_recipes_file_and_flags_lie_over_each_other(tmp_path: Path):
    file = tmp_path / "my.toml"
    plain = asked("cartpole")
    assert plain.training.steps == 200_000  # the task's recipe over the default
    assert plain.algorithm.epochs == 4  # the algorithm's recipe for discrete actions over the default
    file.write_text("[training]\nsteps = 1e5\nlanes = 4\n[algorithm]\nepochs = 5\nclip = {from = 0.3, to = 0.1}\n")
    layered = asked("cartpole --lanes 6 --config", file)
    assert layered.training.steps == 100_000  # the file over the recipe
    assert layered.algorithm.epochs == 5
    assert layered.algorithm.clip == Schedule(0.3, 0.1, "linear")
    assert layered.training.lanes == 6  # flags over the file
    assert layered.training.horizon == plain.training.horizon


def test_a_flag_replaces_a_schedule_of_the_file_whole(tmp_path: Path):
    file = tmp_path / "my.toml"
    file.write_text('[training]\nlearning_rate = {from = 1e-3, to = 1e-4, shape = "cosine"}\n')
    assert asked("cartpole --config", file).training.learning_rate == Schedule(1e-3, 1e-4, "cosine")
    assert asked("cartpole --learning-rate 2e-3 --config", file).training.learning_rate == Schedule(
        2e-3, 2e-3, "constant"
    )
    assert asked("cartpole --learning-rate 1:0 --config", file).training.learning_rate == Schedule(1.0, 0.0, "linear")


def test_the_file_may_choose_the_algorithm_and_a_flag_another_one(tmp_path: Path):
    file = tmp_path / "my.toml"
    file.write_text('[algorithm]\nkind = "a2c"\ntrace = 0.5\n')
    assert asked("cartpole --config", file).algorithm.trace == 0.5
    assert asked("cartpole --a2c.discount 0.9 --config", file).algorithm.discount == 0.9
    other = asked("cartpole --algorithm ppo --config", file)
    assert other.to_table()["algorithm"]["kind"] == "ppo"
    assert other.algorithm.trace == 0.95  # nothing of another kind's table leaks in
    with pytest.raises(UsageError, match="but 'a2c' is chosen"):
        asked("cartpole --ppo.clip 0.1 --config", file)


def test_what_was_turned_off_stays_off_where_the_runs_file_is_the_config(tmp_path: Path):
    file = tmp_path / "experiment.toml"
    assert asked("pendulum").algorithm.max_kl == 0.03  # the algorithm's recipe for continuous actions
    off = asked("pendulum --ppo.max-kl none")
    assert off.algorithm.max_kl is None
    file.write_text(configuration.to_toml(off.to_table()))
    assert asked("pendulum --config", file) == off


def test_the_task_of_the_command_line_wins_over_the_files(run: Path):
    assert asked("cartpole --config", run / "experiment.toml").to_table()["task"]["kind"] == "cartpole"
    assert asked("CartPole-v1 --config", run / "experiment.toml").task.id == "CartPole-v1"


FILES = [
    ("[trainign]\nlanes = 2\n", "unknown table in .*my.toml: 'trainign'; did you mean 'training'"),
    ("[training]\nlames = 2\n", r"unknown key in \[training\] in .*my.toml: 'lames'; did you mean 'lanes'"),
    ('[training]\nlanes = "two"\n', r"lanes in \[training\] in .*my.toml: expected an integer"),
    ("[training]\nlanes = true\n", "expected an integer"),
    ("[training]\nlanes = 2.5\n", "expected an integer"),
    ("[training]\nlearning_rate = {from = 1}\n", "expected a number, {from"),
    ("[training]\nlearning_rate = [1, 0]\n", "expected a number, {from"),
    ('[training]\nstagger = "yes"\n', "expected true or false, received 'yes'"),
    ("[algorithm]\nklip = 2\n", "'klip'; did you mean 'clip'"),
    ('[algorithm]\nkind = "pppo"\n', "unknown algorithm 'pppo'; did you mean 'ppo'"),
    ("[algorithm]\nkind = 3\n", "kind in .algorithm. .*: expected one of a2c, .* received 3"),
    ("[policy]\nhidden = 3\n", "hidden in .*: expected list of int, received 3"),
    ("algorithm = 3\n", r"\[algorithm\] in .*: expected a table of settings"),
    ("lanes = 3\n", "unknown table in .*my.toml: 'lanes'"),
    ("[training\n", r"my\.toml is not valid TOML: .*line 1"),
    ("[training]\nlanes = \n", r"not valid TOML: .*line 2"),
    ("[evaluation]\nepisodes = 0\n", "episodes: expected at least 1, received 0"),
    ('[task]\nkind = "cartpole"\nlength = 3\n', "unknown key in .task. in .*my.toml"),
]


@pytest.mark.parametrize(("text", "message"), FILES)
def test_a_file_that_cannot_be_is_refused_by_name(tmp_path: Path, text: str, message: str):
    (tmp_path / "my.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        asked("cartpole --config", tmp_path / "my.toml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    for path, message in ((tmp_path / "absent.toml", "no such file: .*absent.toml"), (tmp_path, "cannot read")):
        with pytest.raises(UsageError, match=message):
            asked("cartpole --config", path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot read"):
        asked("cartpole --config", tmp_path / "bytes.toml")


# ---- refusals --------------------------------------------------------------------------------------------------------

REFUSED = [
    ("", "expected one argument, received none\nusage: pistar train TASK"),
    ("cartpole reacher", "expected one argument, received 2: cartpole reacher"),
    ("cartpol", "unknown task 'cartpol'; did you mean 'cartpole'"),
    ("CartPol-v1", "unknown environment 'CartPol-v1'; did you mean 'CartPole-v1'"),
    ("CartPole-v99", "unknown environment 'CartPole-v99'; did you mean"),
    ("nowhere:Nothing", "cannot import 'nowhere' for the task 'nowhere:Nothing': no such module"),
    (
        "pistar.tasks.cartpole:Cartpole",
        "unknown name in module pistar.tasks.cartpole 'Cartpole'; did you mean 'CartPole'",
    ),
    ("cartpole --algorithm pop", "unknown algorithm 'pop'; did you mean"),
    ("cartpole --policy mpl", "unknown policy 'mpl'; did you mean 'mlp'"),
    ("cartpole --lanse 2", "unknown flag --lanse; did you mean --lanes"),
    ("cartpole --clip 0.1", r"unknown flag --clip; did you mean --pp"),
    ("cartpole --ppo.klip 0.1", r"unknown flag --ppo\.klip; did you mean --ppo\.clip"),
    (
        "cartpole --a2c.trace 0.5",
        r"a2c\.trace: a setting of the algorithm 'a2c', but 'ppo' is chosen; drop it or choose",
    ),
    ("cartpole --algorithm a2c --ppo.clip 0.1", "but 'a2c' is chosen"),
    ("cartpole --linear-softmax.tilings 4", "a setting of the policy 'linear-softmax', but 'mlp' is chosen"),
    ("cartpole --gymnasium.adapter lanes", "a setting of the task 'gymnasium', but 'cartpole' is chosen"),
    ("cartpole --lanes 0", "lanes: expected at least 1, received 0"),
    ("cartpole --steps 0", "steps: expected at least 1, received 0"),
    ("cartpole --horizon -1", "horizon: expected at least 1, received -1"),
    ("cartpole --steps 1.5", "--steps: expected an integer, such as 16 or 1e6, received 1.5"),
    ("cartpole --learning-rate=-1", "learning_rate: expected at least 0, received -1.0"),
    ("cartpole --ppo.epochs 0", "epochs: expected at least 1, received 0"),
    ("cartpole --ppo.minibatch 0", "minibatch: expected at least 1, received 0"),
    ("cartpole --ppo.discount 1.1", "discount: expected a number from 0 to 1, received 1.1"),
    ("cartpole --ppo.clip 0.2:-0.1", "clip: expected at least 0, received -0.1"),
    ("cartpole --mlp.hidden 8 0", "hidden: expected at least 1, received 0"),
    ("cartpole --mlp.activation rely", "expected tanh | relu | elu | silu, received 'rely'; did you mean 'relu'"),
    ("cartpole --device tpu", "expected cpu | cuda, received 'tpu'"),
    ("cartpole --evaluation.final-episodes 0", "final_episodes: expected at least 1"),
    ("cartpole --checkpoints.keep 1", "keep: expected at least 2, received 1"),
    ("cartpole --time-limit soon", "expected a time such as 90s, 10m or 1h30m, received 'soon'"),
    ("cartpole --seeds 0", "--seeds: expected at least 1, received 0"),
    ("cartpole --lanes 2 --lanes 3", "--lanes is given twice"),
    ("cartpole --from /nowhere", "no such file or run: /nowhere"),
    ("cartpole --config /nowhere.toml", "no such file: /nowhere.toml"),
    ("gymnasium", "the task gymnasium needs an id"),
]


@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_what_cannot_be_done_is_refused_with_code_2_and_leaves_nothing(
    pistar, tmp_path: Path, monkeypatch, line, message
):
    monkeypatch.chdir(tmp_path)
    code, out, err = pistar(f"train {line}")
    assert (code, out) == (2, "")
    assert err.startswith("pistar: error: ")
    assert "Traceback" not in err
    assert message.replace("\\", "") in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("90", 90), ("10m", 600), ("1h30m", 5400), ("1h2m3.5s", 3723.5), ("0.5h", 1800)]
)
def test_times_have_units(text: str, seconds: float):
    assert asked(f"cartpole --time-limit {text}").training.time_limit == seconds


# ---- help ------------------------------------------------------------------------------------------------------------


def test_help_shows_the_values_that_the_run_would_have(pistar, tmp_path: Path):
    code, text, _ = pistar("train cartpole --lanes 6 --ppo.clip 0.3:0.1 --help")
    assert code == 0

    def default(flag: str) -> str:
        after = text[text.index(f"--{flag} ") :].split("\n  --")[0]
        return after[after.rindex("[") + 1 : after.rindex("]")]

    expected: dict[str, Any] = {
        "lanes int": "6",
        "ppo.clip schedule": "0.3:0.1",
        "steps int": "200000",
        "ppo.epochs int": "4",
    }
    assert {flag: default(flag) for flag in expected} == expected
    assert "--a2c." not in text
    assert "--mlp.hidden" in text
    assert "--a2c.trace" in pistar("train cartpole --algorithm a2c -h")[1]
    assert pistar("train --help --lanse 3")[0] == 0  # help does not fail over the mistake that it is asked for
    assert list(tmp_path.iterdir()) == []


def test_help_of_every_command_names_each_of_its_flags(pistar):
    for command in ("train", "resume", "evaluate", "watch", "tasks", "algorithms", "doctor"):
        code, text, err = pistar(f"{command} --help")
        assert (code, err) == (0, "")
        assert text.startswith(f"usage: pistar {command}")
        assert pistar(f"help {command}")[1] == text

"""The Python surface: what ``import pistar`` offers, and that it is the command line's twin."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

import pistar
from pistar.algorithms.ppo import PPO
from pistar.cli import main
from pistar.errors import ArtefactError, UnknownName, UsageError
from pistar.schedules import Schedule
from pistar.tasks.cartpole import CartPole
from pistar.tasks.gymnasium import Gymnasium

SMALL = {
    "steps": 256,
    "lanes": 2,
    "horizon": 32,
    "warm_up": 16,
    "evaluation": {"episodes": 2, "final_episodes": 2},
    "ppo": {"epochs": 2},
    "quiet": True,
}


def equal_weights(one: Path, other: Path) -> bool:
    mine, theirs = (pistar.load(path).state_dict() for path in (one, other))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


# ---- names -----------------------------------------------------------------------------------------------------------


def test_public_names_are_sorted_and_each_is_found_where_it_is_said_to_be():
    assert pistar.__all__ == sorted(pistar.__all__)
    for name in pistar.__all__:
        value = getattr(pistar, name)
        if name != "__version__":
            assert value.__module__ == pistar._HOME[name]
            assert inspect.getdoc(value)
    assert set(pistar.__all__) <= set(dir(pistar))


def test_type_checkers_are_told_the_same_names_as_the_interpreter():
    source = ast.parse(Path(pistar.__file__).read_text())
    (block,) = [node for node in source.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    told = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told == pistar._HOME
    assert set(told) | {"__version__"} == set(pistar.__all__)


def test_a_name_that_does_not_exist_is_answered_with_the_nearest():
    with pytest.raises(AttributeError, match=r"no attribute 'trian'; did you mean 'train'\?"):
        pistar.trian  # noqa: B018
    assert not hasattr(pistar, "zzzz")


def test_importing_pistar_and_making_an_experiment_imports_no_torch():
    code = (
        "import sys, pistar; assert 'gymnasium' not in sys.modules; dir(pistar); pistar.make_experiment('reacher', lanes=4)"
        "; assert not {'torch', 'gymnasium'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- train -----------------------------------------------------------------------------------------------------------


def test_a_call_and_a_command_line_are_the_same_run(tmp_path: Path):
    toml = tmp_path / "my.toml"
    toml.write_text("[training]\nlearning_rate = {from = 1e-3, to = 0.0}\nseed = 7\n[algorithm]\nepochs = 9\n")
    seen = []
    result = pistar.train(
        "cartpole",
        config=toml,
        out=tmp_path / "call",
        ppo={"clip": "0.3:0.1", "epochs": 2},
        mlp={"hidden": (16, 16)},
        on_iteration=seen.append,
        **{key: value for key, value in SMALL.items() if key not in ("ppo", "seed")},
    )
    line = (
        f"train cartpole --config {toml} --out {tmp_path / 'line'} --ppo.clip 0.3:0.1 --ppo.epochs 2 --mlp.hidden 16 16"
    )
    line += (
        " --steps 256 --lanes 2 --horizon 32 --warm-up 16 --evaluation.episodes 2 --evaluation.final-episodes 2 --quiet"
    )
    assert main(line.split()) == 0
    texts = [(tmp_path / name / "experiment.toml").read_text().split("[run]")[0] for name in ("call", "line")]
    assert texts[0] == texts[1]
    assert "seed = 7" in texts[0]
    assert equal_weights(tmp_path / "call", tmp_path / "line")
    assert [progress.iteration for progress in seen] == [1, 2, 3, 4]
    assert [progress.steps for progress in seen] == [64, 128, 192, 256]
    assert seen[-1].record["update/epochs"] == 2
    assert (result.directory, result.steps, result.reason) == (tmp_path / "call", 256, "steps")
    assert set(result.evaluation.baselines) == {"random"}


def test_a_callback_ends_the_run_and_resume_finishes_it(tmp_path: Path):
    whole = pistar.train("CartPole-v1", out=tmp_path / "whole", **SMALL)
    cut = pistar.train("CartPole-v1", out=tmp_path / "cut", on_iteration=lambda now: now.iteration == 2, **SMALL)
    assert (cut.reason, cut.steps) == ("callback", 128)
    rest = pistar.resume(tmp_path / "cut", quiet=True)
    assert (rest.reason, rest.steps) == ("steps", 256)
    assert equal_weights(tmp_path / "whole", tmp_path / "cut")
    assert whole.evaluation == rest.evaluation


def test_the_place_is_the_next_free_one_of_the_command_line(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = [pistar.train("CartPole-v1", **{**SMALL, "steps": 64, "seed": 5}).directory for _ in range(2)]
    assert places == [Path("runs/CartPole-v1-ppo-5"), Path("runs/CartPole-v1-ppo-5-2")]
    with pytest.raises(UsageError, match="exists already"):
        pistar.train("CartPole-v1", out=places[0], **SMALL)


def test_start_from_gives_the_first_weights(tmp_path: Path):
    pistar.train("CartPole-v1", out=tmp_path / "first", **SMALL)
    still = {**SMALL, "learning_rate": 0.0, "warm_up": 0, "mlp": {"normalize": False}}
    pistar.train("CartPole-v1", out=tmp_path / "plain", **still)
    with pytest.raises(UsageError, match="built otherwise"):
        pistar.train("CartPole-v1", out=tmp_path / "other", start_from=tmp_path / "first", **still)
    assert not (tmp_path / "other").exists()
    pistar.train("CartPole-v1", out=tmp_path / "next", start_from=tmp_path / "plain", **still)
    assert equal_weights(tmp_path / "plain", tmp_path / "next")
    with pytest.raises(UsageError, match="no such file or run"):
        pistar.train("CartPole-v1", out=tmp_path / "last", start_from=tmp_path / "absent", **SMALL)


@pytest.mark.parametrize(
    "keywords",
    [
        {"lanes": np.int64(3), "learning_rate": np.float64(0.5)},
        {"training": {"lanes": 3, "learning_rate": 0.5}},
        {"lanes": 3.0, "learning_rate": Schedule(0.5, 0.5, "constant")},
        {"lanes": 3, "learning_rate": "0.5"},
    ],
)
def test_settings_have_many_spellings_and_one_meaning(keywords):
    made = pistar.make_experiment("cartpole", **keywords)
    assert made.training.lanes == 3
    assert made.training.learning_rate == Schedule(0.5, 0.5, "constant")


def test_tasks_algorithms_and_policies_may_be_instances():
    algorithm = PPO(epochs=3, max_kl=0.25)
    made = pistar.make_experiment(CartPole(), algorithm=algorithm, policy="mlp")
    assert made.task == CartPole()
    assert made.algorithm == algorithm
    options = Gymnasium("CartPole-v1", options={"sutton_barto_reward": True})
    assert pistar.make_experiment(options).task == options
    assert pistar.make_experiment("cartpole", algorithm={"kind": "a2c", "trace": 0.5}).algorithm.trace == 0.5


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"lames": 3}, "unknown setting 'lames'; did you mean 'lanes'"),
        ({"ppo": {"klip": 0.1}}, "unknown key .* 'klip'; did you mean 'clip'"),
        ({"lanes": "many"}, "lanes in .* expected an integer, such as 16 or 1e6, received 'many'"),
        ({"lanes": True}, "expected an integer"),
        ({"a2c": {"trace": 0.5}}, "a setting of the algorithm 'a2c', but 'ppo' is chosen"),
        ({"algorithm": "pppo"}, "unknown algorithm 'pppo'; did you mean 'ppo'"),
        ({"ppo": 3}, "ppo: expected a table of settings"),
        ({"algorithm": "a2c", "ppo": {"clip": 0.1}}, "but 'a2c' is chosen"),
        ({"ppo": {"epochs": 0}}, "epochs: expected at least 1, received 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_what_could_be(keywords, message):
    with pytest.raises(UsageError, match=message):
        pistar.make_experiment("cartpole", **keywords)


def test_a_task_that_does_not_exist_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'reacher'"):
        pistar.make_experiment("reach")
    with pytest.raises(UnknownName, match="did you mean 'CartPole-v1'"):
        pistar.make_experiment("CartPol-v1")


# ---- load and evaluate -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("api") / "run"
    pistar.train("CartPole-v1", out=path, **SMALL)
    return path


def test_a_loaded_policy_acts_in_a_plain_gymnasium_loop(run: Path):
    policy = pistar.load(run)
    environment = gymnasium.make("CartPole-v1")
    observation, _ = environment.reset(seed=0)
    total, ended = 0.0, False
    while not ended:
        action, memory = policy.act(observation)
        assert memory is None
        observation, reward, terminated, truncated, _ = environment.step(action)
        total, ended = total + float(reward), terminated or truncated
    assert total > 0
    many = np.stack([observation, np.zeros(4, np.float32)])
    actions, _ = policy.act(many)
    assert isinstance(actions, np.ndarray)
    assert actions.tolist() == [int(policy.act(row)[0]) for row in many]


def test_a_policy_a_file_and_a_run_are_judged_alike(run: Path):
    judged = [
        pistar.evaluate(run, episodes=4),
        pistar.evaluate(str(run / "policy.safetensors"), episodes=4),
        pistar.evaluate(pistar.load(run), "CartPole-v1", episodes=4),
        pistar.evaluate(pistar.load(run), Gymnasium("CartPole-v1"), episodes=4),
    ]
    assert all(each == judged[0] for each in judged)
    assert judged[0].episodes == 4
    assert pistar.evaluate(run, "cartpole", episodes=4).task == "cartpole"
    assert pistar.evaluate(run, episodes=4, seed=1).returns != judged[0].returns


def test_what_cannot_be_judged_or_loaded_says_why(run: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="does not say which task it is for; pass task="):
        pistar.evaluate(pistar.load(run))
    with pytest.raises(UsageError, match="no such file or run"):
        pistar.evaluate(tmp_path / "absent")
    with pytest.raises(UsageError, match=r"holds no policy\.safetensors"):
        pistar.evaluate(tmp_path)
    with pytest.raises(UsageError, match=r"the policy is for .* but Reacher-v5 has .* name a task"):
        pistar.evaluate(run, "reacher")
    with pytest.raises(ArtefactError, match="no such file"):
        pistar.load(tmp_path)
    with pytest.raises(pistar.PistarError):
        pistar.load(tmp_path / "absent")

"""The off-policy seam: a DQN written outside the package (`dqn.py` beside this file) needs nothing that is not there."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import dqn
import pytest
import torch
from torch import Tensor, nn

import pistar
from pistar import artefact, training
from pistar.algorithms.algorithm import Loss
from pistar.checkpoint import Checkpoints
from pistar.envs.environment import Spaces
from pistar.errors import ArtefactError
from pistar.experiment import Experiment, read, resolve
from pistar.learner import Learner
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.replay import Transitions
from pistar.tasks.task import Execution
from pistar.testing import check_algorithm
from pistar.testing.algorithms.worlds import Corridor

CORRIDOR = "pistar.testing.algorithms.worlds:Corridor"


def test_dqn_keeps_the_contract_and_learns() -> None:
    check_algorithm(dqn.DQN(steps_per_update=8, minibatch=64), quick=True, training={"steps": 6000})


@pytest.mark.slow
@pytest.mark.parametrize("double", [False, True])
def test_dqn_learns_cartpole(double: bool) -> None:
    check_algorithm(dqn.DQN(double=double))


def experiment(**settings: Any) -> Experiment:
    """A short run whose iterations do not align with its episodes."""
    table = {
        "algorithm": {"kind": "dqn:DQN", "minibatch": 16, "replay_capacity": 50, **settings},
        "policy": {"kind": "mlp", "hidden": [8]},
        "training": {"steps": 1024, "warm_up": 32},
        "evaluation": {"episodes": 4, "final_episodes": 4},
        "checkpoints": {"every": 3},
    }
    return resolve({"kind": CORRIDOR}, (table, "the test"))


def test_the_file_names_the_policy_that_was_trained_and_wants_to_be_trusted(tmp_path: Path) -> None:
    result = training.train(experiment(), tmp_path / "run", quiet=True)
    configured = read(tmp_path / "run" / "experiment.toml").policy
    assert isinstance(configured, MLP)
    assert result.policy.kind == dqn.QNetwork((8,), "relu", True)
    with pytest.raises(ArtefactError, match="dqn:QNetwork"):
        artefact.load(tmp_path / "run")
    policy = artefact.load(tmp_path / "run", trust="dqn:QNetwork")
    assert isinstance(policy, dqn.EpsilonGreedy)
    assert policy.kind == result.policy.kind
    places = torch.linspace(-1, 1, 8).unsqueeze(-1)
    assert torch.equal(policy.outputs(places)[0], result.policy.outputs(places)[0])

    # A run that itself names the code starts from such a file; any other run must not import it.
    again = training.train(experiment(), tmp_path / "again", start_from=tmp_path / "run", quiet=True)
    assert again.policy.kind == result.policy.kind
    other = resolve({"kind": CORRIDOR}, ({"policy": {"kind": "mlp", "hidden": [8]}}, "the test"))
    with pytest.raises(ArtefactError, match="nothing was imported"):
        training.train(other, tmp_path / "other", start_from=tmp_path / "run", quiet=True)


class Stop(Exception):
    """Raised in mid-run by a test."""


def test_a_run_that_died_continues_bit_for_bit_with_replay_and_target(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    training.train(experiment(), whole, quiet=True)

    def die(progress: training.Progress) -> bool:
        if progress.iteration == 20:  # 18 is the last checkpoint; the ring of 50 steps is full since 13
            raise Stop
        return False

    with pytest.raises(Stop):
        training.train(experiment(), broken, quiet=True, on_iteration=die)
    training.resume(broken, quiet=True)
    mine, theirs = (Checkpoints(run / "checkpoints").load() for run in (whole, broken))
    assert mine["replay"]["size"] == 50
    assert torch.equal(mine["learner"]["parameters"], theirs["learner"]["parameters"])
    assert torch.equal(mine["learner"]["buffers"]["epsilon"], theirs["learner"]["buffers"]["epsilon"])
    assert all(torch.equal(mine["replay"]["storage"][n], x) for n, x in theirs["replay"]["storage"].items())
    records = [
        [{**json.loads(line), "time": None} for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (whole, broken)
    ]
    assert records[0] == records[1]


# The algorithm itself, by hand.


@pytest.fixture
def policy() -> dqn.EpsilonGreedy:
    environment = Corridor().environment(1, Execution(), training=True)
    spaces = Spaces(environment.spaces.observation, environment.spaces.action)
    built = dqn.QNetwork(hidden=(), normalize=False).build(spaces, torch.Generator().manual_seed(0))
    assert isinstance(built, dqn.EpsilonGreedy)
    online, target = built.online.layers[0], built.target.layers[0]
    assert isinstance(online, nn.Linear)
    assert isinstance(target, nn.Linear)
    with torch.no_grad():
        online.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        online.bias.copy_(torch.tensor([0.0, 0.5]))
        target.weight.copy_(torch.tensor([[2.0], [0.0]]))
        target.bias.copy_(torch.tensor([0.0, 3.0]))
    return built


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_it_acts_at_random_with_probability_epsilon_and_its_mode_is_greedy(
    policy: dqn.EpsilonGreedy, epsilon: float
) -> None:
    policy.epsilon.fill_(epsilon)
    distribution = policy.head(policy.outputs(torch.tensor([[0.5], [0.0]]))[0])  # Q = (0.5, 0) and (0, 0.5)
    greedy, other = 1 - epsilon / 2, epsilon / 2
    assert torch.allclose(distribution.probability, torch.tensor([[greedy, other], [other, greedy]]))
    if epsilon < 1:
        assert distribution.mode().tolist() == [0, 1]


@pytest.mark.parametrize(("double", "follows"), [(True, 2.0), (False, 3.0)])
def test_the_target_is_that_of_the_paper(policy: dqn.EpsilonGreedy, double: bool, follows: float) -> None:
    # After the step s' = 1: online prefers action 0 (1 against -0.5); the target values are 2 and 3.
    batch = Transitions(
        observation=torch.tensor([[0.5], [0.5], [0.5]]),
        action=torch.tensor([0, 1, 0]),
        reward=torch.tensor([1.0, 0.25, 9.0]),
        terminated=torch.tensor([False, True, False]),
        next_observation=torch.tensor([[1.0], [1.0], [1.0]]),
        weight=torch.tensor([1.0, 1.0, 0.0]),
    )
    loss, _ = dqn.DQN(double=double, discount=0.9).loss(policy, batch)
    first = abs(0.5 - (1.0 + 0.9 * follows)) - 0.5  # Huber beyond 1
    second = 0.5 * (0.0 - 0.25) ** 2
    assert float(loss.detach()) == pytest.approx((first + second) / 2)


def test_only_the_online_network_is_descended_and_the_target_trails_it(policy: dqn.EpsilonGreedy) -> None:
    def squared(_: Policy, batch: Tensor) -> Loss:
        return (policy.online(batch) ** 2).sum(), {}

    learner = Learner(policy, learning_rate=0.1)
    online, target = learner.vector("online").clone(), learner.vector("target").clone()
    learner.descend(squared, torch.ones(1, 1))
    assert not torch.equal(learner.vector("online"), online)
    assert torch.equal(learner.vector("target"), target)
    learner.track("target", "online", 0.25)
    assert torch.allclose(learner.vector("target"), target + 0.25 * (learner.vector("online") - target))


def test_nothing_in_the_package_knows_of_it() -> None:
    package = Path(pistar.__file__).parent
    assert [path for path in package.rglob("*.py") if "dqn" in path.read_text().lower()] == []


def test_it_is_as_short_as_is_claimed() -> None:
    tree = ast.parse(Path(dqn.__file__).read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert sum((node.end_lineno or 0) - node.lineno + 1 for node in classes) <= 95

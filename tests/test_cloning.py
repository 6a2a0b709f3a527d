"""A clone does what it was shown: against closed forms, with every feature of a policy, and as the start of a run."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composed_world import ComposedWorld, spaces_of
from gymnasium import spaces
from test_composition import TINY, Cell, covering

import pistar
from pistar import demonstrations, lessons
from pistar.cloning import clone
from pistar.demonstrations import Episode
from pistar.envs.environment import Spaces
from pistar.errors import UsageError
from pistar.evaluation import controller
from pistar.experiment import CloningSettings
from pistar.following import follow
from pistar.normalization import RewardScale
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.recording import record

BOX = Spaces(spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Box(-np.inf, np.inf, (2,), np.float32))


def linear(count: int, noise: float = 0.3, seed: int = 0) -> tuple[list[Episode], np.ndarray, np.ndarray]:
    """Episodes of a linear controller with noise, and the best linear fit of what it did."""
    stream = np.random.default_rng(seed)
    gain = np.array([[0.5, -0.2], [0.1, 0.4], [-0.3, 0.2]])
    episodes = []
    for _ in range(count):
        seen = stream.normal(size=(21, 3)).astype(np.float32)
        action = seen[:-1] @ gain + 0.1 + noise * stream.normal(size=(20, 2))
        episodes.append(Episode(seen, action.astype(np.float32), np.ones(20, np.float32), True))
    x = np.concatenate([np.c_[e.observation[:-1], np.ones(20)] for e in episodes])
    y = np.concatenate([e.action for e in episodes])
    fit = np.linalg.lstsq(x, y, rcond=None)[0]
    return episodes, fit, (y - x @ fit).std(0)


def build(space: Spaces, **options: Any) -> Policy:
    return MLP(**options).build(space, torch.Generator().manual_seed(0))


def test_a_linear_gaussian_becomes_the_least_squares_fit_and_its_deviation_that_of_the_residuals():
    episodes, fit, residual = linear(20)
    policy = build(BOX, hidden=(), normalize=False)
    settings = CloningSettings(passes=60, minibatch=400, learning_rate=0.03, held_out=0.0, exploration="fitted")
    clone(policy, episodes, settings, discount=0.9, scale=None, seed=0)
    clone(policy, episodes, replace(settings, learning_rate=0.002), discount=0.9, scale=None, seed=0)
    layer: Any = policy.actor.layers[-1]  # type: ignore[union-attr]
    assert np.allclose(layer.weight.detach().numpy(), fit[:3].T, atol=5e-3)
    assert np.allclose(layer.bias.detach().numpy(), fit[3], atol=5e-3)
    assert np.allclose(policy.head.log_std.exp().detach().numpy(), residual, rtol=0.02)  # type: ignore[union-attr]


def test_the_exploration_of_the_start_is_given_back_unless_the_fitted_one_is_wanted():
    episodes, _, residual = linear(10)
    for wanted, expected in (("initial", math.exp(-0.5)), ("fitted", float(residual.mean()))):
        policy = build(BOX, hidden=(8,))
        settings = CloningSettings(passes=60, minibatch=20, learning_rate=0.01, exploration=wanted)  # type: ignore[arg-type]
        clone(policy, episodes, settings, discount=0.9, scale=None, seed=0)
        assert float(policy.head.bounded_log_std().detach().exp().mean()) == pytest.approx(expected, rel=0.1)  # type: ignore[union-attr]


def test_the_pass_that_counts_is_the_one_under_which_held_out_episodes_are_likeliest():
    episodes, _, _ = linear(6, noise=1.0)
    settings = CloningSettings(passes=200, minibatch=16, learning_rate=0.01, held_out=0.3, patience=4)
    policy = build(BOX, hidden=(64, 64))
    outcome = clone(policy, episodes, settings, discount=0.9, scale=None, seed=0)
    passes = [r["log_likelihood"] for r in outcome.records if r["phase"] == "policy"]
    assert outcome.summary["held_out"] == 2
    assert len(passes) < 200  # noise cannot be learned: it stops
    assert len(passes) - 1 - int(np.argmax(passes)) == 4
    errors = [r["value_error"] for r in outcome.records if r["phase"] == "critic"]
    assert outcome.summary["value_error"] == pytest.approx(min(errors), rel=1e-4)
    assert outcome.summary["log_likelihood"] == pytest.approx(max(passes), rel=1e-4)


def test_the_critic_is_fitted_to_the_recorded_returns_and_rewards_are_scaled_as_in_training():
    stream = np.random.default_rng(0)
    episodes = []
    for _ in range(40):
        seen = np.zeros((11, 3), np.float32)
        seen[:, 0], seen[:, 1] = np.arange(11) / 10, stream.normal()
        episodes.append(Episode(seen, np.zeros((10, 2), np.float32), np.full(10, seen[0, 1]), True))
    policy, scale = build(BOX, hidden=(32,)), RewardScale(2, 0.9)
    settings = CloningSettings(passes=80, minibatch=64, learning_rate=0.01)
    clone(policy, episodes, settings, discount=0.9, scale=scale, seed=0)
    here = torch.tensor([[0.0, 1.0, 0.0], [0.9, -1.0, 0.0]])
    expected = torch.tensor([(1 - 0.9**10) / (1 - 0.9), -1.0]) * scale.factor
    assert torch.allclose(policy.value(here), expected, atol=0.15)
    assert scale.factor != 1.0


def test_returns_of_episodes_that_were_cut_go_on_by_the_value_of_what_was_seen_last():
    episodes = [replace(linear(1, seed=k)[0][0], terminated=k == 0) for k in range(3)]
    policy = build(BOX, hidden=(8,))
    material = lessons.pack(episodes, policy)
    batch = lessons.Lessons(policy, material, None, 0.9).batch()
    assert batch.weight is None
    assert len(batch.target) == 60
    expected = []
    for episode in episodes:
        after = 0.0 if episode.terminated else float(policy.value(torch.as_tensor(episode.observation[-1:])))
        backwards = []
        for reward in episode.reward[::-1]:
            after = float(reward) + 0.9 * after
            backwards.append(after)
        expected += backwards
    assert torch.allclose(batch.target.sort().values, torch.tensor(expected).sort().values, atol=1e-4)


@pytest.mark.parametrize("burn_in", [0, 3])
@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_a_memory_reads_every_recorded_episode_from_its_start(memory: str, burn_in: int):
    policy = build(BOX, hidden=(8,), memory=memory, memory_size=5, segment=4, burn_in=burn_in)
    lengths = (3, 9, 6, 1)
    episodes = [
        Episode(e.observation[: n + 1], e.action[:n], e.reward[:n], True)
        for n, e in zip(lengths, linear(4)[0], strict=True)
    ]
    batch = lessons.Lessons(policy, lessons.pack(episodes, policy), None, 0.9).batch()
    with torch.no_grad():
        together = policy.evaluate(batch.observation, batch.action).log_prob[batch.weight > 0]
        alone = []
        for episode in episodes:
            first = torch.zeros(len(episode), 1, dtype=torch.bool)
            seen = torch.as_tensor(episode.observation[:-1]).unsqueeze(1)
            whole = replace(policy.kind, segment=1).build(policy.spaces, torch.Generator())
            whole.load_state_dict(policy.state_dict())
            outputs = follow(whole, seen, first).outputs
            alone.append(policy.head(outputs).log_prob(torch.as_tensor(episode.action).unsqueeze(1)).flatten())
    assert torch.allclose(together.sort().values, torch.cat(alone).sort().values, atol=1e-5)


@pytest.mark.parametrize("cell", covering(), ids=lambda cell: cell.name)
def test_every_kind_of_policy_can_be_cloned(cell: Cell):
    space = spaces_of(cell.observation, cell.action, cell.mask)
    world = ComposedWorld(space, 2, cell.agents)
    shown = replace(cell.kind(), last_gain=3.0).build(space, torch.Generator().manual_seed(4))  # prefers some actions
    episodes = record(world, controller(shown, True, 0), 12, 0)
    policy = cell.kind().build(space, torch.Generator().manual_seed(0))
    settings = CloningSettings(passes=8, minibatch=16, learning_rate=0.01, held_out=0.0)
    outcome = clone(policy, episodes, settings, discount=0.9, scale=None, seed=0)
    likelihoods = [r["log_likelihood"] for r in outcome.records if r["phase"] == "policy"]
    assert all(map(math.isfinite, likelihoods))
    assert likelihoods[-1] > likelihoods[0]
    assert ("accuracy" in outcome.summary) == (cell.action != "continuous")
    assert ("action_error" in outcome.summary) == (cell.action != "discrete")
    assert TINY["hidden"] == (8,)


# ---- runs that begin with a clone ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demos(tmp_path_factory) -> Path:
    """Poles balanced by a rule of thumb."""
    place = tmp_path_factory.mktemp("demonstrations") / "demos"
    from pistar.envs.cartpole import CartPole

    def rule(seen: torch.Tensor) -> torch.Tensor:
        return (seen[:, 2] + 0.5 * seen[:, 3] + 0.05 * seen[:, 0] + 0.1 * seen[:, 1] > 0).long()

    demonstrations.write(place, record(CartPole(8), rule, 1, 0), CartPole(1).spaces)
    return place


SHORT: dict[str, Any] = {
    "steps": 4 * 256,
    "lanes": 4,
    "horizon": 64,
    "evaluation": {"every": 0, "final_episodes": 5},
    "checkpoints": {"every": 2},
    "cloning": {"passes": 3, "patience": 2, "minibatch": 64},
    "quiet": True,
}


def test_a_run_begins_with_a_clone_that_balances_and_reports_it(demos: Path, tmp_path: Path):
    settings = {**SHORT, "cloning": {}, "steps": 256}
    pistar.train("cartpole", demonstrations=demos, out=tmp_path / "run", **settings)
    lines = [json.loads(line) for line in (tmp_path / "run" / "cloning.jsonl").read_text().splitlines()]
    assert lines[-1]["phase"] == "chosen"
    assert lines[-1]["accuracy"] > 0.9
    assert lines[-1]["digest"] == demonstrations.digest(
        demonstrations.read(demos, pistar.load(tmp_path / "run").spaces)
    )
    assert pistar.evaluate(tmp_path / "run" / "cloned.safetensors", episodes=10).mean > 300


@pytest.mark.parametrize("more", [{}, {"mlp": {"memory": "gru", "memory_size": 8}}, {"lag": 1}])
def test_it_resumes_bit_for_bit_even_where_the_demonstrations_are_gone(more: Any, demos: Path, tmp_path: Path):
    class Stop(Exception):
        pass

    def stop(progress: pistar.Progress) -> None:
        if progress.iteration == 3:
            raise Stop

    gone = tmp_path / "demos"
    shutil.copytree(demos, gone)
    with pytest.raises(Stop):
        pistar.train("cartpole", demonstrations=gone, out=tmp_path / "cut", on_iteration=stop, **SHORT, **more)
    whole = pistar.train("cartpole", demonstrations=gone, out=tmp_path / "whole", **SHORT, **more)
    shutil.rmtree(gone)
    resumed = pistar.resume(tmp_path / "cut", quiet=True)
    for mine, theirs in zip(resumed.policy.state_dict().values(), whole.policy.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    assert resumed.evaluation.returns == whole.evaluation.returns


def test_demonstrations_of_another_task_are_refused_before_anything_is_made(demos: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="do not fit"):
        pistar.train("arm-reach", demonstrations=demos, out=tmp_path / "run", **SHORT)
    assert not (tmp_path / "run").exists()

"""A memory where agents act in turn: each agent's own stream of turns, read one after another, is the reference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("pettingzoo", reason="needs pip install 'pistar[multi]'")
sys.path.append(str(Path(__file__).parent / "envs"))
from agents import Echo, Nim

from pistar import serialization
from pistar.collector import Collector
from pistar.envs.pettingzoo import PettingZoo
from pistar.evaluation import PolicyController
from pistar.experiment import resolve
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.rollout import Rollout
from pistar.session import Session
from pistar.tree import leaves, map_leaves

SEED, WORLDS, SEGMENT = 3, 3, 4


def collector(make: Any, memory: str = "gru", **kind: Any) -> Collector:
    agents = len(make().possible_agents)
    environment = PettingZoo(make, WORLDS * agents)
    masked = {"mask": "action_mask"} if make is Nim else {}
    settings = {"hidden": (8,), "normalize": False, "memory_size": 5, "segment": SEGMENT, **masked, **kind}
    policy = MLP(memory=memory, **settings).build(environment.spaces, torch.Generator().manual_seed(0))
    made = Collector(environment, policy, seed=SEED)
    made.start()
    return made


def log_probs_one_after_another(policy: Policy, rollouts: list[Rollout], lane: int) -> tuple[list[float], list[float]]:
    """(recorded, recomputed) of the own turns of one lane, with a memory that sees nothing but them."""
    recorded, again, memory = [], [], policy.initial_memory(1)
    for rollout in rollouts:
        weight = torch.ones(rollout.shape) if rollout.weight is None else rollout.weight
        for t in torch.nonzero(weight[:, lane]).flatten().tolist():
            seen = map_leaves(lambda x, t=t: x[t, lane : lane + 1], rollout.observation)
            with torch.no_grad():
                outputs, memory = policy.outputs(seen, memory, rollout.is_first[t, lane : lane + 1])
                again.append(float(policy.head(outputs).log_prob(rollout.action[t, lane : lane + 1])))
            recorded.append(float(rollout.log_prob[t, lane]))
    return recorded, again


def as_learned(policy: Policy, rollout: Rollout) -> Tensor:
    return rollout.log_probs(policy)


@pytest.mark.parametrize("make", [Nim, Echo])
@pytest.mark.parametrize("memory", ["gru", "lstm"])
@pytest.mark.parametrize("burn_in", [0, 3])
def test_a_memory_waits_through_the_turns_of_others(make: Any, memory: str, burn_in: int) -> None:
    collecting = collector(make, memory, burn_in=burn_in)
    rollouts = [collecting.collect(horizon) for horizon in (7, 2, 8, 1, 2, 8)]
    padded = 0
    for rollout in rollouts:
        weight = torch.ones(rollout.shape) if rollout.weight is None else rollout.weight
        assert rollout.shape[0] % SEGMENT == 0
        assert rollout.late is not None
        padded += int((rollout.late % SEGMENT).sum())
        assert ((as_learned(collecting.policy, rollout) - rollout.log_prob) * weight).abs().max() < 1e-5
    assert padded > 0  # segments that begin with padding occur
    turns = 0
    for lane in range(collecting.environment.lanes):
        recorded, again = log_probs_one_after_another(collecting.policy, rollouts, lane)
        assert recorded == pytest.approx(again, abs=1e-5)
        turns += len(recorded)
    assert turns > 50


def test_the_whole_rollout_reads_as_one_segment() -> None:
    collecting = collector(Nim)
    for horizon in (7, 2, 5, 1):
        rollout = collecting.collect(horizon)
        weight = torch.ones(rollout.shape) if rollout.weight is None else rollout.weight
        with torch.no_grad():
            again = collecting.policy.evaluate(rollout.sequence(), rollout.action).log_prob
        assert ((again - rollout.log_prob) * weight).abs().max() < 1e-5


def test_values_along_a_lane_are_those_of_its_own_turns() -> None:
    """V after a turn is V at the lane's next turn, with the memory after it, across the rollout's edge too."""
    collecting = collector(Nim)
    policy, checked, awaited = collecting.policy, 0, {}
    for horizon in (6, 1, 5, 2, 7, 6):
        rollout = collecting.collect(horizon)
        here, after = rollout.values(policy)
        weight = torch.ones(rollout.shape) if rollout.weight is None else rollout.weight
        for lane in range(rollout.shape[1]):
            rows = torch.nonzero(weight[:, lane]).flatten().tolist()
            if lane in awaited and rows:
                assert float(here[rows[0], lane]) == pytest.approx(awaited.pop(lane), abs=1e-5)
                checked += 1
            for t, following in zip(rows, [*rows[1:], None], strict=False):
                if rollout.ended[t, lane]:
                    continue
                if following is None:
                    awaited[lane] = float(after[t, lane])
                else:
                    assert float(after[t, lane]) == pytest.approx(float(here[following, lane]), abs=1e-5)
    assert checked > 5


def test_playing_keeps_a_memory_for_each_agent() -> None:
    """Beside agents that have a controller each and are asked in their own turns only."""
    environment = PettingZoo(Nim, 3)
    kind = MLP(hidden=(8,), memory="gru", memory_size=5, mask="action_mask")
    policy = kind.build(environment.spaces, torch.Generator().manual_seed(0))
    shared, own = PolicyController(policy, True, 0), [policy.initial_memory(1) for _ in range(3)]
    observation, fresh = map_leaves(torch.clone, environment.reset(5)), [True] * 3
    for _ in range(60):
        action = shared(observation)
        step = environment.step(action)
        assert step.valid is not None
        lane = int(step.valid.nonzero())
        seen = map_leaves(lambda x, lane=lane: x[lane : lane + 1], observation)
        with torch.no_grad():
            outputs, own[lane] = policy.outputs(seen, own[lane], torch.tensor([fresh[lane]]))
            assert int(policy.head(outputs).mode()) == int(action[lane])
        fresh[lane] = False
        fresh = [bool(ended) or old for ended, old in zip(step.ended, fresh, strict=True)]
        shared.follow(step, environment.turn_based)
        observation = map_leaves(torch.clone, step.observation)


@pytest.mark.parametrize("algorithm", ["ppo", "impala", "reinforce", "ppg"])
def test_a_restored_session_goes_on_bit_for_bit(algorithm: str, tmp_path: Path) -> None:
    tables = {
        "algorithm": {"kind": algorithm},
        "policy": {"kind": "mlp", "memory": "lstm", "memory_size": 6, "segment": 4, "hidden": [8]},
        "training": {"steps": 4000, "lanes": 6, "horizon": 12, "warm_up": 20},
    }
    plan = resolve({"kind": "pettingzoo", "id": "agents:Nim"}, (tables, "the test"))
    whole = Session(plan)
    whole.collector.start(20)
    for _ in range(3):
        whole.iterate(cut=False)
    serialization.write(tmp_path / "state", whole.checkpoint(), "test")
    state, _ = serialization.read(tmp_path / "state", "test")
    other = Session(plan)
    other.restore(state)
    for _ in range(3):
        rollout, metrics = whole.iterate(cut=False)
        again, same = other.iterate(cut=False)
        restored = dict(leaves(again.memory))
        assert all(torch.equal(mine, restored[path]) for path, mine in leaves(rollout.memory))
        assert metrics == same
    assert torch.equal(whole.learner.parameters, other.learner.parameters)
    whole.close()
    other.close()


def test_what_waits_for_its_outcome_keeps_the_version_that_chose_it() -> None:
    collecting = collector(Nim)
    seen: list[tuple[int, int]] = []
    for version in range(4):
        collecting.version = version
        rollout = collecting.collect(4)
        assert rollout.version is not None
        weight = torch.ones(rollout.shape) if rollout.weight is None else rollout.weight
        for lane in range(rollout.shape[1]):
            versions = rollout.version[:, lane][weight[:, lane] > 0].tolist()
            assert versions == sorted(versions)
            assert set(versions[1:]) <= {version}  # one action waits at most
            seen += [(version, each) for each in versions]
    assert any(older < newer for newer, older in seen)


@pytest.mark.parametrize(("memory", "learned"), [("gru", True), ("none", False)])
def test_what_was_seen_at_the_turn_before_is_learned_with_a_memory_only(memory: str, learned: bool) -> None:
    layer = {
        "training": {"steps": 16_000, "lanes": 16, "horizon": 32, "warm_up": 0, "learning_rate": 0.01},
        "algorithm": {"kind": "ppo", "discount": 0.0, "minibatch": 128},
        "policy": {"hidden": [8], "memory": memory, "memory_size": 8, "segment": 8},
    }
    session = Session(resolve({"kind": "pettingzoo", "id": "agents:Recall"}, (layer, "the test")))
    session.collector.start()
    for _ in range(session.experiment.training.iterations):
        session.iterate(cut=False)
    found = session.collector.recent()[0]
    session.close()
    assert (found > 8.0) == learned  # of 9; chance gives 4.5

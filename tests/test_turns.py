"""Rollouts of turn-based worlds beside the raw game, played by hand with the same actions; and runs of several agents."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("pettingzoo", reason="needs pip install 'pistar[multi]'")
sys.path.append(str(Path(__file__).parent / "envs"))
from agents import Nim, Storm

from pistar import estimators, serialization
from pistar.algorithms.reinforce import whole_episodes
from pistar.collector import Collector
from pistar.envs.pettingzoo import PettingZoo
from pistar.evaluation import Evaluator, controller, play
from pistar.experiment import Experiment, find_task, resolve
from pistar.normalization import RewardScale
from pistar.policies.mlp import MLP
from pistar.rollout import Rollout
from pistar.seeding import derive, episode_seed
from pistar.session import Session
from pistar.tasks.pettingzoo import PettingZoo as Task
from pistar.tasks.task import Execution
from pistar.watching import Performance

SEED, WORLDS = 3, 3


class Noted(PettingZoo):
    """Remembers what it was told to do."""

    def reset(self, seed: int) -> Any:
        self.told: list[torch.Tensor] = []
        return super().reset(seed)

    def step(self, action: Any) -> Any:
        self.told.append(action.clone())
        return super().step(action)


@dataclass
class Turn:
    """One own turn of an agent, as the raw game has it."""

    seen: list[float]
    action: int
    first: bool
    reward: float = 0.0
    after: list[float] = field(default_factory=list)
    ended: bool = False


def by_hand(make: Any, told: list[torch.Tensor], agents: int) -> dict[int, list[Turn]]:
    """The own turns of every lane whose outcome is known, in their order."""
    lanes: dict[int, list[Turn]] = {lane: [] for lane in range(WORLDS * agents)}
    for world in range(WORLDS):
        raw, moves, episode = make(), iter(told), 0
        try:
            while True:
                raw.reset(seed=episode_seed(derive(SEED, "environment"), world, episode))
                running: dict[int, Turn] = {}
                for agent in raw.agent_iter():
                    lane = world * agents + raw.possible_agents.index(agent)
                    observation, reward, terminated, truncated, _ = raw.last()
                    seen = observation["observation"].tolist()
                    turn = running.get(lane)
                    if turn is not None:
                        turn.reward += reward
                        turn.after, turn.ended = seen, terminated or truncated
                        lanes[lane].append(turn)
                    if terminated or truncated:
                        raw.step(None)
                        continue
                    action = int(next(moves)[lane])
                    # What others paid before an agent's first turn comes with that turn.
                    running[lane] = Turn(seen, action, turn is None, reward if turn is None else 0.0)
                    raw.step(action)
                episode += 1
        except StopIteration:
            continue
    return lanes


def collector(make: Any, scale: RewardScale | None = None) -> Collector:
    environment = Noted(make, WORLDS * PettingZoo(make, 6).agents)
    policy = MLP(hidden=(8,), normalize=False).build(environment.spaces, torch.Generator().manual_seed(0))
    made = Collector(environment, policy, seed=SEED, reward_scale=scale)
    made.start()
    return made


def turns_of(rollouts: list[Rollout], lane: int) -> list[Turn]:
    found = []
    for rollout in rollouts:
        after = rollout.next_observation()["observation"]
        weight = torch.ones(rollout.shape) if rollout.weight is None else rollout.weight
        for t in torch.nonzero(weight[:, lane]).flatten().tolist():
            seen = rollout.observation["observation"][t, lane].tolist()
            found.append(Turn(seen, int(rollout.action[t, lane]), bool(rollout.is_first[t, lane])))
            found[-1].reward = float(rollout.reward[t, lane])
            found[-1].after, found[-1].ended = after[t, lane].tolist(), bool(rollout.ended[t, lane])
    return found


@pytest.mark.parametrize("make", [Nim, lambda: Nim(2)], ids=["three", "two"])
@pytest.mark.parametrize("horizon", [1, 3, 16])
def test_a_rollout_holds_every_own_turn_once_with_all_that_it_earned(make: Any, horizon: int) -> None:
    collecting = collector(make)
    rollouts = [collecting.collect(horizon) for _ in range(48 // horizon)]
    world = collecting.environment
    assert isinstance(world, Noted)
    truth, checked = by_hand(make, world.told, world.agents), 0
    for lane, expected in truth.items():
        found = turns_of(rollouts, lane)
        # What the last known turn leads to may be known by hand alone: its successor's action is not taken yet.
        assert len(expected) - 1 <= len(found) <= len(expected)
        for mine, theirs in zip(found, expected, strict=False):
            assert (mine.seen, mine.action) == (theirs.seen, theirs.action)
            assert (mine.first, mine.ended, mine.after) == (theirs.first, theirs.ended, theirs.after)
            assert mine.reward == pytest.approx(theirs.reward, abs=1e-5)
            checked += 1
    assert checked > 60


def test_gamma_applies_once_to_each_own_turn() -> None:
    collecting, discount = collector(Nim), 0.5
    for _ in range(4):
        rollout = collecting.collect(20)
        found = estimators.reward_to_go(rollout.reward, rollout.ended, discount)
        whole = whole_episodes(rollout) > 0
        for lane in range(rollout.shape[1]):
            rows = torch.nonzero(whole[:, lane]).flatten().tolist()
            gain = 0.0
            for t in reversed(rows):
                gain = float(rollout.reward[t, lane]) + (0.0 if rollout.ended[t, lane] else discount * gain)
                assert found[t, lane] == pytest.approx(gain, abs=1e-5)
        assert whole.any()


def test_returns_are_those_of_the_raw_game_and_steps_are_own_turns() -> None:
    collecting = collector(Nim, RewardScale(WORLDS * 3, 0.99))
    rollouts = []
    for _ in range(2):
        rollouts.append(collecting.collect(10))
        collecting.absorb(rollouts[-1])
    counted = sum(int(r.weight.sum()) if r.weight is not None else r.reward.numel() for r in rollouts)
    world = collecting.environment
    assert isinstance(world, Noted)
    assert collecting.steps == len(world.told) * WORLDS
    assert collecting.steps - WORLDS * 3 <= counted <= collecting.steps
    totals: list[float] = []
    for number in range(WORLDS):
        raw, moves = Nim(), iter(world.told)
        for episode in range(3):
            raw.reset(seed=episode_seed(derive(SEED, "environment"), number, episode))
            total = dict.fromkeys(raw.possible_agents, 0.0)
            for agent in raw.agent_iter():
                _, reward, terminated, truncated, _ = raw.last()
                total[agent] += reward
                lane = number * 3 + raw.possible_agents.index(agent)
                raw.step(None if terminated or truncated else int(next(moves)[lane]))
            totals += total.values()
    known = sorted(round(value, 4) for value in collecting.returns)
    assert all(round(total, 4) in known for total in totals)


def test_log_probabilities_are_those_of_the_policy_that_chose() -> None:
    collecting = collector(Nim)
    for _ in range(3):
        rollout = collecting.collect(8)
        again = collecting.policy.evaluate(rollout.observation, rollout.action).log_prob
        weight = torch.ones(rollout.shape) if rollout.weight is None else rollout.weight
        assert ((again - rollout.log_prob) * weight).abs().max() < 1e-5


def experiment_of(world: str, algorithm: str = "ppo", **training: Any) -> Experiment:
    tables = {
        "task": {"kind": "pettingzoo", "id": world},
        "algorithm": {"kind": algorithm},
        "training": {"steps": 2000, "lanes": 6, "horizon": 16, "warm_up": 20, **training},
    }
    return resolve({"kind": "pettingzoo", "id": world}, (tables, "the test"))


@pytest.mark.parametrize("world", ["agents:Nim", "agents:Storm"])
@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "reinforce"])
def test_a_restored_session_goes_on_bit_for_bit(world: str, algorithm: str, tmp_path: Path) -> None:
    plan = experiment_of(world, algorithm)
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
        assert torch.equal(rollout.reward, again.reward)
        assert metrics == same
    assert torch.equal(whole.learner.parameters, other.learner.parameters)


def test_dead_agents_weigh_nothing() -> None:
    environment = PettingZoo(Storm, 6)
    policy = MLP(hidden=(8,)).build(environment.spaces, torch.Generator().manual_seed(0))
    made = Collector(environment, policy, seed=SEED)
    made.start()
    rollout = made.collect(40)
    assert rollout.weight is not None
    alive = torch.ones(6, dtype=torch.bool)
    for t in range(40):
        assert torch.equal(rollout.weight[t] > 0, alive), f"step {t}"
        alive &= ~rollout.ended[t]
        for world in (slice(0, 3), slice(3, 6)):
            if not alive[world].any():
                alive[world] = True
    assert made.steps == int(rollout.weight.sum()) < 240
    assert set(made.lengths) == {int(length) for length in made.lengths}
    assert max(made.lengths) <= 9


@pytest.mark.parametrize("world", ["agents:Nim", "agents:Storm"])
def test_boundary_worlds_are_cut_with_what_is_known(world: str) -> None:
    plan = resolve(
        {"kind": "pettingzoo", "id": world, "restoring": "boundary"},
        ({"training": {"lanes": 6, "horizon": 8, "warm_up": 0}}, "the test"),
    )
    session = Session(plan)
    session.collector.start()
    rollout, _ = session.iterate(cut=True)
    assert bool(rollout.ended[-1].all())
    session.checkpoint()
    session.iterate(cut=True)


def test_an_evaluation_takes_the_mean_over_the_agents_of_a_world() -> None:
    task = Task(id="agents:Storm")
    evaluator = Evaluator(task, 10, seed=1)
    policy = MLP(hidden=(8,)).build(evaluator.environment.spaces, torch.Generator().manual_seed(0))
    judgement = evaluator.judge(policy, baselines=True)
    evaluator.close()
    assert (len(judgement.returns), judgement.episodes) == (10, 10)
    raw = PettingZoo(Storm, 3)
    totals = []
    for world in range(10):
        storm = raw._worlds[0].environment
        seen, _ = storm.reset(seed=episode_seed(1, world, 0))
        total = 0.0
        while storm.agents:
            rows = {a: policy.act(np.float32(seen[a]))[0] for a in storm.agents}
            seen, reward, *_ = storm.step({a: int(action) for a, action in rows.items()})
            total += sum(reward.values())
        totals.append(total / 3)
    assert judgement.returns == pytest.approx(totals, abs=1e-4)
    assert set(judgement.baselines) == {"random"}


def test_several_agents_share_a_frame() -> None:
    task = Task(id="agents:Storm")
    made = task.make(3, Execution(), training=False)
    performance = Performance(MLP(hidden=(8,)).build(made.spaces, torch.Generator().manual_seed(0)), task)
    frames = list(performance.frames(episodes=2))
    assert len(performance.outcomes) == 2
    assert frames[0].shape == (40, 60, 3)
    assert all(length <= 9 for _, length in performance.outcomes)


def test_what_is_paid_in_the_turn_of_another_is_learned_from_without_any_foresight() -> None:
    """At γ = 0 only the reward that is credited to the very action counts; by entries, all of it would come too late."""
    table = {"kind": "pettingzoo", "id": "agents:Echo"}
    layer = {
        "training": {"steps": 12_000, "lanes": 16, "horizon": 32, "warm_up": 0, "learning_rate": 0.01},
        "algorithm": {"kind": "ppo", "discount": 0.0, "minibatch": 128},
        "policy": {"hidden": [8]},
    }
    session = Session(resolve(table, (layer, "the test")))
    session.collector.start()
    for _ in range(session.experiment.training.iterations):
        rollout, _ = session.iterate(cut=False)
        assert rollout.terminated.sum() == 0
    assert session.collector.recent()[0] > 9.5  # of 10; chance gives 5


@pytest.mark.parametrize("name", ["tictactoe_v3", "connect_four_v3"])
def test_by_its_name_alone_a_game_is_played_by_its_rules(name: str) -> None:
    """The recipe's policy never does what the mask forbids, in training, in warm-up and when judged."""
    plan = resolve(find_task(f"pettingzoo:{name}"), ({"training": {"lanes": 8, "horizon": 16}}, "the test"))
    session = Session(plan)
    world, told = session.environment, 0
    step = world.step

    def checked(action: Any) -> Any:
        nonlocal told
        acts = shown["action_mask"].any(-1)
        assert shown["action_mask"].gather(1, action.unsqueeze(1).long()).bool()[acts].all()
        told += 1
        outcome = step(action)
        shown["action_mask"] = outcome.observation["action_mask"].clone()
        return outcome

    reset, shown = world.reset, {}

    def started(seed: int) -> Any:
        seen = reset(seed)
        shown["action_mask"] = seen["action_mask"].clone()
        return seen

    world.step, world.reset = checked, started  # type: ignore[method-assign]
    session.collector.start(100)
    for _ in range(3):
        rollout, _ = session.iterate(cut=False)
        weight = torch.ones(rollout.shape) if rollout.weight is None else rollout.weight
        allowed = rollout.observation["action_mask"].gather(2, rollout.action.unsqueeze(-1)).squeeze(-1)
        assert (allowed > 0)[weight > 0].all()
    play(world, controller(session.policy, False, 0), 2, 0)
    assert told > 100
    session.close()

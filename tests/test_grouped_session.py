"""Agents of different spaces: each group learns as if it were alone, from what its own agents did in one world."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("pettingzoo", reason="needs pip install 'pistar[multi]'")
sys.path.append(str(Path(__file__).parent / "envs"))
from agents import Duet, Mixed

from pistar import artefact, serialization, training
from pistar.envs.groups import Member, filler, together
from pistar.envs.pettingzoo import PettingZoo
from pistar.errors import ArtefactError, UsageError
from pistar.evaluation import Evaluator, evaluate
from pistar.experiment import CloningSettings, Experiment, resolve
from pistar.grouped_policy import GroupedPolicy
from pistar.grouped_session import GroupedSession, of_group, opened
from pistar.recording import record
from pistar.report import jsonl
from pistar.seeding import derive, episode_seed
from pistar.session import Session
from pistar.tasks.pettingzoo import PettingZoo as Task
from pistar.tasks.task import Execution
from pistar.tree import leaves, map_leaves
from pistar.watching import Performance


def plan(world: str, algorithm: str = "ppo", policy: dict[str, Any] | None = None, **settings: Any) -> Experiment:
    tables = {
        "algorithm": {"kind": algorithm},
        "policy": {"kind": "mlp", "hidden": [8], **(policy or {})},
        "training": {"steps": 4000, "lanes": 6, "horizon": 16, "warm_up": 20, **settings},
        "evaluation": {"episodes": 4, "every": 400, "final_episodes": 4},
    }
    return resolve({"kind": "pettingzoo", "id": f"agents:{world}"}, (tables, "the test"))


def begun(experiment: Experiment) -> GroupedSession:
    session = opened(experiment)
    assert isinstance(session, GroupedSession)
    session.collector.start(experiment.training.warm_up)
    return session


@pytest.fixture
def session() -> Iterator[GroupedSession]:
    with closing(begun(plan("Mixed"))) as made:
        yield made


def test_a_world_of_equal_agents_is_trained_as_ever() -> None:
    with closing(opened(plan("Storm"))) as made:
        assert type(made) is Session


def test_groups_are_found_and_named() -> None:
    world = PettingZoo(Mixed, 6)
    assert dict(world.groups) == {"sailor": (0, 2), "captain": (1,)}
    assert set(world.spaces.observation) == {"sailor", "captain"}  # type: ignore[call-overload]
    sailors, captains = Member(world, "sailor"), Member(world, "captain")
    assert (sailors.index.tolist(), captains.index.tolist()) == ([0, 2, 3, 5], [1, 4])
    assert (sailors.agents, captains.agents) == (2, 1)
    with pytest.raises(UsageError, match="step the world"):
        captains.step(torch.zeros(2, 1))


def test_every_group_records_what_its_own_agents_did() -> None:
    """Beside the raw library, played with the recorded actions."""
    with closing(begun(plan("Mixed", horizon=40, warm_up=0))) as session:
        rollouts = session.collector.collect(40)
        seed = session.collector.seed
        raw, found = Mixed(), 0
        place = {"sailor_0": ("sailor", 0), "captain": ("captain", 0), "sailor_1": ("sailor", 1)}
        world, t = 1, 0  # the second of two
        episode = 0
        while t < 40:
            seen, _ = raw.reset(seed=episode_seed(derive(seed, "environment"), world, episode))
            while raw.agents and t < 40:
                actions, alive = {}, list(raw.agents)
                for agent, (group, number) in place.items():
                    rollout = rollouts[group]
                    lane = world * len(session.environment.groups[group]) + number
                    weight = 1.0 if rollout.weight is None else float(rollout.weight[t, lane])
                    assert weight == float(agent in alive)
                    if agent in alive:
                        assert np.array_equal(rollout.observation[t, lane].numpy(), np.float32(seen[agent]))
                        head = session.members[group].policy.head
                        actions[agent] = head.to_environment(rollout.action[t, lane][None])[0].numpy()
                seen, reward, gone, late, _ = raw.step(actions)
                for agent in alive:
                    group, number = place[agent]
                    rollout = rollouts[group]
                    lane = world * len(session.environment.groups[group]) + number
                    scale = session.members[group].collector.reward_scale
                    assert scale is not None
                    assert float(rollout.reward[t, lane]) == pytest.approx(reward[agent] * scale.factor, rel=1e-5)
                    assert bool(rollout.ended[t, lane]) == (gone[agent] or late[agent])
                    found += 1
                t += 1
            episode += 1
    assert found > 60


def test_groups_draw_noise_of_their_own() -> None:
    with closing(begun(plan("MixedNim", lanes=3))) as session:
        drawn = [member.collector.generator.get_state() for member in session.members.values()]  # type: ignore[union-attr]
        assert not torch.equal(*drawn)


def test_acting_and_learning_agree_in_every_group(session: GroupedSession) -> None:
    for _ in range(3):
        rollouts, _ = session.iterate(cut=False)
    rollouts = session.collector.collect(16)
    assert set(rollouts) == {"sailor", "captain"}
    for name, rollout in rollouts.items():
        weight = torch.ones(rollout.shape) if rollout.weight is None else rollout.weight
        again = rollout.log_probs(session.members[name].policy)
        assert ((again - rollout.log_prob) * weight).abs().max() < 1e-5


def test_a_group_learns_as_if_it_were_alone(session: GroupedSession) -> None:
    """The same rollouts in a plain session give the same parameters, bit for bit."""
    alone = {name: Session(of_group(session.experiment, view), view) for name, view in session.collector.views.items()}
    for name, other in alone.items():
        other.restore(copy.deepcopy(session.members[name].checkpoint()))
    for _ in range(3):
        rollouts = session.collector.collect(16)
        copies = copy.deepcopy(rollouts)
        session.improve(rollouts)
        for name, other in alone.items():
            other.collector._raw = session.members[name].collector._raw  # type: ignore[union-attr]
            other.learn(copies[name])
    for name, other in alone.items():
        assert torch.equal(other.learner.parameters, session.members[name].learner.parameters)
    first, second = session.members.values()
    assert first.learner.parameters.shape != second.learner.parameters.shape


@pytest.mark.parametrize("world", ["Mixed", "MixedNim", "Duet"])
@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "reinforce", "impala", "trpo", "ppg"])
def test_a_restored_session_goes_on_bit_for_bit(world: str, algorithm: str, tmp_path: Path) -> None:
    experiment = plan(world, algorithm)
    with closing(begun(experiment)) as whole, closing(opened(experiment)) as other:
        for _ in range(3):
            whole.iterate(cut=False)
        serialization.write(tmp_path / "state", whole.checkpoint(), "test")
        other.restore(serialization.read(tmp_path / "state", "test")[0])
        for _ in range(3):
            rollouts, metrics = whole.iterate(cut=False)
            again, same = other.iterate(cut=False)
            assert metrics == same
            assert isinstance(again, dict)
            for name, rollout in rollouts.items():
                assert torch.equal(rollout.reward, again[name].reward)
        for mine, theirs in zip(whole.learners, other.learners, strict=True):
            assert torch.equal(mine.parameters, theirs.parameters)
        assert whole.steps == other.steps


@pytest.mark.parametrize("memory", ["gru", "lstm"])
@pytest.mark.parametrize("world", ["Mixed", "MixedNim"])
def test_groups_remember(world: str, memory: str) -> None:
    policy = {"memory": memory, "memory_size": 5, "segment": 4}
    with closing(begun(plan(world, "ppo", policy, horizon=8))) as session:
        for _ in range(3):
            session.iterate(cut=False)
            session.collector.collect(8)  # in turn, its first actions were chosen before the update
            for name, rollout in session.collector.collect(8).items():
                weight = torch.ones(rollout.shape) if rollout.weight is None else rollout.weight
                again = rollout.log_probs(session.members[name].policy)
                assert ((again - rollout.log_prob) * weight).abs().max() < 1e-4


def test_worlds_that_cannot_be_replayed_are_cut_for_all_groups() -> None:
    experiment = resolve(
        {"kind": "pettingzoo", "id": "agents:Mixed", "restoring": "boundary"},
        ({"training": {"lanes": 6, "horizon": 8, "warm_up": 0}}, "the test"),
    )
    with closing(begun(experiment)) as session:
        rollouts, _ = session.iterate(cut=True)
        assert all(bool(rollout.ended[-1].all()) for rollout in rollouts.values())
        session.checkpoint()
        session.iterate(cut=True)


def test_each_group_is_judged_by_its_own_agents() -> None:
    task = Task(id="agents:Mixed")
    with closing(Evaluator(task, 10, seed=1)) as evaluator, closing(opened(plan("Mixed"))) as session:
        policy = session.policy
        assert isinstance(policy, GroupedPolicy)
        judgement = evaluator.judge(policy, baselines=True)
    raw, totals = Mixed(), []
    for world in range(10):
        seen, _ = raw.reset(seed=episode_seed(1, world, 0))
        total = dict.fromkeys(raw.possible_agents, 0.0)
        while raw.agents:
            chosen = {a: policy.groups[a.partition("_")[0]].act(np.float32(seen[a]))[0] for a in raw.agents}
            seen, reward, *_ = raw.step(chosen)
            for agent, gain in reward.items():
                total[agent] += gain
        totals.append(total)
    assert judgement.mean == pytest.approx(np.mean([sum(t.values()) / 3 for t in totals]), abs=1e-4)
    captain, sailor = judgement.groups["captain"], judgement.groups["sailor"]
    assert captain.mean == pytest.approx(np.mean([t["captain"] for t in totals]), abs=1e-4)
    assert sailor.mean == pytest.approx(np.mean([(t["sailor_0"] + t["sailor_1"]) / 2 for t in totals]), abs=1e-4)
    told = judgement.to_json()["groups"]["captain"]
    assert told["mean"] == captain.mean
    assert set(told["baselines"]) == {"random"}


def test_one_file_holds_all_policies(session: GroupedSession, tmp_path: Path) -> None:
    session.iterate(cut=False)
    path = tmp_path / "policy.safetensors"
    artefact.save(session.policy, path, {"task": {"kind": "pettingzoo", "id": "x"}})
    loaded = artefact.load(path)
    assert isinstance(loaded, GroupedPolicy)
    assert loaded.spaces == session.policy.spaces
    assert list(loaded.groups) == list(session.policy.groups)
    seen = map_leaves(lambda x: x.numpy(), session.environment.restore(session.environment.save()))
    for (_, mine), (_, theirs) in zip(leaves(session.policy.act(seen)[0]), leaves(loaded.act(seen)[0]), strict=True):
        assert np.array_equal(mine, theirs)
    alone, _ = loaded.groups["captain"].act(seen["captain"])
    assert np.array_equal(alone, loaded.act(seen)[0]["captain"])
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtefactError):
        artefact.load(path)


def test_code_within_a_group_must_be_trusted(session: GroupedSession, tmp_path: Path) -> None:
    from own_kind import Own

    kind = Own()
    policy = GroupedPolicy(
        {name: kind.build(view.spaces, torch.Generator()) for name, view in session.collector.views.items()}
    )
    path = tmp_path / "own.safetensors"
    artefact.save(policy, path)
    with pytest.raises(ArtefactError, match="nothing was imported"):
        artefact.load(path)
    assert isinstance(artefact.load(path, "own_kind:Own"), GroupedPolicy)


def test_a_run_that_is_resumed_ends_as_one_that_was_not_stopped(tmp_path: Path) -> None:
    experiment = plan("Mixed", steps=768)

    def stop(progress: training.Progress) -> bool:
        return progress.iteration == 3

    whole = training.train(experiment, tmp_path / "whole", quiet=True)
    training.train(experiment, tmp_path / "broken", quiet=True, on_iteration=stop)
    again = training.resume(tmp_path / "broken", quiet=True)
    assert isinstance(whole.policy, GroupedPolicy)
    for name, tensor in whole.policy.state_dict().items():
        assert torch.equal(tensor, again.policy.state_dict()[name])
    records = [
        [{k: v for k, v in record.items() if k != "time"} for record in jsonl.read(tmp_path / run / "metrics.jsonl")]
        for run in ("whole", "broken")
    ]
    assert repr(records[0]) == repr(records[1])  # NaN equals NaN
    assert {"info/captain/return", "update/sailor/entropy", "action/captain/mean"} <= set(records[0][-1])
    judged = evaluate(tmp_path / "whole", Task(id="agents:Mixed"), episodes=4)
    assert set(judged.groups) == {"sailor", "captain"}
    started = training.train(
        plan("Mixed", steps=96), tmp_path / "next", quiet=True, start_from=tmp_path / "whole" / "policy.safetensors"
    )
    assert isinstance(started.policy, GroupedPolicy)


def test_frames_show_all_groups(session: GroupedSession) -> None:
    performance = Performance(session.policy, Task(id="agents:Mixed"))
    assert next(iter(performance.frames(episodes=1))).shape == (40, 60, 3)


def test_groups_learn_side_by_side_and_keep_to_their_masks() -> None:
    experiment = resolve(
        {"kind": "pettingzoo", "id": "agents:Duet"},
        (
            {
                "training": {"steps": 14_000, "lanes": 16, "horizon": 32, "learning_rate": 0.01},
                "algorithm": {"kind": "ppo", "discount": 0.0, "minibatch": 128},
                "policy": {"hidden": [16]},
            },
            "the test",
        ),
    )
    with closing(begun(experiment)) as session:
        for _ in range(experiment.training.iterations):
            session.iterate(cut=False)
        assert session.collector.info["singer/return"] > 9.5  # of 10; chance gives 6.7
        assert session.collector.info["dancer/return"] > 8.0  # of 10; chance gives 3.3, standing still 5
        assert session.members["singer"].policy.mask == "action_mask"
        assert session.members["dancer"].policy.mask is None


def test_fillers_lie_in_their_spaces() -> None:
    for space in (*PettingZoo(Duet, 2).spaces.observation.values(), *PettingZoo(Mixed, 3).spaces.action.values()):  # type: ignore[attr-defined]
        assert space.contains(filler(space))


def test_members_put_their_actions_together_and_take_their_parts() -> None:
    world = PettingZoo(Mixed, 6)
    members = {name: Member(world, name) for name in world.groups}
    action = together(members, {"sailor": torch.tensor([0, 1, 1, 0]), "captain": torch.tensor([[0.6], [0.9]])})
    assert action["sailor"][[0, 2, 3, 5]].tolist() == [0, 1, 1, 0]
    assert action["captain"].flatten().tolist() == pytest.approx([0.5, 0.6, 0.5, 0.5, 0.9, 0.5])
    world.reset(0)
    step = world.step(action)
    assert world.mask is None
    parts = {name: member.part(step) for name, member in members.items()}
    assert parts["captain"].reward.tolist() == step.reward[[1, 4]].tolist()
    assert parts["sailor"].observation.shape == (4, 3)


def test_what_knows_one_kind_of_agent_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave --symmetry out"):
        opened(plan("Mixed", symmetry="task"))
    cloned = dataclasses.replace(plan("Mixed"), cloning=CloningSettings(demonstrations=str(tmp_path)))
    with pytest.raises(UsageError, match="leave --demonstrations out"):
        training.train(cloned, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    world = plan("Mixed").task.make(6, Execution(), training=False)
    with closing(world), pytest.raises(UsageError, match="cannot be recorded"):
        record(world, lambda _: None, 1, 0)

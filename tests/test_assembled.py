"""Policies of chosen parts: who sees what, what is shared, whose code may be loaded, and a memory while being judged."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composed_world import BOX, ComposedWorld, spaces_of
from gymnasium import spaces
from timetable import ENDS, Timetable

import pistar
from pistar import artefact, evaluation
from pistar.assembled import AssembledPolicy
from pistar.envs.environment import Spaces
from pistar.errors import ArtefactError, UnknownName, UsageError
from pistar.kernels import network
from pistar.learner import Learner
from pistar.policies.mlp import MLP
from pistar.policy import ActorCritic, Policy

SPACE = Spaces(
    spaces.Dict({"seen": BOX, "hidden": spaces.Box(-9.0, 9.0, (2,), np.float32), "mask": spaces.MultiBinary(3)}),
    spaces.Discrete(3),
)


def build(kind: MLP, space: Spaces = SPACE) -> Policy:
    policy = kind.build(space, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return policy


def example(count: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "seen": torch.randn((count, 3), generator=generator),
        "hidden": torch.randn((count, 2), generator=generator),
        "mask": torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 0]] * (count // 3), dtype=torch.int8),
    }


def test_vectors_without_extras_stay_what_the_kernels_know() -> None:
    policy = MLP(hidden=(8,)).build(Spaces(BOX, spaces.Discrete(3)), torch.Generator())
    assert type(policy) is ActorCritic
    assert network.fits(policy)
    for extra in ({"memory": "gru"}, {"mask": "mask"}, {"actor_keys": ("seen",)}, {"encoder_module": "x:Y"}):
        if "encoder_module" not in extra:
            made = build(MLP(**extra))  # type: ignore[arg-type]
            assert type(made) is AssembledPolicy
            assert not network.fits(made)


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_actor_and_critic_see_their_own_entries_and_nothing_else(memory: str) -> None:
    policy = build(MLP(memory=memory, mask="mask", actor_keys=("seen",), critic_keys=("seen", "hidden")))
    assert isinstance(policy, AssembledPolicy)
    x = example()
    other = {**x, "hidden": x["hidden"] + 1}

    def value(observation: Any) -> torch.Tensor:
        memory = policy.initial_memory(6)
        assert policy.critic is not None
        assert policy.critic_trunk is not None
        return policy.critic(policy.critic_trunk(observation, memory and memory["critic"])[0])  # type: ignore[no-any-return]

    assert torch.equal(policy.outputs(x)[0], policy.outputs(other)[0])
    assert not torch.equal(value(x), value(other))
    shown = {**x, "seen": x["seen"] + 1}
    assert not torch.equal(policy.outputs(x)[0], policy.outputs(shown)[0])


def test_a_mask_forbids_and_is_seen_by_no_encoder() -> None:
    policy, x = build(MLP(mask="mask")), example()
    probability = policy.head(policy.outputs(x)[0]).probability  # type: ignore[attr-defined]
    assert bool(((probability == 0) == (x["mask"] == 0)).all())
    everything = {**x, "mask": torch.ones_like(x["mask"])}
    free = policy.head(policy.outputs(everything)[0]).probability  # type: ignore[attr-defined]
    kept = free * x["mask"]
    torch.testing.assert_close(probability, kept / kept.sum(-1, keepdim=True))
    assert torch.equal(policy.value(x), policy.value(everything))
    evaluation_ = policy.evaluate(x, policy.head(policy.outputs(x)[0]).mode())
    assert bool(evaluation_.log_prob.isfinite().all())
    assert bool(evaluation_.entropy.isfinite().all())


def test_what_is_shared_belongs_to_the_actors_part() -> None:
    shared, apart = build(MLP(memory="gru", mask="mask")), build(MLP(memory="gru", mask="mask", shared=False))
    names = {id(p): name for name, p in shared.named_parameters()}
    assert {names[id(p)].split(".")[0] for p in shared.parts()["critic"]} == {"critic"}
    names = {id(p): name for name, p in apart.named_parameters()}
    assert {names[id(p)].split(".")[0] for p in apart.parts()["critic"]} == {"critic", "critic_trunk"}
    for policy in (shared, apart):
        Learner(policy)  # every parameter in exactly one part, or it refuses
    assert set(apart.initial_memory(2)) == {"actor", "critic"}
    assert set(shared.initial_memory(2)) == {"actor"}


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"memory": "grue"}, UnknownName, "gru"),
        ({"filters": (3,), "kernels": (3, 3), "strides": (1,)}, UsageError, "layer"),
        ({"shared": True, "critic_keys": ("hidden",)}, UsageError, "shared"),
        ({"memory_size": 0}, UsageError, "memory_size"),
        ({"burn_in": -1}, UsageError, "burn_in"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        MLP(**settings)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"actor_keys": ("sen",)}, "'sen'"),
        ({"mask": "forbidden"}, "'forbidden'"),
        ({"actor_keys": ("mask",), "mask": "mask"}, "left"),
    ],
)
def test_entries_that_are_not_there_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        build(MLP(**settings))
    with pytest.raises(UsageError, match="Dict"):
        build(MLP(**settings), Spaces(BOX, spaces.Discrete(3)))


def test_a_mask_for_actions_without_choices_is_refused_when_it_acts() -> None:
    space = Spaces(SPACE.observation, spaces.Box(-1.0, 1.0, (2,), np.float32))
    with pytest.raises(UsageError, match="forbid"):
        build(MLP(mask="mask"), space).outputs(example())


OWN = """
import torch
from torch import nn
from pistar.memories.memory import Memory

class Encoder(nn.Module):
    def __init__(self, space, generator):
        super().__init__()
        self.size = 3
    def forward(self, observation):
        return observation["seen"]

class Slope(nn.Linear):
    def __init__(self, inputs, outputs, generator):
        super().__init__(inputs, outputs)

class Sum(Memory):
    def __init__(self, inputs, size, generator):
        super().__init__()
        self.size = inputs
    def initial(self, lanes):
        return torch.zeros(lanes, self.size)
    def step(self, x, state):
        return state + x, state + x
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "own_parts.py"
    path.write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    sys.modules.pop("own_parts", None)


def test_parts_of_ones_own_are_built_and_loaded_only_when_trusted(own: Path, tmp_path: Path) -> None:
    names = {
        "encoder_module": "own_parts:Encoder",
        "actor_module": "own_parts:Slope",
        "critic_module": "own_parts:Slope",
        "memory": "own_parts:Sum",
    }
    policy = build(MLP(**names))  # type: ignore[arg-type]
    x = example()
    outputs, memory = policy.outputs(x)
    torch.testing.assert_close(memory["actor"], x["seen"])
    torch.testing.assert_close(outputs, policy.actor(x["seen"]))  # type: ignore[operator]
    torch.testing.assert_close(policy.outputs(x, memory)[1]["actor"], 2 * x["seen"])
    artefact.save(policy, tmp_path / "policy.safetensors")
    sys.modules.pop("own_parts")
    for trust in (None, "own_parts:Slope", "mlp"):
        with pytest.raises(ArtefactError, match="trust"):
            artefact.load(tmp_path / "policy.safetensors", trust)
        assert trust is None or "own_parts" not in sys.modules or trust == "own_parts:Slope"
    trusted = ",".join(sorted(set(names.values())))
    again = artefact.load(tmp_path / "policy.safetensors", trusted)
    assert torch.equal(again.outputs(x)[0], outputs)
    own.write_text(OWN + "\n# changed\n")
    with pytest.raises(ArtefactError, match="another version"):
        artefact.load(tmp_path / "policy.safetensors", trusted)


def test_actor_and_critic_may_learn_at_different_rates(tmp_path: Path) -> None:
    def parts(rate: float | None) -> dict[str, torch.Tensor]:
        out = tmp_path / str(rate)
        training = {"steps": 256, "lanes": 4, "horizon": 32, "critic_learning_rate": rate}
        run = pistar.train("cartpole", out=out, quiet=True, evaluation={"every": 0, "final_episodes": 1}, **training)
        return dict(run.policy.named_parameters())

    start = MLP().build(Timetable.spaces, torch.Generator())
    assert set(start.parts()) == {"actor", "critic"}
    both, still = parts(None), parts(0.0)
    changed = {name.split(".")[0] for name in both if not torch.equal(both[name], still[name])}
    assert "critic" in changed
    with pytest.raises(UsageError, match="critic_learning_rate"):
        parts(-1.0)
    with pytest.raises(UnknownName, match="critic"):
        Learner(MLP(critic=False).build(Timetable.spaces, torch.Generator())).set_learning_rate(0.1, "critic")


def test_a_policy_is_judged_with_a_memory_that_is_fresh_in_every_episode() -> None:
    kind = MLP(memory="lstm", memory_size=5, normalize=False, last_gain=1.0)
    policy = kind.build(Timetable.spaces, torch.Generator().manual_seed(0))
    world, choose = Timetable(), evaluation.controller(policy, True, 0)
    seen: list[torch.Tensor] = []

    class Spying(evaluation.PolicyController):
        def __call__(self, observation: Any) -> Any:
            seen.append(observation.clone())
            return super().__call__(observation)

    choose = Spying(policy, True, 0)
    evaluation.play(world, choose, 4, 0)
    acted = torch.stack(world.actions)
    memories: list[Any] = [None] * len(ENDS)
    for t, observation in enumerate(seen):
        for lane in range(len(ENDS)):
            memory = None if observation[lane, 2] == 0 else memories[lane]  # the third entry is the episode's age
            action, memories[lane] = policy.act(observation[lane].numpy(), memory)
            assert int(action) == int(acted[t, lane]), (t, lane)
    assert len(acted.unique()) == 2


def test_acting_one_step_at_a_time_goes_on_where_it_was() -> None:
    policy = build(MLP(memory="gru", mask="mask"))
    rows = [
        {key: value.numpy() for key, value in example(3).items()},
        {key: value.numpy() + 0 for key, value in example(3).items()},
    ]
    one, memory = policy.act(rows[0])
    two, _ = policy.act(rows[1], memory)
    outputs, state = policy.outputs(example(3))
    again, _ = policy.outputs(example(3), state)
    assert one.tolist() == outputs.argmax(-1).tolist()
    assert two.tolist() == again.argmax(-1).tolist()
    assert not torch.equal(outputs, again)


def test_the_native_half_of_acting_with_a_memory_does_what_torch_does() -> None:
    from pistar.acting import RememberingActing
    from pistar.collector import Collector

    space = spaces_of("box", "discrete", mask=False)
    found = []
    for native in (True, False):
        policy = build(MLP(memory="gru", hidden=(8,)), space)
        collector = Collector(ComposedWorld(space, 4, 1), policy, seed=0)
        collector.start()
        acts = RememberingActing(policy, torch.device("cpu"))
        if not native:
            acts._native = None
        collector._acting = acts
        found.append(collector.collect(32))
    one, other = found
    assert torch.equal(one.action, other.action)
    torch.testing.assert_close(one.log_prob, other.log_prob, rtol=0, atol=1e-5)
    torch.testing.assert_close(one.memory, other.memory, rtol=0, atol=1e-5)

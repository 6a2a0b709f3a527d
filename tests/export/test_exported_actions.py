"""What is exported acts as the policy does: every kind, family, memory, feature map and activation, by the reader alone."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from gymnasium import spaces
from policies_to_export import (
    ALL,
    MAPS,
    NEAR,
    NUMBERS,
    TWO,
    Case,
    build,
    cases,
    exported,
    look,
    memory_of,
)

from pistar.envs.environment import Spaces
from pistar.errors import UsageError
from pistar.export import ExportedPolicy, to_bytes
from pistar.features import FEATURE_MAPS
from pistar.heads import CategoricalHead, Head, action_head
from pistar.policies import POLICIES
from pistar.policies.mlp import MLP
from pistar.policy import Evaluation, Policy
from pistar.tree import Tree, leaves, map_leaves

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
EVERY = list(cases())


def test_every_registry_is_covered() -> None:
    spaces_met = {type(leaf) for _, _, action in cases().values() for leaf in every_space(action)}
    assert spaces_met >= set(action_head.registry) - {object}
    assert set(MAPS) == set(FEATURE_MAPS)
    assert {POLICIES.kind_of(kind) for kind, _, _ in cases().values()} == set(POLICIES.names())


def every_space(space: spaces.Space[Any]) -> list[spaces.Space[Any]]:
    children = space.spaces.values() if isinstance(space, spaces.Dict) else getattr(space, "spaces", ())
    return [space, *(found for child in children for found in every_space(child))]


def require_equal(mine: Any, theirs: Any, policy: Policy) -> None:
    """Numbers to float32 rounding; indices exactly, but for the odd tie."""
    for (path, one), (_, other) in zip(leaves(mine), leaves(theirs), strict=True):
        assert one.dtype == other.dtype, path
        assert one.shape == other.shape, path
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5, err_msg=str(path))
        else:
            assert np.mean(one != other) <= 0.01, path


@pytest.mark.parametrize("name", EVERY)
def test_it_acts_as_the_policy_does(name: str) -> None:
    policy, reader, _ = exported(name)
    observation = look(policy.spaces.observation, 300, np.random.default_rng(3))
    assert reader.spaces.observation == policy.spaces.observation
    assert reader.spaces.action == policy.spaces.action
    assert reader.can_sample
    action, memory = reader.act(observation)
    wanted, _ = policy.act(observation)
    require_equal(action, wanted, policy)
    if memory is not None:  # and from what it remembers now
        again, _ = reader.act(observation, memory)
        wanted, _ = policy.act(observation, memory_of(policy, memory))
        require_equal(again, wanted, policy)
    single = map_leaves(lambda x: x[5], observation)
    require_equal(reader.act(single)[0], policy.act(single)[0], policy)


@pytest.mark.parametrize("name", EVERY)
def test_samples_are_of_the_distribution_that_is_told(name: str) -> None:
    _, reader, _ = exported(name)
    rows = 4000
    observation = look(reader.spaces.observation, 1, np.random.default_rng(4))
    _, one = reader.encode(observation)
    feeds = {port: np.repeat(x, rows, 0) for port, x in one.items()}
    outputs = reader.infer(
        {**feeds, **reader.initial_memory(rows), **reader.draw_noise(rows, np.random.default_rng(5))}
    )
    samples = {port.path: outputs[port.name] for port in reader.outputs if port.role == "sample"}
    for part in reader.distribution(outputs):
        path = tuple(part["path"])
        space, drawn, told = space_at(reader.spaces.action, path), samples[path].reshape(rows, -1), part["parameters"]
        assert all(np.isfinite(value).all() for value in told.values())
        if part["family"] in ("gaussian", "feature-gaussian"):
            scale = part["scale"]
            low, high, centre, half = (np.array(scale[key], float) for key in ("low", "high", "centre", "half_range"))
            plain = centre + half * (
                told["mean"][0] + told["std"][0] * np.random.default_rng(6).normal(size=drawn.shape)
            )
            expected = np.clip(plain, low, high)
            error = 6 * expected.std(0) / rows**0.5 + 1e-6
            assert (abs(drawn.mean(0) - expected.mean(0)) <= error).all()
        elif part["family"] == "categorical":
            found = np.bincount(drawn[:, 0] - int(space.start), minlength=int(space.n)) / rows
            assert abs(found - told["probability"][0]).max() < 0.05
            assert (found[told["probability"][0] == 0] == 0).all()
        elif part["family"] == "bernoulli":
            assert abs(drawn.mean(0) - told["probability"][0]).max() < 0.05
        elif part["family"] == "multi-categorical":
            for index, probability in enumerate(told.values()):
                found = np.bincount(drawn[:, index] - space.start.flat[index], minlength=probability.shape[1]) / rows
                assert abs(found - probability[0]).max() < 0.05
        elif part["family"] == "beta":
            alpha, beta = told["alpha"][0], told["beta"][0]
            mean = np.array(part["scale"]["centre"]) + np.array(part["scale"]["half_range"]) * (
                2 * alpha / (alpha + beta) - 1
            )
            assert (abs(drawn.mean(0) - mean) <= 6 * drawn.std(0) / rows**0.5).all()
        else:
            assert part["family"] == "squashed-gaussian"
            unit = (drawn - part["scale"]["centre"]) / part["scale"]["half_range"]
            middle = np.tanh(told["mean"][0])
            assert (abs((unit < middle).mean(0) - 0.5) < 0.05).all()


def space_at(space: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        space = space[key] if isinstance(space, spaces.Dict) else space[int(key)]
    return space


@pytest.mark.parametrize("name", ["family gaussian", "memory gru", "memory lstm apart"])
def test_nothing_of_this_machine_is_in_the_file_and_onnx_finds_it_valid(name: str) -> None:
    _, _, data = exported(name)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    for word in (b"site-packages", str(Path.cwd()).encode(), b"stack_trace", b".py"):
        assert word not in data


def test_the_same_policy_gives_the_same_bytes() -> None:
    _, _, data = exported("family gaussian")
    policy = build(cases()["family gaussian"])
    assert to_bytes(policy, {"task": {"kind": "pendulum"}, "steps": 1000, "algorithm": "ppo", "seed": 1}, "00") == data


def test_what_only_a_critic_sees_is_no_input() -> None:
    _, reader, _ = exported("a critic that is told more")
    assert [port.path for port in reader.inputs if port.role == "observation"] == [("mask",), ("seen",)]
    assert reader.metadata["unused"] == [["told"]]
    assert reader.act({"seen": [100.0, 101.0, 99.0], "mask": [0, 1, 0]})[0] == 1


def test_an_episode_begins_where_is_first_says_so() -> None:
    _, reader, _ = exported("memory lstm")
    generator = np.random.default_rng(0)
    _, feeds = reader.encode(look(reader.spaces.observation, 4, generator))
    noise = reader.no_noise(4)
    fresh = reader.infer({**feeds, **reader.initial_memory(4), **noise})
    used = reader.next_memory(fresh)
    begins = np.array([True, False, True, False])
    mixed = reader.infer({**feeds, **used, **noise, "is_first": begins})
    later = reader.infer({**feeds, **used, **noise})
    for port in reader.outputs:
        expected = np.where(begins.reshape(-1, *[1] * len(port.shape)), fresh[port.name], later[port.name])
        np.testing.assert_allclose(mixed[port.name], expected, atol=1e-6)
    assert any((fresh[p.name] != later[p.name]).any() for p in reader.outputs if p.role == "memory")


def test_noise_of_gsde_says_how_long_it_is_held() -> None:
    _, reader, _ = exported("family gsde")
    assert [(port.noise, port.hold) for port in reader.inputs if port.role == "noise"] == [("normal", 8)]


def test_a_policy_in_double_precision_is_exported_in_single() -> None:
    policy = build(cases()["family gaussian"], torch.float64)
    reader = ExportedPolicy.from_bytes(to_bytes(policy))
    observation = look(NUMBERS, 50, np.random.default_rng(0))
    np.testing.assert_allclose(reader.act(observation)[0], policy.act(observation)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "case",
    [
        (MLP(distribution="laplace:LaplaceHead"), NUMBERS, TWO),
        (MLP(memory="leaky_memory:Leaky", memory_size=5), NUMBERS, TWO),
    ],
    ids=["distribution", "memory"],
)
def test_parts_of_ones_own_are_exported(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    policy = build(case)
    reader = ExportedPolicy.from_bytes(to_bytes(policy))
    observation = look(NUMBERS, 50, np.random.default_rng(0))
    require_equal(reader.act(observation)[0], policy.act(observation)[0], policy)
    if case[0].distribution != "gaussian":
        (part,) = reader.metadata["distribution"]
        assert part["family"] == "laplace:Laplace"
        assert set(part["parameters"]) == {"mean", "log_scale"}
        assert reader.can_sample
    for name in ("laplace", "leaky_memory"):
        sys.modules.pop(name, None)


@dataclass(frozen=True)
class Own:
    """A policy of one's own: nothing of pistar's but the head."""

    branches: bool = False

    def build(self, space: Spaces, generator: torch.Generator) -> Policy:
        return OwnPolicy(space, self, generator)


class OwnPolicy(Policy):
    def __init__(self, space: Spaces, kind: Own, generator: torch.Generator) -> None:
        super().__init__()
        self.spaces, self.kind, self.head = space, kind, action_head(space.action)
        self.observation = torch.nn.Parameter(torch.randn((3, self.head.size), generator=generator))

    def parts(self) -> dict[str, list[torch.nn.Parameter]]:
        return {"actor": list(self.parameters())}

    def outputs(self, observation: Tree, memory: Tree = None, is_first: Any = None) -> tuple[torch.Tensor, Tree]:
        if self.kind.branches and float(observation.sum()) > 0:
            observation = -observation
        return observation.sin() @ self.observation, memory

    def evaluate(self, observation: Tree, action: Tree) -> Evaluation:
        raise NotImplementedError


def test_a_policy_of_ones_own_is_exported_even_with_a_parameter_called_like_an_input() -> None:
    policy = build((Own(), NEAR, ALL))
    reader = ExportedPolicy.from_bytes(to_bytes(policy))
    assert [port.name for port in reader.inputs] == ["observation", "noise.0"]
    observation = look(NEAR, 50, np.random.default_rng(0))
    require_equal(reader.act(observation)[0], policy.act(observation)[0], policy)


def test_what_torch_cannot_follow_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="cannot write this OwnPolicy as an ONNX graph"):
        to_bytes(build((Own(branches=True), NEAR, ALL)))


class Biased(CategoricalHead):
    """Draws what no graph can draw."""

    def noise(self, shape: Any, generator: Any, dtype: Any, device: Any) -> torch.Tensor:
        return torch.from_numpy(np.random.default_rng().random(shape, np.float32))


class Twice(CategoricalHead):
    """Draws twice, and something else besides, which would stay the same for ever."""

    def noise(self, shape: Any, generator: Any, dtype: Any, device: Any) -> torch.Tensor:
        first = torch.rand(shape, generator=generator, dtype=dtype, device=device)
        return (first + torch.empty(shape).exponential_(generator=generator)).frac()


@pytest.mark.parametrize("head", [Biased, Twice])
def test_sampling_is_refused_where_noise_is_drawn_by_other_means(head: type[Head]) -> None:
    policy = build((Own(), NEAR, ALL))
    policy.head = head(ALL)
    reader = ExportedPolicy.from_bytes(to_bytes(policy))
    assert not reader.can_sample
    assert [port.role for port in reader.inputs] == ["observation"]
    observation = look(NEAR, 50, np.random.default_rng(0))
    require_equal(reader.act(observation)[0], policy.act(observation)[0], policy)
    with pytest.raises(UsageError, match="other means"):
        reader.act(observation, deterministic=False)

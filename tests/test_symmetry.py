"""Symmetries: maps as data, groups, worlds that have them or do not, and what is learned from images."""

from __future__ import annotations

import dataclasses
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composed_world import CHOICES, ComposedWorld, spaces_of
from gymnasium import spaces
from test_composition import Cell, covering, experiment

import pistar
from pistar.algorithms import ALGORITHMS
from pistar.algorithms.ppo import PPO
from pistar.collector import Collector
from pistar.doctor import examine
from pistar.envs.environment import Spaces
from pistar.errors import UsageError
from pistar.mirroring import Mirrors, require_group, side_by_side
from pistar.policies.mlp import MLP
from pistar.rollout import Rollout
from pistar.symmetry import Indices, Signed, Symmetry, apply, find
from pistar.tasks import TASKS
from pistar.tasks.arm_joint import ArmJointOpen
from pistar.tasks.arm_reach import ArmReach
from pistar.tasks.cartpole import CartPole
from pistar.tasks.task import Execution, Task
from pistar.testing import ContractViolation, check_symmetry
from pistar.testing.algorithms import trials
from pistar.tree import leaves, map_leaves

DECLARED = ("cartpole", "pendulum", "arm-reach", "reacher", "arm-joint-open")
(POLE,) = CartPole().symmetries()


def lanes_of(task: Task) -> Any:
    return lambda lanes: task.make(lanes, Execution(), training=True)


# ---- declarations ----------------------------------------------------------------------------------------------------


def test_maps_are_data():
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert Signed((1, -1, 1), (2, 1, 0))(x).tolist() == [[3.0, -2.0, 1.0]]
    assert Signed((1, 1), (1, 0))(torch.tensor([[True, False]])).tolist() == [[False, True]]
    assert Signed((-1, 1))(np.array([[1.0, 2.0]])).tolist() == [[-1.0, 2.0]]
    assert Indices((2, 0, 1))(torch.tensor([0, 1, 2])).tolist() == [2, 0, 1]
    tree = {"a": x, "b": x}
    changed = apply({"a": operator.neg}, tree)
    assert torch.equal(changed["a"], -x)
    assert changed["b"] is x
    with pytest.raises(UsageError, match="3 signs"):
        Signed((1, 1, 1))(x[:, :2])
    with pytest.raises(UsageError, match=r"entries \['c'\]"):
        apply({"c": operator.neg}, tree)


@pytest.mark.parametrize("name", DECLARED)
def test_the_tasks_of_this_package_have_the_symmetries_that_they_declare(name: str):
    task: Task = TASKS.get(name)()
    assert check_symmetry(lanes_of(task), task.symmetries()) == [s.name for s in task.symmetries()] != []


def test_what_is_declared_depends_on_the_settings():
    assert ArmReach(gravity=9.8).symmetries() == ()
    assert ArmJointOpen(positions=20).symmetries() == ()
    other = ArmJointOpen(joints=3, positions=8, goal="episode")
    assert check_symmetry(lanes_of(other), other.symmetries())


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"action": None}, "observation"),  # pushes are not swapped
        ({"observation": Signed((-1, -1, -1, 1))}, "observation"),
        ({"action": Indices((1, 1))}, "group"),
        ({"observation": lambda x: x[..., :2]}, "group"),
    ],
)
def test_a_symmetry_that_the_world_does_not_have_is_found(change: Any, rule: str):
    with pytest.raises(ContractViolation) as caught:
        check_symmetry(lanes_of(CartPole()), [dataclasses.replace(POLE, **change)])
    assert caught.value.rule == rule


@dataclass(frozen=True)
class Steep(ArmReach):
    """Declares what gravity breaks."""

    gravity: float = 9.8

    def symmetries(self) -> Any:
        return ArmReach().symmetries()


@dataclass(frozen=True)
class Costly(CartPole):
    """A world whose rewards are not symmetric."""

    def make(self, lanes: int, execution: Execution, **rest: Any) -> Any:
        world = super().make(lanes, execution, **rest)
        step = world.step

        def biased(action: Any) -> Any:
            return dataclasses.replace(made := step(action), reward=made.reward + action)

        world.step = biased  # type: ignore[method-assign]
        return world


def test_dynamics_and_rewards_are_compared():
    with pytest.raises(ContractViolation, match="turned over") as caught:
        check_symmetry(lanes_of(Steep()), Steep().symmetries())
    assert caught.value.rule in ("observation", "reward")
    with pytest.raises(ContractViolation) as caught:
        check_symmetry(lanes_of(Costly()), [POLE])
    assert caught.value.rule == "reward"


def test_the_doctor_looks_at_what_a_task_declares():
    good = examine("cartpole", steps=100, render=False)
    assert any(f.topic == "symmetry" and f.mark == "ok" and "left and right" in f.text for f in good.findings)
    bad = examine(Steep, steps=100, render=False)
    assert any(f.topic == "symmetry" and f.mark == "error" for f in bad.findings)


def test_quarter_turns_need_the_half_and_the_three_quarter_turn():
    plane = Spaces(spaces.Box(-1.0, 1.0, (2,)), spaces.Box(-2.0, 2.0, (2,)))
    head = MLP().build(plane, torch.Generator()).head
    turns = [Signed((-1, 1), (1, 0)), Signed((-1, -1)), Signed((1, -1), (1, 0))]
    group = tuple(Symmetry(f"{k + 1} quarters", turn, turn) for k, turn in enumerate(turns))
    require_group(group, plane, head)
    with pytest.raises(UsageError, match="no group"):
        require_group(group[:2], plane, head)


def test_settings_name_symmetries_of_the_task_or_of_ones_own(tmp_path: Path, monkeypatch):
    (tmp_path / "mirrors.py").write_text(
        "from pistar.symmetry import Indices, Signed, Symmetry\n"
        "POLE = Symmetry('mine', Signed((-1, -1, -1, -1)), Indices((1, 0)))\n"
        "def several():\n    return [POLE]\n"
        "NOTHING = []\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find("none", CartPole()) == ()
    assert find("task", CartPole())[0].name == "left and right"
    assert find("mirrors:POLE", None)[0].name == find("mirrors:several", None)[0].name == "mine"
    for chosen, message in (("mirrors:NOTHING", "at least one"), ("left", "none, task or module:NAME")):
        with pytest.raises(UsageError, match=message):
            find(chosen, CartPole())
    with pytest.raises(UsageError, match="declares no symmetry"):
        find("task", ArmReach(gravity=1.0))
    settings: dict[str, Any] = {"steps": 512, "lanes": 4, "horizon": 64, "quiet": True, "out": tmp_path / "run"}
    result = pistar.train("CartPole-v1", symmetry="mirrors:POLE", evaluation={"final_episodes": 2}, **settings)
    assert result.steps == 512
    with pytest.raises(UsageError, match="lag"):
        pistar.train("cartpole", symmetry="task", lag=1, **settings)


# ---- what is learned from --------------------------------------------------------------------------------------------


def flip(x: torch.Tensor) -> torch.Tensor:
    return -x


def reversal(cell: Cell) -> Symmetry:
    """An involution on the spaces of a cell, masks included."""
    order = tuple(reversed(range(CHOICES)))
    swap = Signed((1,) * CHOICES, order)
    observation: Any = {"box": flip, "dict": {"position": flip, "scale": flip, "mode": Indices((2, 1, 0))}}.get(
        cell.observation, lambda x: x.flip(-3)
    )
    if cell.mask:
        entries = observation if isinstance(observation, dict) else {"seen": observation}
        observation = {**entries, "mask": {"gear": swap} if cell.action == "mixed" else swap}
    indices, box = Indices(order), Signed((-1, -1))
    action: Any = {"discrete": indices, "continuous": box, "mixed": {"gear": indices, "pedal": box}}[cell.action]
    return Symmetry("reversal", observation, action)


def collected(cell: Cell, horizon: int, count: int = 1) -> tuple[Any, list[Rollout]]:
    space = spaces_of(cell.observation, cell.action, cell.mask)
    policy = dataclasses.replace(cell.kind(), last_gain=1.0).build(space, torch.Generator().manual_seed(0))
    collector = Collector(ComposedWorld(space, 2, cell.agents), policy, seed=0)
    collector.start()
    return policy, [collector.collect(horizon) for _ in range(count)]


@pytest.mark.parametrize("cell", covering(), ids=lambda cell: cell.name)
def test_an_image_is_what_a_mirrored_lane_would_have_been(cell: Cell):
    """Images of the image are the original; the policy's own probabilities are those that learning evaluates."""
    policy, (first, second) = collected(cell, 12, 2)
    mirror = reversal(cell)
    mirrors = Mirrors((mirror,), policy)
    for rollout in (first, second):
        whole = mirrors.augmented(rollout)
        lanes = rollout.shape[1]
        assert whole.shape == (12, 2 * lanes)
        back = map_leaves(lambda x, n=lanes: x[:, n:], mirror.see(whole.observation))
        for (_, one), (_, other) in zip(leaves(back), leaves(rollout.observation), strict=True):
            assert torch.equal(one, other)
        batch = whole.batch(whole.reward, whole.reward)
        with torch.no_grad():
            again = policy.evaluate(batch.observation, batch.action).log_prob
        heard = torch.ones_like(again) if batch.weight is None else batch.weight
        assert float(((again - batch.log_prob).abs() * heard).max()) < 1e-4
        value, following = whole.values(policy)
        alone, after = side_by_side([rollout]).values(policy)
        assert torch.allclose(value[:, :lanes], alone, atol=1e-5)
        assert torch.allclose(following[:, :lanes], after, atol=1e-5)


def test_values_of_images_are_values_of_mirrored_observations():
    policy, (rollout,) = collected(Cell(), 12)
    mirror = reversal(Cell())
    whole = Mirrors((mirror,), policy).augmented(rollout)
    _, following = whole.values(policy)
    lane, t = rollout.final_index[0] % 2, rollout.final_index[0] // 2
    with torch.no_grad():
        assert torch.allclose(following[t, 2 + lane], policy.value(-rollout.final_observation[:1])[0], atol=1e-5)
        assert torch.allclose(following[0, 2], policy.value(-rollout.observation[1, :1])[0], atol=1e-5)


def test_a_symmetric_policy_gives_an_image_the_probability_of_its_original():
    """Where ratios of images and of originals are one and the same thing (Mittal et al. 2024)."""
    policy, (rollout,) = collected(Cell(action="continuous"), 12)
    for name, parameter in policy.actor.named_parameters():  # tanh without biases: odd functions of the observation
        if name.endswith("bias"):
            parameter.data.zero_()
    again = Mirrors((reversal(Cell(action="continuous")),), policy)
    outputs = policy.outputs(rollout.observation.flatten(0, 1))[0].view(12, 2, -1)
    rollout.log_prob = policy.head(outputs).log_prob(rollout.action).detach()
    whole = again.augmented(rollout)
    assert torch.allclose(whole.log_prob[:, 2:], rollout.log_prob, atol=1e-5)


# ---- runs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mirrored(Cell):
    """A cell that declares its reversal."""

    def symmetries(self) -> Any:
        return (reversal(self),)


def mirrored(cell: Cell, algorithm: Any) -> Any:
    made = experiment(Mirrored(**dataclasses.asdict(cell)), algorithm)
    return dataclasses.replace(made, training=dataclasses.replace(made.training, symmetry="task"))


def check(cell: Cell, algorithm: Any) -> None:
    with trials.session(mirrored(cell, algorithm)) as whole:
        start = whole.learner.parameters.clone()
        trials.go_on(whole, 1)
        saved = trials.kept(whole)
        record = trials.go_on(whole, 2)
        assert not torch.equal(whole.learner.parameters, start)
    with trials.session(mirrored(cell, algorithm), saved) as resumed:
        again = trials.go_on(resumed, 2)
    assert trials.first_difference(record, again) is None


@pytest.mark.parametrize("cell", covering(), ids=lambda cell: cell.name)
def test_ppo_learns_from_images_with_every_kind_of_policy_and_resumes(cell: Cell):
    check(cell, PPO(epochs=2, minibatch=16, max_kl=1.0))


@pytest.mark.parametrize("name", [name for name in ALGORITHMS.names() if name != "distillation"])
def test_every_algorithm_learns_from_images(name: str):
    check(Cell(memory="gru", mask=True, observation="dict", action="mixed", agents=2), ALGORITHMS.get(name)())


def test_moments_become_symmetric_and_steps_are_those_that_were_lived():
    with trials.session(mirrored(Cell(), PPO(epochs=1, minibatch=16))) as session:
        for _ in range(50):
            session.iterate(cut=False)
        encoder: Any = session.policy.encoder
        spread = encoder.normalizer.moments.variance.sqrt()
        assert float((encoder.normalizer.moments.mean.abs() / spread).max()) < 0.05  # observations begin at +5
        assert session.steps == 50 * 2 * 12

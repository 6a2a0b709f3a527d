"""A student comes to do what its teacher would: exact gradients, the contract of algorithms, every kind of policy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composed_world import ComposedWorld, spaces_of
from gymnasium import spaces
from test_composition import Cell, check, covering

import pistar
from pistar import artefact
from pistar.algorithms.distillation import Distillation
from pistar.algorithms.ppo import PPO
from pistar.collector import Collector
from pistar.envs.environment import Spaces
from pistar.errors import UsageError
from pistar.learner import Learner
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.rollout import Batch, Rollout
from pistar.session import Session
from pistar.tasks.task import Task
from pistar.teachers import Teacher, contents
from pistar.testing.algorithms import improving, refusing, repeating
from pistar.testing.algorithms.rules import check_configuration, check_declaration
from pistar.testing.algorithms.trials import Trial
from pistar.testing.algorithms.worlds import Bandit, Corridor
from pistar.tree import map_leaves

OBSERVATION = spaces.Box(-np.inf, np.inf, (3,), np.float32)


def build(action: spaces.Space[Any], seed: int, observation: Any = OBSERVATION, **options: Any) -> Policy:
    options = {"hidden": (8,), "last_gain": 1.0, **options}
    return MLP(**options).build(Spaces(observation, action), torch.Generator().manual_seed(seed))


def lesson(student: Policy, teacher: Policy, rows: int = 40) -> Batch:
    seen = torch.randn(rows, 3, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        taught = teacher.head(teacher.outputs(seen)[0]).detached((rows,))
        action = student.head(student.outputs(seen)[0]).mode()
    zeros = torch.zeros(rows)
    return Batch(seen, action, zeros, zeros, zeros, old=taught)


def slope_at_outputs(student: Policy, batch: Batch) -> torch.Tensor:
    """∂ loss / ∂ outputs, row by row, by the loss itself."""
    outputs = student.outputs(batch.observation)[0].detach().requires_grad_()
    student.outputs = lambda *_: (outputs, None)  # type: ignore[method-assign]
    kl = batch.old.kl(student.head(outputs)).mean()  # type: ignore[union-attr]
    (gradient,) = torch.autograd.grad(kl, outputs)
    return gradient


def test_the_slope_of_logits_is_the_difference_of_probabilities():
    student, teacher = build(spaces.Discrete(4), 0), build(spaces.Discrete(4), 1)
    batch = lesson(student, teacher)
    with torch.no_grad():
        mine, its = (p.outputs(batch.observation)[0].softmax(-1) for p in (student, teacher))
    assert torch.allclose(slope_at_outputs(student, batch), (mine - its) / 40, atol=1e-7)


def test_the_loss_of_gaussians_is_the_closed_form_and_so_is_its_gradient():
    box = spaces.Box(-1.0, 1.0, (2,), np.float32)
    student, teacher = build(box, 0, critic=False, initial_log_std=-0.2), build(box, 1, initial_log_std=-1.0)
    batch = lesson(student, teacher)
    learner = Learner(student)
    value, _ = learner.differentiate(Distillation().loss, batch)
    with torch.no_grad():
        difference = teacher.outputs(batch.observation)[0] - student.outputs(batch.observation)[0]
    s, t = np.exp(-0.2), np.exp(-1.0)
    square = difference.numpy() ** 2
    expected = (np.log(s / t) + (t**2 + square) / (2 * s**2) - 0.5).sum(-1).mean()
    assert float(value) == pytest.approx(expected, rel=1e-5)
    log_std: Any = student.head.log_std
    assert torch.allclose(log_std.grad, torch.as_tensor((1 - (t**2 + square) / s**2).mean(0)).float(), rtol=1e-4)


def test_steps_of_weight_0_teach_nothing_whatever_they_hold():
    student, teacher = build(spaces.Discrete(4), 0), build(spaces.Discrete(4), 1)
    batch, learner = lesson(student, teacher), Learner(student)
    half = map_leaves(lambda x: x[:20], batch)
    learner.differentiate(Distillation().loss, half)
    wanted = learner.gradient.clone()
    batch.weight = (torch.arange(40) < 20).float()
    learner.differentiate(Distillation().loss, batch)
    assert torch.allclose(learner.gradient, wanted, atol=1e-7)


# ---- teachers --------------------------------------------------------------------------------------------------------


def rollouts(space: Spaces, student: Policy, count: int, horizon: int) -> list[Rollout]:
    collector = Collector(ComposedWorld(space, 2, 1), student, seed=0)
    collector.start()
    return [collector.collect(horizon) for _ in range(count)]


def test_a_teachers_memory_goes_on_from_rollout_to_rollout_and_ends_with_episodes(tmp_path: Path):
    space = spaces_of("dict", "mixed", False)
    student = MLP(hidden=(8,)).build(space, torch.Generator().manual_seed(0))
    forgetful = MLP(hidden=(8,), memory="gru", memory_size=5, segment=4, last_gain=2.0)
    artefact.save(forgetful.build(space, torch.Generator().manual_seed(1)), tmp_path / "teacher.safetensors")
    teacher = Teacher(contents(str(tmp_path / "teacher.safetensors"), None, student), None, "teacher")
    first, second = rollouts(space, student, 2, 8)
    (whole,) = rollouts(space, student, 1, 16)
    one, memory = teacher.along(first, None)
    two, _ = teacher.along(second, memory)
    once, _ = teacher.along(whole, None)
    halves = map_leaves(lambda a, b: torch.cat((a, b)), one, two)
    for mine, theirs in zip(parameters(halves), parameters(once), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)
    alone, _ = teacher.along(second, None)
    assert not torch.allclose(parameters(alone)[0], parameters(two)[0])


def parameters(distribution: Any) -> list[torch.Tensor]:
    from pistar.tree import leaves

    return [leaf for _, leaf in leaves(distribution)]


def test_a_teacher_may_see_what_its_student_does_not(tmp_path: Path):
    space = spaces_of("dict", "discrete", False)
    teacher = MLP(hidden=(8,), last_gain=2.0).build(space, torch.Generator().manual_seed(1))
    artefact.save(teacher, tmp_path / "teacher.safetensors")
    student = MLP(hidden=(4,), actor_keys=("mode",)).build(space, torch.Generator().manual_seed(0))
    kept = contents(str(tmp_path / "teacher.safetensors"), None, student)
    (rollout,) = rollouts(space, student, 1, 8)
    taught, _ = Teacher(kept, None, "teacher").along(rollout, None)
    flat = map_leaves(lambda x: x.flatten(0, 1), rollout.observation)
    assert torch.allclose(taught.logits.flatten(0, 1), teacher.outputs(flat)[0], atol=1e-6)  # type: ignore[attr-defined]
    part = Spaces(spaces.Dict({"mode": space.observation["mode"]}), space.action)  # type: ignore[index]
    artefact.save(MLP(hidden=(8,)).build(part, torch.Generator()), tmp_path / "less.safetensors")
    assert contents(str(tmp_path / "less.safetensors"), None, student)["header"]


@pytest.mark.parametrize(
    ("action", "options", "message"),
    [
        (spaces.Discrete(3), {}, "expected the same actions"),
        (spaces.Box(-1.0, 1.0, (2,)), {"distribution": "beta"}, "gives a Beta, the student a Gaussian"),
    ],
)
def test_a_teacher_of_another_kind_is_refused(action: Any, options: Any, message: str, tmp_path: Path):
    artefact.save(build(action, 1, **options), tmp_path / "teacher.safetensors")
    with pytest.raises(UsageError, match=message):
        contents(str(tmp_path / "teacher.safetensors"), None, build(spaces.Box(-1.0, 1.0, (2,)), 0))


def test_without_a_teacher_nothing_begins(tmp_path: Path):
    for more, message in (({}, "--distillation.teacher"), ({"distillation": {"teacher": "nowhere"}}, "no such file")):
        with pytest.raises(UsageError, match=message):
            pistar.train("cartpole", algorithm="distillation", out=tmp_path / "run", steps=64, quiet=True, **more)
    assert not (tmp_path / "run").exists()


# ---- the contract, and whole runs ------------------------------------------------------------------------------------


def taught(task: Task, steps: int, path: Path) -> Distillation:
    """Distillation from a policy that PPO has trained on a task."""
    experiment = Trial(PPO(epochs=4, minibatch=256, normalize_advantages=True), None, {"steps": steps}, "discrete", 7)
    session = Session(experiment.experiment(task))
    session.collector.start(1000)
    for _ in range(session.experiment.training.iterations):
        session.iterate(cut=False)
    session.close()
    artefact.save(session.policy, path)
    return Distillation(teacher=str(path))


def test_it_keeps_the_contract_of_algorithms_and_learns_from_a_teacher_who_knows(tmp_path: Path):
    corridor = taught(Corridor(), 40_000, tmp_path / "corridor.safetensors")
    bandit = taught(Bandit(), 10_000, tmp_path / "bandit.safetensors")
    check_declaration(corridor)
    check_configuration(corridor)
    student = {"kind": "mlp", "hidden": [16], "activation": "relu"}  # another architecture than the teacher's
    walking, choosing = (Trial(a, student, {}, "discrete", 0) for a in (corridor, bandit))
    repeating.check_repetition(walking)
    refusing.check_refusal(choosing)
    improving.check_improvement(walking, Corridor(), 8_192, 0.8)
    improving.check_improvement(choosing, Bandit(), 8_192, 0.85)


@pytest.mark.parametrize("cell", covering(), ids=lambda cell: cell.name)
def test_every_kind_of_policy_can_be_student_and_teacher(cell: Cell, tmp_path: Path):
    space = spaces_of(cell.observation, cell.action, cell.mask)
    for memory in {cell.memory, "gru"}:
        teacher = dataclasses.replace(cell.kind(), memory=memory, last_gain=2.0)
        path = tmp_path / f"{memory}.safetensors"
        artefact.save(teacher.build(space, torch.Generator().manual_seed(9)), path)
        check(cell, Distillation(teacher=str(path), epochs=2, minibatch=16), tmp_path / "policy.safetensors")


def test_a_run_goes_on_bit_for_bit_where_its_teacher_is_gone(tmp_path: Path):
    class Stop(Exception):
        pass

    def stop(progress: pistar.Progress) -> None:
        if progress.iteration == 3:
            raise Stop

    teacher = tmp_path / "teacher.safetensors"
    made = Spaces(spaces.Box(*cartpole_bounds(), dtype=np.float32), spaces.Discrete(2))
    artefact.save(MLP(hidden=(8,), memory="lstm", last_gain=2.0).build(made, torch.Generator()), teacher)
    settings: dict[str, Any] = {"steps": 4 * 512, "lanes": 8, "horizon": 64, "algorithm": "distillation", "quiet": True}
    settings |= {"distillation": {"teacher": str(teacher)}, "evaluation": {"every": 0, "final_episodes": 2}}
    settings |= {"checkpoints": {"every": 2}}
    whole = pistar.train("cartpole", out=tmp_path / "whole", **settings)
    with pytest.raises(Stop):
        pistar.train("cartpole", out=tmp_path / "cut", on_iteration=stop, **settings)
    teacher.unlink()
    resumed = pistar.resume(tmp_path / "cut", quiet=True)
    for mine, theirs in zip(resumed.policy.state_dict().values(), whole.policy.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def cartpole_bounds() -> tuple[np.ndarray, np.ndarray]:
    from pistar.envs.cartpole import CartPole

    space: Any = CartPole(1).spaces.observation
    return space.low, space.high

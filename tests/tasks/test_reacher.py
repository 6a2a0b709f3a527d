"""Reacher-v5 as a task: the order of its baselines, and the controller against the arm it was written for."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from pistar.evaluation import play
from pistar.tasks import TASKS, baselines, reacher
from pistar.tasks.task import Execution

pytest.importorskip("mujoco.batch")

pd_controller = baselines.jacobian_transpose(reacher.LINKS, reacher.STIFFNESS, reacher.DAMPING)


@pytest.fixture(scope="module")
def world():
    return reacher.Reacher().environment(100, Execution(), training=False)


@pytest.fixture(scope="module")
def episodes(world):
    task = reacher.Reacher()
    return {
        name: play(world, make(world, 7), 3, 7, task.success if name == "PD controller" else None)
        for name, make in task.baselines().items()
    }


def test_baselines_have_their_known_returns(episodes):
    means = {name: float(played.returns.mean()) for name, played in episodes.items()}
    assert -46 < means["random"] < -39
    assert -13 < means["zero action"] < -10
    assert -5.8 < means["PD controller"] < -4.8


def test_the_controller_beats_doing_nothing_on_nearly_every_episode(episodes):
    better = episodes["PD controller"].returns > episodes["zero action"].returns
    assert better.mean() > 0.9


def test_episodes_are_whole_and_success_is_a_fraction(episodes):
    played = episodes["PD controller"]
    assert (played.lengths == 50).all()
    assert set(np.unique(played.success)) == {0.0, 1.0}


def forward_kinematics(angles):
    """The arm's tip [B, 2]."""
    first, second = angles[:, 0], angles.sum(1)
    x = reacher.LINKS[0] * first.cos() + reacher.LINKS[1] * second.cos()
    return torch.stack((x, reacher.LINKS[0] * first.sin() + reacher.LINKS[1] * second.sin()), 1)


def observe(angles, target, velocity):
    return torch.cat((angles.cos(), angles.sin(), target, velocity, forward_kinematics(angles) - target), 1)


def test_links_are_those_of_the_model(world):
    observation = world.reset(0)
    angles = torch.atan2(observation[:, 2:4], observation[:, :2])
    torch.testing.assert_close(
        forward_kinematics(angles) - observation[:, 4:6], observation[:, 8:10], atol=1e-6, rtol=0
    )


def test_torque_is_the_downhill_slope_of_the_springs_energy(world):
    generator = torch.Generator().manual_seed(0)
    angles = torch.rand(50, 2, generator=generator) * 6 - 3
    target = forward_kinematics(angles) + 0.02 * torch.randn(50, 2, generator=generator)
    angles.requires_grad_()
    energy = reacher.STIFFNESS / 2 * (forward_kinematics(angles) - target).square().sum()
    (slope,) = torch.autograd.grad(energy, angles)
    torque = pd_controller(world, 0)(observe(angles.detach(), target, torch.zeros(50, 2)))
    torch.testing.assert_close(torque, (-slope).clamp(-1, 1), atol=1e-6, rtol=1e-4)


def test_damping_opposes_velocity(world):
    angles, velocity = torch.zeros(2, 2), torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    torque = pd_controller(world, 0)(observe(angles, forward_kinematics(angles), velocity))
    torch.testing.assert_close(torque, -torch.tensor(reacher.DAMPING) * velocity)


def test_the_controller_is_a_function_of_its_own_lanes_observation(world):
    controller = pd_controller(world, 0)
    observation = world.reset(1).clone()
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    torque = controller(observation)
    assert torch.equal(controller(observation[order]), torque[order])
    assert torch.equal(controller(observation), torque)
    assert bool((torque.abs() <= 1).all())


def test_training_lanes_start_staggered_and_evaluation_lanes_do_not():
    for training in (True, False):
        world = TASKS.get("reacher")().environment(20, Execution(), training=training)
        world.reset(0)
        ended = torch.stack([world.step(torch.zeros(20, 2)).truncated.clone() for _ in range(50)])
        assert bool(ended[:-1].any()) == training
        assert bool(ended[-1].all()) != training


def test_listing_the_task_imports_neither_torch_nor_mujoco():
    code = "import sys, pistar.tasks.reacher; sys.exit(any(name in sys.modules for name in ('torch', 'mujoco')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

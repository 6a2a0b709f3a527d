"""Every task takes the settings of the wrappers; a policy file and a run remember them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pistar import artefact
from pistar.envs.wrappers import ActionDelay, FrameStack, ObservationNoise, TimeLimit
from pistar.errors import UsageError
from pistar.evaluation import evaluate, task_of
from pistar.experiment import resolve
from pistar.tasks.arm_joint import ArmJointOpen
from pistar.tasks.cartpole import CartPole
from pistar.tasks.gymnasium import Gymnasium
from pistar.tasks.task import Execution
from pistar.training import train


def test_without_settings_nothing_is_wrapped_and_with_them_all_is() -> None:
    bare = CartPole().make(2, Execution(), training=False)
    assert type(bare) is type(CartPole().environment(2, Execution(), training=False))
    stack = CartPole(frame_stack=3, observation_noise=0.1, action_delay=2, episode_limit=40).make(
        2, Execution(), training=False
    )
    assert isinstance(stack, FrameStack)
    assert isinstance(stack.environment, ObservationNoise)
    assert isinstance(stack.environment.environment, ActionDelay)
    assert isinstance(stack.environment.environment.environment, TimeLimit)
    assert stack.reset(0).shape == (2, 3, 4)


def test_a_wrapped_run_is_judged_in_the_same_world(tmp_path: Path) -> None:
    tables = {
        "task": {"frame_stack": 2, "episode_limit": 9},
        "training": {"steps": 256, "lanes": 4, "horizon": 32, "warm_up": 8},
        "evaluation": {"final_episodes": 4, "episodes": 4},
    }
    result = train(resolve({"kind": "gymnasium", "id": "CartPole-v1"}, (tables, "here")), tmp_path / "run", quiet=True)
    assert max(result.evaluation.returns) <= 9
    assert artefact.load(tmp_path / "run").spaces.observation.shape == (2, 4)
    for path in (tmp_path / "run", tmp_path / "run" / "policy.safetensors"):
        assert task_of(path) == Gymnasium("CartPole-v1", frame_stack=2, episode_limit=9)
        assert max(evaluate(path, episodes=4).returns) <= 9


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"frame_stack": 0}, {"observation_noise": -1.0}, {"action_delay": -1}, {"episode_limit": 0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            resolve({"kind": "cartpole"}, ({"task": wrong}, "here"))


def test_the_exact_reference_is_left_out_where_the_policy_sees_something_else() -> None:
    task = ArmJointOpen(frame_stack=2)
    experiment = resolve({"kind": "arm-joint-open"}, ({"task": {"frame_stack": 2}, "policy": {"kind": "mlp"}}, "here"))
    world = task.make(1, Execution(), training=False)
    assert task.reference(experiment.policy.build(world.spaces, torch.Generator())) is None

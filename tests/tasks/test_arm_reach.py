"""The torque-driven arm as a task: its controller works, in both gravities it is defined for."""

from __future__ import annotations

from pistar.evaluation import play
from pistar.tasks.arm_reach import ArmReach
from pistar.tasks.task import Execution


def test_the_controller_is_far_better_than_random_and_none() -> None:
    task = ArmReach()
    world = task.environment(100, Execution(), training=False)
    mean = {name: float(play(world, make(world, 0), 1, 5).returns.mean()) for name, make in task.baselines().items()}
    assert mean["PD controller"] > 0.35 * max(mean["random"], mean["zero action"])
    success = play(world, task.baselines()["PD controller"](world, 0), 1, 5, task.success).success
    assert success is not None
    assert float(success.mean()) > 0.9

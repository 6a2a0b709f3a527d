"""Reach a target with a two-link arm driven by torques: rigid-body dynamics in torch, no simulator needed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pistar.tasks import baselines
from pistar.tasks.task import Actions, Controller, Execution, Task

if TYPE_CHECKING:
    from pistar.envs.environment import Environment
    from pistar.symmetry import Symmetry

STIFFNESS, DAMPING = 24.0, (0.5, 0.5)  # of the controller; see baselines.jacobian_transpose


@dataclass(frozen=True)
class ArmReach(Task):
    """Torques on shoulder and elbow bring the fingertip to a random target and hold it there; 100 steps of 0.04 s."""

    summary: ClassVar[str] = "a two-link arm with torque dynamics reaches for a random target"
    success: ClassVar[str | None] = "success"  # the fingertip is on the target at the episode's end

    gravity: float = 0.0  # m/s² towards −y; 0: the arm moves on a table

    @property
    def actions(self) -> Actions:
        """Two torques."""
        return "continuous"

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """One batch of tensors."""
        from pistar.envs.arm_reach import ArmReach as World

        return World(lanes, execution.device, random_elapsed=training, gravity=self.gravity)

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """A shorter view ahead, and for PPO larger batches and steps: as good as the PD controller in a quarter of a minute."""
        training: dict[str, Any] = {"steps": 500_000}
        if algorithm != "ppo":
            return {"training": training, "algorithm": {"discount": 0.95}}
        training |= {"lanes": 64, "horizon": 64, "learning_rate": {"from": 1e-3, "to": 0.0}}
        return {"training": training, "algorithm": {"discount": 0.95, "minibatch": 128}}

    def symmetries(self) -> Sequence[Symmetry]:
        """The arm seen from below: turned over about the x axis, along which gravity would have to pull."""
        from pistar.symmetry import Signed, Symmetry

        if self.gravity != 0:
            return ()
        world = {"angle": operator.neg, "velocity": operator.neg, "target": Signed((1, -1))}
        seen = Signed((1, 1, -1, -1, 1, -1, -1, -1, 1, -1))  # cos q, sin q, target, q̇, tip − target
        return (Symmetry("turned over", seen, Signed((-1, -1)), {"world": world}),)

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random torques, none, and a controller of classical robotics."""
        from pistar.envs.arm_reach import LENGTHS

        controller = baselines.jacobian_transpose(LENGTHS, STIFFNESS, DAMPING)
        return {"random": baselines.random, "zero action": baselines.zero, "PD controller": controller}

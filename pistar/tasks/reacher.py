"""Reach a target with a two-link robot arm: Gymnasium's Reacher-v5 in MuJoCo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pistar.tasks import baselines
from pistar.tasks.task import Actions, Controller, Execution, Task

if TYPE_CHECKING:
    from pistar.envs.environment import Environment
    from pistar.symmetry import Symmetry

LINKS = (0.1, 0.11)  # metres from shoulder to elbow and from elbow to fingertip, in the model's file
# Gains of the controller below: the best mean return over 600 episodes among 80 combinations around the best of a
# coarser grid. On 1,000 other episodes they give -5.3 (one damping for both joints gives at best -5.7).
STIFFNESS = 24.0  # action units of torque per metre of distance and metre of lever
DAMPING = (0.11, 0.05)  # action units per rad/s, of shoulder and elbow


@dataclass(frozen=True)
class Reacher(Task):
    """Torques on shoulder and elbow bring the fingertip to a random target and hold it there, cheaply; 50 steps."""

    summary: ClassVar[str] = "a two-link MuJoCo arm reaches for a random target (Reacher-v5)"
    success: ClassVar[str | None] = "success"  # fingertip and target touch at the episode's end

    @property
    def actions(self) -> Actions:
        """Two torques."""
        return "continuous"

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """MuJoCo's own batch of simulations."""
        from pistar.envs.mujoco import MujocoBatch

        return MujocoBatch("Reacher-v5", lanes, threads=execution.threads, random_elapsed=training)

    def symmetries(self) -> Sequence[Symmetry]:
        """The arm seen from below: turned over about the x axis."""
        from pistar.symmetry import Signed, Symmetry

        seen = Signed((1, 1, -1, -1, 1, -1, -1, -1, 1, -1))  # cos q, sin q, target, q̇, tip − target
        state = {"physics": turned_over, "observation": seen}
        return (Symmetry("turned over", seen, Signed((-1, -1)), state),)

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random torques, none, and a controller of classical robotics."""
        controller = baselines.jacobian_transpose(LINKS, STIFFNESS, DAMPING)
        return {"random": baselines.random, "zero action": baselines.zero, "PD controller": controller}


def turned_over(physics: Any) -> Any:
    """MuJoCo's states [B, n], which begin with time, qpos and qvel: two joints and the target's x and y in each."""
    turned = physics.copy()
    turned[:, [1, 2, 4, 5, 6, 8]] *= -1
    return turned

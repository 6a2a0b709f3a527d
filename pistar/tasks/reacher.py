"""Reach a target with a two-link robot arm: Gymnasium's Reacher-v5 in MuJoCo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pistar.tasks import baselines
from pistar.tasks.task import Actions, Controller, Execution, Task

if TYPE_CHECKING:
    from pistar.envs.environment import Environment

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
    recipe: ClassVar[Mapping[str, Any]] = {}

    @property
    def actions(self) -> Actions:
        """Two torques."""
        return "continuous"

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """MuJoCo's own batch of simulations."""
        from pistar.envs.mujoco import MujocoBatch

        return MujocoBatch("Reacher-v5", lanes, threads=execution.threads, random_elapsed=training)

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random torques, none, and a controller of classical robotics."""
        return {"random": baselines.random, "zero action": baselines.zero, "PD controller": pd_controller}


def pd_controller(environment: Environment, seed: int) -> Controller:
    """Jacobian-transpose control: a spring from fingertip to target and damped joints.

    τ = Jᵀ(q) · k (target − tip) − D q̇, in units of the actuators, clipped to [−1, 1]; J = ∂tip/∂q. The spring's
    potential is k/2 |target − tip|², so Jᵀ needs no inverse and no care where the arm is straight. Uses the
    observation [B, 10] alone: cos q, sin q, target, q̇, tip − target.
    """
    import torch

    damping = torch.tensor(DAMPING)

    def choose(observation: Any) -> Any:
        cos1, cos2, sin1, sin2 = observation[:, :4].unbind(1)
        velocity, pull = observation[:, 6:8], -STIFFNESS * observation[:, 8:10]
        cos12, sin12 = cos1 * cos2 - sin1 * sin2, sin1 * cos2 + cos1 * sin2
        outer = torch.stack((-LINKS[1] * sin12, LINKS[1] * cos12), 1)  # ∂tip/∂q₂
        inner = outer + torch.stack((-LINKS[0] * sin1, LINKS[0] * cos1), 1)  # ∂tip/∂q₁
        torque = torch.stack(((inner * pull).sum(1), (outer * pull).sum(1)), 1) - damping * velocity
        return torque.clamp(-1.0, 1.0)

    return choose

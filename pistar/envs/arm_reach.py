"""A two-link robot arm driven by torques, in torch: rigid-body dynamics integrated by Runge and Kutta's fourth order.

    M(q) q̈ + c(q, q̇) + D q̇ + g(q) = τ        (Spong, Hutchinson & Vidyasagar 2020, section 6.4: planar elbow)

The links are uniform rods. The fingertip is to go to a target, drawn per episode in the reachable ring, and to stay there.
It differs from ``mujoco``'s Reacher-v5 by needing no simulator, by being differentiable, and by an optional gravity.

Left out: joint limits (both joints turn freely) and contact.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from pistar.envs import drawing
from pistar.envs.environment import Spaces
from pistar.envs.native import NativeEnvironment, Transition, World
from pistar.errors import UsageError

LENGTHS, MASSES = (0.5, 0.4), (1.0, 0.8)  # m, kg: upper arm and forearm
DAMPING = 0.1  # N m s/rad in each joint
STRONGEST = (4.0, 2.0)  # N m: what an action of 1 means
TIME_STEP, SUBSTEPS = 0.04, 2  # s between actions; Runge-Kutta steps in it
NEAREST, FARTHEST = 0.15, 0.85  # m: the ring of targets
REACHED = 0.03  # m from the target
EFFORT = 0.01  # cost of a full torque, in metres of distance


class ArmReach(NativeEnvironment):
    """B arms, each with a target; ``gravity`` in m/s² pulls towards −y (0: the arm moves on a table)."""

    name = "arm-reach"
    time_limit = 100
    draws = 6

    def __init__(
        self, lanes: int, device: str | torch.device = "cpu", random_elapsed: bool = False, gravity: float = 0.0
    ) -> None:
        if not math.isfinite(gravity):
            raise UsageError(f"gravity is {gravity}, expected a finite number of m/s²")
        self.gravity = gravity
        self.spaces = Spaces(Box(-np.inf, np.inf, (10,), np.float32), Box(-1.0, 1.0, (2,), np.float32))
        super().__init__(lanes, device, random_elapsed)
        self._strongest = torch.tensor(STRONGEST, device=self.device)

    def start(self, uniform: Tensor) -> World:
        """Any posture, nearly at rest; the target uniform over the ring's area."""
        signed = 2 * uniform - 1
        radius = (NEAREST**2 + (FARTHEST**2 - NEAREST**2) * uniform[:, 4]).sqrt()
        angle = signed[:, 5] * math.pi
        return {
            "angle": signed[:, 0:2] * math.pi,
            "velocity": signed[:, 2:4] * 0.1,
            "target": torch.stack((radius * angle.cos(), radius * angle.sin()), -1),
        }

    def dynamics(self, world: World, action: Tensor) -> Transition:
        """The torque is held over the step; the reward looks at the state after it."""
        angle, velocity = world["angle"], world["velocity"]
        effort = action.clamp(-1.0, 1.0).to(angle.dtype)
        torque = effort * self._strongest.to(effort)
        for _ in range(SUBSTEPS):
            angle, velocity = runge_kutta(self, angle, velocity, torque, TIME_STEP / SUBSTEPS)
        distance = (fingertip(angle) - world["target"]).square().sum(-1).sqrt()
        reward = -distance - EFFORT * effort.square().sum(-1)
        after = {"angle": angle, "velocity": velocity, "target": world["target"]}
        return Transition(
            after, reward, info={"distance": distance, "success": (distance < REACHED).to(distance.dtype)}
        )

    def acceleration(self, angle: Tensor, velocity: Tensor, torque: Tensor) -> Tensor:
        """q̈ [B, 2] from the equation of motion."""
        m11, m12, m22 = inertia(angle)
        first, second = velocity.unbind(-1)
        coupling = MASSES[1] * LENGTHS[0] * LENGTHS[1] / 2 * angle[:, 1].sin()
        push = torque - DAMPING * velocity - self.weight(angle)
        one = push[:, 0] + coupling * second * (2 * first + second)
        two = push[:, 1] - coupling * first.square()
        determinant = m11 * m22 - m12.square()
        return torch.stack(((m22 * one - m12 * two) / determinant, (m11 * two - m12 * one) / determinant), -1)

    def weight(self, angle: Tensor) -> Tensor:
        """g(q) [B, 2]: torques of gravity, N m."""
        first, both = angle[:, 0].cos(), angle.sum(-1).cos()
        forearm = MASSES[1] * LENGTHS[1] / 2 * both
        upper = (MASSES[0] / 2 + MASSES[1]) * LENGTHS[0] * first
        return self.gravity * torch.stack((upper + forearm, forearm), -1)

    def energy(self, world: World) -> Tensor:
        """Kinetic and potential energy [B], J; constant where nothing drives or damps the arm."""
        m11, m12, m22 = inertia(world["angle"])
        first, second = world["velocity"].unbind(-1)
        kinetic = 0.5 * (m11 * first.square() + 2 * m12 * first * second + m22 * second.square())
        height, tall = LENGTHS[0] * world["angle"][:, 0].sin(), LENGTHS[1] / 2 * world["angle"].sum(-1).sin()
        return kinetic + self.gravity * (MASSES[0] * height / 2 + MASSES[1] * (height + tall))

    def observe(self, world: World) -> Tensor:
        """Entries: cos q, sin q, target [m], q̇ [rad/s], fingertip − target [m]: [B, 10]."""
        angle, target = world["angle"], world["target"]
        return torch.cat((angle.cos(), angle.sin(), target, world["velocity"], fingertip(angle) - target), -1)

    def draw(self, world: World) -> np.ndarray:
        """The arm from above."""
        first, both = float(world["angle"][0, 0]), float(world["angle"][0].sum())
        elbow = (LENGTHS[0] * math.cos(first), LENGTHS[0] * math.sin(first))
        tip = (elbow[0] + LENGTHS[1] * math.cos(both), elbow[1] + LENGTHS[1] * math.sin(both))
        target = (float(world["target"][0, 0]), float(world["target"][0, 1]))
        canvas = drawing.Canvas(2.2)
        canvas.ring((0.0, 0.0), sum(LENGTHS), 0.006, drawing.PALE)
        canvas.disc(target, REACHED, drawing.GREEN)
        canvas.ring(target, 0.07, 0.012, drawing.GREEN)
        canvas.line([(0.0, 0.0), elbow], 0.08, drawing.BLUE)
        canvas.line([elbow, tip], 0.06, drawing.ORANGE)
        for joint in ((0.0, 0.0), elbow):
            canvas.disc(joint, 0.025, drawing.PAPER)
        return canvas.frame()


def inertia(angle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """M₁₁, M₁₂ and M₂₂ [B] of two uniform rods, kg m²."""
    (l1, l2), (m1, m2) = LENGTHS, MASSES
    bent = m2 * l1 * l2 / 2 * angle[:, 1].cos()
    forearm = m2 * l2**2 / 3
    return m1 * l1**2 / 3 + m2 * l1**2 + forearm + 2 * bent, forearm + bent, torch.full_like(bent, forearm)


def fingertip(angle: Tensor) -> Tensor:
    """Where the fingertip is: [B, 2] rad -> [B, 2] m."""
    first, both = angle[:, 0], angle.sum(-1)
    return torch.stack(
        (LENGTHS[0] * first.cos() + LENGTHS[1] * both.cos(), LENGTHS[0] * first.sin() + LENGTHS[1] * both.sin()), -1
    )


def runge_kutta(arm: ArmReach, q: Tensor, v: Tensor, torque: Tensor, h: float) -> tuple[Tensor, Tensor]:
    """One classical Runge-Kutta step of q̇ = v, v̇ = acceleration(q, v, τ)."""
    a1 = arm.acceleration(q, v, torque)
    v2 = v + h / 2 * a1
    a2 = arm.acceleration(q + h / 2 * v, v2, torque)
    v3 = v + h / 2 * a2
    a3 = arm.acceleration(q + h / 2 * v2, v3, torque)
    v4 = v + h * a3
    a4 = arm.acceleration(q + h * v3, v4, torque)
    return q + h / 6 * (v + 2 * v2 + 2 * v3 + v4), v + h / 6 * (a1 + 2 * a2 + 2 * a3 + a4)

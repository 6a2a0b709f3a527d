"""Pendulum in torch: Gymnasium's Pendulum-v1, one batch of float32 lanes.

Equations, constants, cost and limits are Gymnasium's; given the same state and torque, the next state differs by
float32 rounding only. The episode never terminates and is cut after 200 steps.
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

GRAVITY, MASS, LENGTH, TIME_STEP = 10.0, 1.0, 1.0, 0.05  # m/s², kg, m, s
FASTEST, STRONGEST = 8.0, 2.0  # rad/s, N m


class Pendulum(NativeEnvironment):
    """B rods to swing up and hold upright with a motor too weak to lift them at once."""

    name = "pendulum"
    time_limit = 200
    draws = 2

    def __init__(self, lanes: int, device: str | torch.device = "cpu", random_elapsed: bool = False) -> None:
        high = np.array([1.0, 1.0, FASTEST], np.float32)
        self.spaces = Spaces(Box(-high, high, dtype=np.float32), Box(-STRONGEST, STRONGEST, (1,), dtype=np.float32))
        super().__init__(lanes, device, random_elapsed)

    def start(self, uniform: Tensor) -> World:
        """Any angle, up to 1 rad/s either way."""
        angle, turning = (2 * uniform - 1).unbind(-1)
        return {"angle": angle * math.pi, "turning": turning}

    def dynamics(self, world: World, action: Tensor) -> Transition:
        """Semi-implicit Euler; the cost is that of the state before the step."""
        angle, turning = world["angle"], world["turning"]
        torque = action.squeeze(-1).clamp(-STRONGEST, STRONGEST).to(angle.dtype)
        upright = (angle + math.pi).remainder(2 * math.pi) - math.pi  # in [−π, π)
        cost = upright.square() + 0.1 * turning.square() + 0.001 * torque.square()
        pull = 3 * GRAVITY / (2 * LENGTH) * angle.sin() + 3.0 / (MASS * LENGTH**2) * torque
        turning = (turning + TIME_STEP * pull).clamp(-FASTEST, FASTEST)
        return Transition({"angle": angle + TIME_STEP * turning, "turning": turning}, -cost)

    def observe(self, world: World) -> Tensor:
        """Cosine and sine of the angle from upright, angular velocity [rad/s]: [B, 3]."""
        return torch.stack((world["angle"].cos(), world["angle"].sin(), world["turning"]), -1)

    def draw(self, world: World) -> np.ndarray:
        """The rod around its axle."""
        angle = float(world["angle"][0])
        canvas = drawing.Canvas(2.6 * LENGTH)
        canvas.ring((0.0, 0.0), LENGTH, 0.01, drawing.PALE)
        canvas.line([(0.0, 0.0), (-LENGTH * math.sin(angle), LENGTH * math.cos(angle))], 0.16, drawing.ORANGE)
        canvas.disc((0.0, 0.0), 0.05, drawing.INK)
        return canvas.frame()

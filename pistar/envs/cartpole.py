"""CartPole in torch: Gymnasium's CartPole-v1 (Barto, Sutton & Anderson 1983), one batch of float32 lanes.

Equations, constants, reward (1 a step, the last included) and limits are Gymnasium's; given the same state and action,
the next state differs by float32 rounding only. Starts are drawn from the same distribution, by other random numbers.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from pistar.envs import drawing
from pistar.envs.environment import Spaces
from pistar.envs.native import NativeEnvironment, Transition, World

GRAVITY, FORCE, TIME_STEP = 9.8, 10.0, 0.02  # m/s², N, s
CART_MASS, POLE_MASS, HALF_LENGTH = 1.0, 0.1, 0.5  # kg, kg, m
MASS, POLE_MOMENT = CART_MASS + POLE_MASS, POLE_MASS * HALF_LENGTH
FARTHEST, STEEPEST = 2.4, 12 * 2 * math.pi / 360  # m, rad: beyond either the episode ends
SPREAD = 0.05  # every coordinate starts within ± this


class CartPole(NativeEnvironment):
    """B poles to keep upright by pushing their carts to the left (0) or to the right (1)."""

    name = "cartpole"
    time_limit = 500
    draws = 4

    def __init__(self, lanes: int, device: str | torch.device = "cpu", random_elapsed: bool = False) -> None:
        high = np.array([2 * FARTHEST, np.inf, 2 * STEEPEST, np.inf], np.float32)
        self.spaces = Spaces(Box(-high, high, dtype=np.float32), Discrete(2))
        super().__init__(lanes, device, random_elapsed)
        self._limits = torch.tensor([FARTHEST, STEEPEST], device=self.device)

    def start(self, uniform: Tensor) -> World:
        """Nearly upright, nearly at rest."""
        return {"state": (2 * uniform - 1) * SPREAD}

    def dynamics(self, world: World, action: Tensor) -> Transition:
        """Explicit Euler: positions move with the velocities before the step."""
        state = world["state"]
        position, velocity = state[..., 0::2], state[..., 1::2]  # of the cart and of the pole
        angle, turning = state[..., 2], state[..., 3]
        sine, cosine = angle.sin(), angle.cos()
        push = action.to(state.dtype) * (2 * FORCE / MASS) - FORCE / MASS
        pull = push.addcmul(turning.square(), sine, value=POLE_MOMENT / MASS)
        torque = (GRAVITY * sine).addcmul(cosine, pull, value=-1)
        angular = torque / (HALF_LENGTH * 4 / 3 - (HALF_LENGTH * POLE_MASS / MASS) * cosine.square())
        linear = pull.addcmul(angular, cosine, value=-POLE_MOMENT / MASS)
        position = position.add(velocity, alpha=TIME_STEP)
        velocity = velocity.add(torch.stack((linear, angular), -1), alpha=TIME_STEP)
        terminated = (position.abs() > self._limits.to(position.dtype)).any(-1)
        return Transition(
            {"state": torch.stack((position, velocity), -1).flatten(-2)}, torch.ones_like(linear), terminated
        )

    def observe(self, world: World) -> Tensor:
        """Position [m], velocity [m/s], angle from upright [rad], angular velocity [rad/s]: [B, 4]."""
        return world["state"].clone()

    def draw(self, world: World) -> np.ndarray:
        """The cart on its track."""
        x, _, angle, _ = (float(value) for value in world["state"][0])
        canvas = drawing.Canvas(2 * FARTHEST + 0.6, (0.0, 0.6))
        canvas.line([(-FARTHEST, 0.0), (FARTHEST, 0.0)], 0.02, drawing.PALE)
        canvas.box((x - 0.3, -0.12), (x + 0.3, 0.12), drawing.INK)
        tip = (x + 2 * HALF_LENGTH * math.sin(angle), 2 * HALF_LENGTH * math.cos(angle))
        canvas.line([(x, 0.0), tip], 0.09, drawing.ORANGE)
        canvas.disc((x, 0.0), 0.05, drawing.PALE)
        return canvas.frame()

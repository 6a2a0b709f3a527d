"""A world written in torch: a room to keep at its temperature with a heater that answers late.

All lanes are one batch of tensors. `start`, `dynamics` and `observe` are all there is to write; ends, resets, seeds,
checkpoints and the differentiable `unroll` come from NativeEnvironment.
"""

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from pistar.envs.environment import Spaces
from pistar.envs.native import NativeEnvironment, Transition, World


class Room(NativeEnvironment):
    """B rooms; the action is the power of the heater, −1 (cool) to 1 (heat)."""

    name = "room"
    time_limit = 100  # steps of one minute, after which an episode is truncated
    draws = 2  # uniform numbers that `start` takes

    def __init__(
        self, lanes: int, device: str | torch.device = "cpu", random_elapsed: bool = False, leak: float = 0.05
    ) -> None:
        high = np.array([20.0, 5.0], np.float32)
        self.spaces = Spaces(Box(-high, high, dtype=np.float32), Box(-1.0, 1.0, (1,), np.float32))
        self.leak = leak  # share of the difference to the cold outside that is lost in a minute
        super().__init__(lanes, device, random_elapsed)

    def start(self, uniform: Tensor) -> World:
        """Up to 8 K too cold or too warm; the heater at any power."""
        error, heat = (2 * uniform - 1).unbind(-1)
        return {"error": 8 * error, "heat": heat}

    def dynamics(self, world: World, action: Tensor) -> Transition:
        """The heater follows the action slowly; the outside is 10 K too cold."""
        power = action.squeeze(-1).clamp(-1.0, 1.0)
        heat = world["heat"] + 0.3 * (power - world["heat"])
        error = (world["error"] + heat - self.leak * (world["error"] + 10.0)).clamp(-20.0, 20.0)
        close = (error.abs() < 0.5).float()
        return Transition({"error": error, "heat": heat}, -error.square() / 10, info={"comfortable": close})

    def observe(self, world: World) -> Tensor:
        """Temperature above the wish [K], heat that reaches the room [K a step]: [B, 2]."""
        return torch.stack((world["error"], world["heat"]), -1)

"""A corridor that forks at its end: which way is right is shown in the first step only (the T-maze of Bakker 2002)."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from pistar.envs import drawing
from pistar.envs.environment import Spaces
from pistar.envs.native import NativeEnvironment, Transition, World
from pistar.envs.puzzles import parts

LENGTH, TIME_LIMIT = 10, 30  # steps to the fork; steps until an episode is cut
FORWARD, LEFT, RIGHT = range(3)


class Corridor(NativeEnvironment):
    """B walkers; on the way ``LEFT`` and ``RIGHT`` do nothing, at the fork they end the episode: 1 for the right way, else 0."""

    name = "recall-corridor"
    time_limit = TIME_LIMIT
    draws = 1

    def __init__(self, lanes: int, device: str | torch.device = "cpu", random_elapsed: bool = False) -> None:
        self.spaces = Spaces(Box(-1.0, 1.0, (3,), np.float32), Discrete(3))
        super().__init__(lanes, device, random_elapsed)

    def start(self, uniform: Tensor) -> World:
        """At the entrance."""
        side = parts.pick(uniform[:, 0], 2)
        return {"position": torch.zeros_like(side), "side": side, "clock": torch.zeros_like(side)}

    def dynamics(self, world: World, action: Tensor) -> Transition:
        """Walk, or choose a way."""
        position, side = world["position"], world["side"]
        at_fork = position == LENGTH
        chosen = at_fork & (action != FORWARD)
        right = chosen & (action - LEFT == side)
        position = (position + (action == FORWARD)).clamp(max=LENGTH)
        reward = right.to(torch.float32)
        after = {"position": position, "side": side, "clock": world["clock"] + 1}
        return Transition(after, reward, chosen, {"success": reward})

    def observe(self, world: World) -> Tensor:
        """The sign (−1 left, 1 right; 0 after the first step), the share of the way, whether this is the fork: [B, 3]."""
        sign = torch.where(world["clock"] == 0, 2 * world["side"] - 1, 0)
        position = world["position"]
        return torch.stack((sign, position / LENGTH, position == LENGTH), -1).to(torch.float32)

    def draw(self, world: World) -> np.ndarray:
        """The corridor, the sign while it is shown, and the way that is right."""
        position, side, clock = (int(world[name][0]) for name in ("position", "side", "clock"))
        way = 2.0 if side == LEFT - 1 else 0.0
        squares = [((LENGTH, way), drawing.GREEN), *[((x, y), drawing.INK) for x in range(LENGTH) for y in (0, 2)]]
        sign = [((0, way), drawing.GREEN)] if clock == 0 else []
        return parts.board(LENGTH + 1, 3, squares, [*sign, ((position, 1), drawing.BLUE)])

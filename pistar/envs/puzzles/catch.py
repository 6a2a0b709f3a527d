"""A ball falls in the dark: the picture shows it in the first step only, and the paddle must be below it in the last."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import Tensor

from pistar.envs import drawing
from pistar.envs.environment import Spaces
from pistar.envs.native import NativeEnvironment, Transition, World
from pistar.envs.puzzles import parts

COLUMNS, STEPS = 7, 6  # of the board; of an episode, a row each


class DarkCatch(NativeEnvironment):
    """B paddles that move to the left (0), not at all (1) or to the right (2); 1 for a ball that is caught."""

    name = "dark-catch"
    time_limit = STEPS
    draws = 1

    def __init__(self, lanes: int, device: str | torch.device = "cpu", random_elapsed: bool = False) -> None:
        picture = Box(0, 255, (STEPS + 1, COLUMNS), np.uint8)
        self.spaces = Spaces(Dict({"paddle": Discrete(COLUMNS), "picture": picture}), Discrete(3))
        super().__init__(lanes, device, random_elapsed)

    def start(self, uniform: Tensor) -> World:
        """The paddle in the middle, the ball at the top of any column."""
        ball = parts.pick(uniform[:, 0], COLUMNS)
        return {"ball": ball, "paddle": torch.full_like(ball, COLUMNS // 2), "clock": torch.zeros_like(ball)}

    def dynamics(self, world: World, action: Tensor) -> Transition:
        """Move and fall."""
        paddle, clock = (world["paddle"] + action - 1).clamp(0, COLUMNS - 1), world["clock"] + 1
        landed = clock >= STEPS
        reward = (landed & (paddle == world["ball"])).to(torch.float32)
        return Transition(
            {"ball": world["ball"], "paddle": paddle, "clock": clock}, reward, landed, {"success": reward}
        )

    def observe(self, world: World) -> dict[str, Tensor]:
        """The picture [B, rows, columns], and the paddle's column."""
        column = torch.arange(COLUMNS, device=self.device)
        picture = torch.zeros(len(world["ball"]), STEPS + 1, COLUMNS, dtype=torch.uint8, device=self.device)
        picture[:, 0] = 255 * ((column == world["ball"].unsqueeze(1)) & (world["clock"] == 0).unsqueeze(1))
        picture[:, STEPS] = 255 * (column == world["paddle"].unsqueeze(1))
        return {"paddle": world["paddle"].clone(), "picture": picture}

    def draw(self, world: World) -> np.ndarray:
        """The board; the ball is pale where the policy does not see it."""
        ball, paddle, clock = (int(world[name][0]) for name in ("ball", "paddle", "clock"))
        colour = drawing.ORANGE if clock == 0 else drawing.PALE
        return parts.board(COLUMNS, STEPS + 1, [((paddle, 0), drawing.BLUE)], [((ball, STEPS - clock), colour)])

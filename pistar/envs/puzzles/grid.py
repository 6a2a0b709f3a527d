"""A grid whose ways open and close at random from step to step: a mask tells which are open, and a closed one is a fall.

With ``recall`` there are two goals, and which of them counts is shown in the first step only, in which nobody moves.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary
from torch import Tensor

from pistar.envs import drawing
from pistar.envs.environment import Spaces
from pistar.envs.native import NativeEnvironment, Transition, World
from pistar.envs.puzzles import parts

SIZE, TIME_LIMIT = 5, 16  # cells of an edge; steps of an episode
OPEN = 0.6  # probability that a way is open, beside the one that always is
GOALS = ((4, 4), (0, 4))  # the second in `recall` only
ENTRANCE = {False: (0, 0), True: (2, 0)}  # by `recall`


class Grid(NativeEnvironment):
    """B walkers; 1 for reaching the goal, 0 for a fall, the wrong goal or too many steps, each of which ends the episode."""

    name = "masked-grid"
    time_limit = TIME_LIMIT
    draws = 4 * TIME_LIMIT + 1
    mask = "mask"

    def __init__(
        self, lanes: int, device: str | torch.device = "cpu", random_elapsed: bool = False, *, recall: bool = False
    ) -> None:
        self.recall = recall
        entries = {"mask": MultiBinary(4), "place": Box(-1.0, 1.0, (4 if recall else 3,), np.float32)}
        self.spaces = Spaces(Dict(entries), Discrete(4))
        super().__init__(lanes, device, random_elapsed)

    def start(self, uniform: Tensor) -> World:
        """At the entrance; the luck of every step is drawn now."""
        cell = torch.tensor(ENTRANCE[self.recall], device=uniform.device).expand(len(uniform), 2)
        goal = parts.pick(uniform[:, -1], 2 if self.recall else 1)
        return parts.begun(uniform, cell=cell.clone(), goal=goal)

    def open_ways(self, world: World) -> Tensor:
        """Which of the four ways are open [B, 4]: those inside whose number is below ``OPEN``, and the one of the lowest."""
        ways = world["cell"].unsqueeze(1) + parts.offsets(parts.MOVES, world["cell"])
        inside = ((ways >= 0) & (ways < SIZE)).all(-1)
        number = parts.luck(world, 4, TIME_LIMIT).masked_fill(~inside, 2.0)
        return inside & ((number < OPEN) | (number == number.amin(-1, keepdim=True)))

    def dynamics(self, world: World, action: Tensor) -> Transition:
        """Walk, or fall."""
        moves = ~((world["clock"] == 0) & self.recall)
        fell = moves & ~self.open_ways(world).gather(1, action.unsqueeze(1)).squeeze(1)
        step = parts.offsets(parts.MOVES, action)[action] * moves.unsqueeze(1)
        cell = (world["cell"] + step).clamp(0, SIZE - 1)
        goals = parts.offsets(GOALS[: 2 if self.recall else 1], cell)
        at = (cell.unsqueeze(1) == goals).all(-1)  # [B, goals]
        reached = at.gather(1, world["goal"].unsqueeze(1)).squeeze(1) & ~fell
        clock = world["clock"] + 1
        ended = fell | at.any(1) | (clock >= TIME_LIMIT)
        reward = reached.to(torch.float32)
        return Transition({**world, "cell": cell, "clock": clock}, reward, ended, {"success": reward})

    def observe(self, world: World) -> dict[str, Tensor]:
        """The cell, the share of steps that is left and, with ``recall``, the sign, each from −1 to 1; the mask."""
        place = [world["cell"] * (2 / (SIZE - 1)) - 1, 1 - world["clock"].unsqueeze(1) * (2 / TIME_LIMIT)]
        if self.recall:
            place.append(torch.where(world["clock"] == 0, 1 - 2 * world["goal"], 0).unsqueeze(1))
        return {"mask": self.open_ways(world).to(torch.int8), "place": torch.cat(place, 1).to(torch.float32)}

    def draw(self, world: World) -> np.ndarray:
        """The walker, the goal, and the ways that are open now."""
        x, y = world["cell"][0].tolist()
        goal = GOALS[int(world["goal"][0])]
        other = [(each, drawing.PALE) for each in GOALS[: 2 if self.recall else 1]]
        ways = zip(parts.MOVES, self.open_ways(world)[0].tolist(), strict=True)
        opened = [((x + dx, y + dy), drawing.ORANGE) for (dx, dy), there in ways if there]
        return parts.board(SIZE, SIZE, [*other, (goal, drawing.GREEN)], [*opened, ((x, y), drawing.BLUE)])

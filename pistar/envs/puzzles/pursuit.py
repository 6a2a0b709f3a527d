"""Two hunters and a prey on a torus: it is caught once both stand beside it, and one of them alone cannot do it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor

from pistar.envs import drawing
from pistar.envs.environment import Spaces
from pistar.envs.native import NativeEnvironment, Transition, World
from pistar.envs.puzzles import parts

SIZE, TIME_LIMIT = 7, 12  # cells of an edge; steps of an episode
STEPS = ((0, 0), *parts.MOVES)  # of hunters and prey
HUNTERS = 2
Partner = Literal["policy", "random"]


class Pursuit(NativeEnvironment):
    """B worlds, as `pistar.envs.native_agents` takes them: observations [B, 2, 4], actions [B, 2], one reward for both.

    With ``partner`` random there is one agent, [B, 4] and [B], and the other hunter walks at random.
    """

    name = "pair-pursuit"
    time_limit = TIME_LIMIT
    draws = 4 + 2 * TIME_LIMIT
    each = Spaces(Box(-1.0, 1.0, (4,), np.float32), Discrete(len(STEPS)))  # of one hunter

    def __init__(
        self,
        lanes: int,
        device: str | torch.device = "cpu",
        random_elapsed: bool = False,
        *,
        partner: Partner = "policy",
    ) -> None:
        self.partner = partner
        together = Spaces(Box(-1.0, 1.0, (HUNTERS, 4), np.float32), MultiDiscrete([len(STEPS)] * HUNTERS))
        self.spaces = together if partner == "policy" else self.each
        super().__init__(lanes, device, random_elapsed)

    def start(self, uniform: Tensor) -> World:
        """Both hunters anywhere; the prey's place is 0, and ``offset`` [B, 2, 2] is what a hunter is away from it."""
        offset = parts.pick(uniform[:, -4:], SIZE).view(-1, HUNTERS, 2)
        return parts.begun(uniform, offset=offset, prey=torch.zeros_like(offset[:, 0]))

    def dynamics(self, world: World, action: Tensor) -> Transition:
        """All move at once; the prey in any direction or not at all."""
        steps, chance = parts.offsets(STEPS, action), parts.pick(parts.luck(world, 2, TIME_LIMIT), len(STEPS))
        if self.partner == "random":
            action = torch.stack((action, chance[:, 1]), 1)
        fled = steps[chance[:, 0]]
        offset = (world["offset"] + steps[action] - fled.unsqueeze(1)) % SIZE
        clock = world["clock"] + 1
        caught = (self.away(offset).abs().sum(-1) <= 1).all(-1)
        reward = caught.to(torch.float32)
        after = {**world, "offset": offset, "prey": (world["prey"] + fled) % SIZE, "clock": clock}
        return Transition(after, reward, caught | (clock >= TIME_LIMIT), {"success": reward})

    def away(self, offset: Tensor) -> Tensor:
        """Offsets on the torus as the shortest way: [..., 2], from −SIZE // 2 to SIZE // 2."""
        return (offset + SIZE // 2) % SIZE - SIZE // 2

    def observe(self, world: World) -> Tensor:
        """How far each hunter is from the prey, and how far the other is: [B, 2, 4], or [B, 4] of the first."""
        away = self.away(world["offset"]) / (SIZE // 2)
        seen = torch.cat((away, away.flip(1)), -1).to(torch.float32)
        return seen if self.partner == "policy" else seen[:, 0].clone()

    def draw(self, world: World) -> np.ndarray:
        """Prey and hunters."""
        prey = world["prey"][0]
        hunters = [(tuple(((prey + each) % SIZE).tolist()), drawing.BLUE) for each in world["offset"][0]]
        return parts.board(SIZE, SIZE, [(tuple(prey.tolist()), drawing.ORANGE)], hunters)

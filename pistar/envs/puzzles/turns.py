"""Two players in turn: whoever's turn it is turns up a card, and must name the one of its own turn before.

Both see every card that lies open, so that a memory which does not wait through the other's turn is misled.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor

from pistar.envs import drawing
from pistar.envs.environment import Spaces
from pistar.envs.native import NativeEnvironment, Transition, World
from pistar.envs.puzzles import parts

CARDS, STEPS, PLAYERS = 4, 12, 2


class Turns(NativeEnvironment):
    """B worlds, as `pistar.envs.native_agents` takes them: observations [B, 2, CARDS], actions [B, 2], paid to both alike."""

    name = "recall-turns"
    time_limit = STEPS
    draws = STEPS + 1
    each = Spaces(Box(0.0, 1.0, (CARDS,), np.float32), Discrete(CARDS))  # of one player

    def __init__(self, lanes: int, device: str | torch.device = "cpu", random_elapsed: bool = False) -> None:
        seen = Box(0.0, 1.0, (PLAYERS, CARDS), np.float32)
        self.spaces = Spaces(seen, MultiDiscrete([CARDS] * PLAYERS))
        super().__init__(lanes, device, random_elapsed)

    def start(self, uniform: Tensor) -> World:
        """All cards are drawn now."""
        return parts.begun(uniform)

    def turn(self, world: World) -> Tensor:
        """Whose turn it is [B]."""
        return world["clock"] % PLAYERS

    def card(self, world: World, back: int = 0) -> Tensor:
        """The card that was turned up so many steps ago [B]; anything where none was."""
        clock = (world["clock"] - back).clamp(min=0)
        return parts.pick(world["luck"].gather(1, clock.unsqueeze(1)).squeeze(1), CARDS)

    def dynamics(self, world: World, action: Tensor) -> Transition:
        """The answer of the one whose turn it is."""
        answer = action.gather(1, self.turn(world).unsqueeze(1)).squeeze(1)
        right = (world["clock"] >= PLAYERS) & (answer == self.card(world, PLAYERS))
        return Transition({**world, "clock": world["clock"] + 1}, right.to(torch.float32) / (STEPS - PLAYERS))

    def observe(self, world: World) -> Tensor:
        """The open card, for both: [B, 2, CARDS]."""
        cards = torch.arange(CARDS, device=self.device)
        shown = (self.card(world).unsqueeze(1) == cards).to(torch.float32)
        return shown.unsqueeze(1).repeat(1, PLAYERS, 1)

    def draw(self, world: World) -> np.ndarray:
        """The cards by number, those of the second player below; the one to name is green."""
        clock, cards = int(world["clock"][0]), range(CARDS)
        player, open_card = int(self.turn(world)[0]), int(self.card(world)[0])
        squares = [((card, 1 - player), drawing.PALE) for card in cards]
        if clock >= PLAYERS:
            squares.append(((int(self.card(world, PLAYERS)[0]), 1 - player), drawing.GREEN))
        return parts.board(CARDS, PLAYERS, squares, [((open_card, 1 - player), drawing.BLUE)])

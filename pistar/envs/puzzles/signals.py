"""One sees a colour and says a word; the other hears the word, a step later, and must point at the colour.

What the words mean must be agreed on (a signalling game of Lewis 1969).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import Tensor

from pistar.envs import drawing
from pistar.envs.environment import Spaces, Tree
from pistar.envs.native import NativeEnvironment, Transition, World
from pistar.envs.puzzles import parts

COLOURS, WORDS, STEPS = 3, 5, 8
PAINTS = (drawing.BLUE, drawing.ORANGE, drawing.GREEN)
Speaker = Literal["policy", "random"]


class Signals(NativeEnvironment):
    """B worlds, as `pistar.envs.native_agents` takes them, of the groups speaker and listener; both are paid alike.

    With ``speaker`` random there is the listener alone, who hears words that mean nothing.
    """

    name = "word-signals"
    time_limit = STEPS
    draws = 2 * STEPS

    def __init__(
        self,
        lanes: int,
        device: str | torch.device = "cpu",
        random_elapsed: bool = False,
        *,
        speaker: Speaker = "policy",
    ) -> None:
        self.speaker = speaker
        heard, pointing = Box(0.0, 1.0, (WORDS,), np.float32), Discrete(COLOURS)
        if speaker == "random":
            self.spaces = Spaces(heard, pointing)
        else:
            seen = Dict({"listener": heard, "speaker": Discrete(COLOURS)})
            self.spaces = Spaces(seen, Dict({"listener": pointing, "speaker": Discrete(WORDS)}))
        super().__init__(lanes, device, random_elapsed)

    def start(self, uniform: Tensor) -> World:
        """Silence: word ``WORDS``."""
        nothing = torch.full((len(uniform),), WORDS, device=uniform.device)
        return parts.begun(uniform, word=nothing, shown=torch.zeros_like(nothing))

    def dynamics(self, world: World, action: Tree) -> Transition:
        """Point at the colour that was shown before; say a word about the one that is shown now."""
        chance, alone = parts.luck(world, 2, STEPS), self.speaker == "random"
        word = (
            parts.pick(chance[:, 1], WORDS) if alone else action["speaker"].long().clone()
        )  # the action is the caller's
        pointed = action if alone else action["listener"]
        right = (world["word"] < WORDS) & (pointed == world["shown"])
        after = {**world, "word": word, "shown": parts.pick(chance[:, 0], COLOURS), "clock": world["clock"] + 1}
        return Transition(after, right.to(torch.float32) / (STEPS - 1))

    def observe(self, world: World) -> Tree:
        """The colour [B]; the word as a row of ``WORDS``, all 0 in silence."""
        words = torch.arange(WORDS, device=self.device)
        heard = (world["word"].unsqueeze(1) == words).to(torch.float32)
        if self.speaker == "random":
            return heard
        return {"listener": heard, "speaker": parts.pick(parts.luck(world, 2, STEPS)[:, 0], COLOURS)}

    def draw(self, world: World) -> np.ndarray:
        """The word that is heard, above; the colour that it was said of, below."""
        word, shown = int(world["word"][0]), int(world["shown"][0])
        heard = [((word, 1), drawing.INK)] if word < WORDS else []
        return parts.board(WORDS, 2, [((1, 0), PAINTS[shown])] if word < WORDS else [], heard)

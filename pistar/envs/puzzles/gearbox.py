"""A gear and a pedal to choose at once: which gears can be engaged changes from step to step, and a mask tells.

A step pays worth(gear) · (1 − |pedal − load|) / steps; the road decides what each gear is worth, and one that cannot be
engaged is worth nothing. All is drawn anew in each step.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Space
from torch import Tensor

from pistar.envs import drawing
from pistar.envs.environment import Spaces, Tree
from pistar.envs.native import NativeEnvironment, Transition, World
from pistar.envs.puzzles import parts

GEARS, STEPS = 3, 10
WORTH = (1 / 3, 2 / 3, 1.0)  # of gear (i + road) modulo GEARS
Controls = Literal["both", "gear", "pedal"]


class Gearbox(NativeEnvironment):
    """B drivers; with ``controls`` gear the pedal rests at 0, with pedal the last gear is chosen always."""

    name = "mixed-gearbox"
    time_limit = STEPS
    draws = 3 * STEPS

    def __init__(
        self,
        lanes: int,
        device: str | torch.device = "cpu",
        random_elapsed: bool = False,
        *,
        controls: Controls = "both",
    ) -> None:
        self.controls = controls
        seen: dict[str, Space[Any]] = {"load": Box(-1.0, 1.0, (1,), np.float32), "road": Discrete(GEARS)}
        gear, pedal, mask = Discrete(GEARS), Box(-1.0, 1.0, (1,), np.float32), MultiBinary(GEARS)
        if controls != "pedal":
            self.mask, seen["mask"] = "mask", Dict({"gear": mask}) if controls == "both" else mask
        action = {"both": Dict({"gear": gear, "pedal": pedal}), "gear": gear, "pedal": pedal}[controls]
        self.spaces = Spaces(Dict(seen), action)
        super().__init__(lanes, device, random_elapsed)

    def start(self, uniform: Tensor) -> World:
        """The luck of every step is drawn now."""
        return parts.begun(uniform)

    def look(self, world: World) -> tuple[Tensor, Tensor, Tensor]:
        """Load [B], road [B], and which gears can be engaged [B, GEARS]: any of the sets that are not empty, all alike."""
        load, road, gears = parts.luck(world, 3, STEPS).unbind(1)
        number = 1 + parts.pick(gears, 2**GEARS - 1)
        possible = (number.unsqueeze(1) >> torch.arange(GEARS, device=number.device)) % 2 == 1
        return 2 * load - 1, parts.pick(road, GEARS), possible

    def dynamics(self, world: World, action: Tree) -> Transition:
        """Pay for gear and pedal."""
        load, road, possible = self.look(world)
        gear, pedal = torch.full_like(road, GEARS - 1), torch.zeros_like(load)
        if self.controls != "pedal":
            gear = (action["gear"] if self.controls == "both" else action).long()
        if self.controls != "gear":
            pedal = (action["pedal"] if self.controls == "both" else action).squeeze(-1)
        worth = torch.tensor(WORTH, device=load.device)[(gear - road) % GEARS]
        engaged = possible.gather(1, gear.unsqueeze(1)).squeeze(1)
        reward = engaged * worth * (1 - (pedal - load).abs()) / STEPS
        return Transition({**world, "clock": world["clock"] + 1}, reward)

    def observe(self, world: World) -> dict[str, Tree]:
        """Load, road and mask."""
        load, road, possible = self.look(world)
        seen: dict[str, Tree] = {"load": load.unsqueeze(1), "road": road}
        if self.controls != "pedal":
            mask = possible.to(torch.int8)
            seen["mask"] = {"gear": mask} if self.controls == "both" else mask
        return seen

    def draw(self, world: World) -> np.ndarray:
        """Every gear as high as its worth, in colour where it can be engaged; the load below."""
        load, road, possible = (each[0] for each in self.look(world))
        canvas = drawing.Canvas(3.6, (1.5, 0.5))
        for gear in range(GEARS):
            height = WORTH[(gear - int(road)) % GEARS]
            canvas.box((gear + 0.1, 0.0), (gear + 0.9, height), drawing.GREEN if possible[gear] else drawing.PALE)
        canvas.line([(0.0, -0.5), (3.0, -0.5)], 0.03, drawing.PALE)
        canvas.disc((1.5 + 1.5 * float(load), -0.5), 0.1, drawing.ORANGE)
        return canvas.frame()

"""Two worlds in which an algorithm shows in seconds whether it learns: a bandit and a corridor.

They are tasks like any other, so that sessions and `pistar train` run them; they are not registered, because nobody needs
their policies. ``actions`` chooses between a discrete choice and a box of one number. The bandit asks whether actions
that paid become more likely, separately for each observation. The corridor asks for credit over time: the pay that is near
is small, and lies in the other direction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from pistar.envs.environment import Environment, Spaces
from pistar.envs.native import NativeEnvironment, Transition, World
from pistar.tasks import baselines
from pistar.tasks.task import Actions, Controller, Execution, Task

UNIT = spaces.Box(-1.0, 1.0, (1,), np.float32)


@dataclass(frozen=True)
class Bandit(Task):
    """One step an episode: each of 4 contexts has one right arm of 3, which pays 1; every pay is noisy."""

    summary: ClassVar[str] = "choose the arm that the context asks for; one step an episode"
    threshold: ClassVar[float | None] = 0.85  # the right arm always: 1; random: 1/3

    actions: Actions = "discrete"  # an arm, or a number in [-1, 1] whose third says which arm

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """B machines."""
        return BanditLanes(lanes, self.actions, execution.device)

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random arms."""
        return {"random": baselines.random}


@dataclass(frozen=True)
class Corridor(Task):
    """Two steps to the left wait 0.1, five to the right 1; one step in ten slips the other way; at most 30 steps."""

    summary: ClassVar[str] = "walk past the small pay that is near to the large one that is far"
    threshold: ClassVar[float | None] = 0.8  # always right: 0.99; random: 0.35

    actions: Actions = "discrete"  # left or right, or a step in [-1, 1]

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """B corridors."""
        return CorridorLanes(lanes, self.actions, execution.device)

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random steps."""
        return {"random": baselines.random}


class BanditLanes(NativeEnvironment):
    """Contexts shown one-hot; arm ``context mod 3`` is the right one."""

    name = "bandit"
    time_limit = 1
    draws = 2

    def __init__(self, lanes: int, actions: Actions, device: str = "cpu") -> None:
        self.continuous = actions == "continuous"
        context = spaces.Box(0.0, 1.0, (4,), np.float32)
        self.spaces = Spaces(context, UNIT if self.continuous else spaces.Discrete(3))
        super().__init__(lanes, device)

    def start(self, uniform: Tensor) -> World:
        """A context, and the noise that its pay will have."""
        return {"context": (uniform[:, 0] * 4).long(), "noise": uniform[:, 1] - 0.5}

    def dynamics(self, world: World, action: Tensor) -> Transition:
        """Pay and end."""
        arm = ((action[:, 0] + 1) * 1.5).long().clamp(0, 2) if self.continuous else action
        right = arm == world["context"] % 3
        return Transition(world, right.float() + world["noise"], torch.ones_like(right))

    def observe(self, world: World) -> Tensor:
        """[B, 4]."""
        return functional.one_hot(world["context"], 4).float()


class CorridorLanes(NativeEnvironment):
    """Positions from 0 to 7, starting at 2; both ends end the episode."""

    name = "corridor"
    time_limit = 30
    draws = 30

    def __init__(self, lanes: int, actions: Actions, device: str = "cpu") -> None:
        self.continuous = actions == "continuous"
        place = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.spaces = Spaces(place, UNIT if self.continuous else spaces.Discrete(2))
        super().__init__(lanes, device)

    def start(self, uniform: Tensor) -> World:
        """The position, and the slips of the whole episode."""
        position = torch.full_like(uniform[:, 0], 2.0)
        return {"position": position, "slips": uniform < 0.1, "time": torch.zeros_like(position, dtype=torch.int64)}

    def dynamics(self, world: World, action: Tensor) -> Transition:
        """One step, or its opposite where it slips."""
        move = action[:, 0].clamp(-1, 1) if self.continuous else 2.0 * action - 1
        slipped = world["slips"].gather(1, world["time"].unsqueeze(1)).squeeze(1)
        position = (world["position"] + torch.where(slipped, -move, move)).clamp(0, 7)
        left, right = position <= 0, position >= 7
        after = {"position": position, "slips": world["slips"], "time": world["time"] + 1}
        return Transition(after, right.float() + 0.1 * left.float(), left | right)

    def observe(self, world: World) -> Tensor:
        """The position, scaled to [−1, 1]: [B, 1]."""
        return (world["position"] / 3.5 - 1).unsqueeze(1)

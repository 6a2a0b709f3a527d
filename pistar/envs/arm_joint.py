"""A robot arm on a grid of joint positions, in torch: the worked example of the policy gradient.

Each of n joints stands at one of P positions, equally spaced between its limits, and moves by one position, back, or not
at all: 3ⁿ actions. With δ = goal − joint angles *after* the move, the reward is −‖δ‖². Cells of the joint space may be
forbidden: a move into one leaves the arm where it is, so that the way to the goal can lead around a wall.

The world is finite and known; ``pistar.tasks.arm_joint`` solves it exactly. Episodes never terminate.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from pistar.envs import drawing
from pistar.envs.environment import Spaces
from pistar.envs.native import NativeEnvironment, Transition, World
from pistar.errors import UsageError

LARGEST = 2**22  # cells of a joint space


class ArmJoint(NativeEnvironment):
    """B arms of ``joints`` joints with ``positions`` positions each, at most ±``limit`` rad.

    ``goal``: the cell [n] to reach, or None to draw a free one per episode. ``forbidden``: bool [P, ..., P] over the joint
    space, or None. Episodes start at a free cell drawn uniformly.
    """

    name = "arm-joint"
    draws = 2

    def __init__(
        self,
        lanes: int,
        device: str | torch.device = "cpu",
        random_elapsed: bool = False,
        *,
        joints: int = 2,
        positions: int = 21,
        limit: float = 2.5,
        goal: tuple[int, ...] | None = None,
        forbidden: Tensor | None = None,
        time_limit: int = 50,
    ) -> None:
        if joints < 1 or positions < 2 or positions**joints > LARGEST or not 0 < limit <= math.pi:
            raise UsageError(
                f"expected at least 1 joint, 2 positions, at most {LARGEST:,} cells and 0 < limit <= π; received "
                f"{joints} joints, {positions} positions, limit {limit}"
            )
        self.joints, self.positions, self.limit, self.time_limit = joints, positions, limit, time_limit
        shape = (positions,) * joints
        if forbidden is None:
            forbidden = torch.zeros(shape, dtype=torch.bool)
        if forbidden.shape != shape or bool(forbidden.all()):
            raise UsageError(
                f"forbidden must be bool {list(shape)} and leave a cell free; it is {list(forbidden.shape)}"
            )
        if goal is not None and (len(goal) != joints or not all(0 <= g < positions for g in goal) or forbidden[goal]):
            raise UsageError(
                f"the goal must be a free cell of {joints} numbers from 0 to {positions - 1}, received {goal}"
            )
        steps = list(itertools.product((-1, 0, 1), repeat=joints))
        place = torch.device(device)
        self.forbidden = forbidden.to(place)
        self.moves = torch.tensor(steps, device=place)  # [3ⁿ, n]
        self.angles = torch.linspace(-limit, limit, positions, dtype=torch.float64).to(torch.float32).to(place)
        self.free = (~forbidden).flatten().nonzero().squeeze(-1).to(place)  # cells by number
        self.goal = None if goal is None else torch.tensor(goal, device=place)
        self._stride = torch.tensor([positions ** (joints - 1 - j) for j in range(joints)], device=place)
        high = np.concatenate([np.full(2 * joints, limit), np.full(joints, 2 * limit)]).astype(np.float32)
        self.spaces = Spaces(Box(-high, high, dtype=np.float32), Discrete(len(steps)))
        super().__init__(lanes, device, random_elapsed)

    def cell(self, number: Tensor) -> Tensor:
        """The cell of a number that counts the joint space, last joint fastest: [...] -> [..., n]."""
        return number.unsqueeze(-1) // self._stride % self.positions

    def number(self, cell: Tensor) -> Tensor:
        """The inverse of ``cell``: [..., n] -> [...]."""
        return (cell * self._stride).sum(-1)

    def start(self, uniform: Tensor) -> World:
        """Position and goal uniform over the free cells."""
        chosen = self.free[(uniform * len(self.free)).long().clamp(max=len(self.free) - 1)]
        position, goal = self.cell(chosen).unbind(-2)
        return {"position": position, "goal": goal if self.goal is None else self.goal.expand_as(goal)}

    def moved(self, position: Tensor, action: Tensor) -> Tensor:
        """The cell after a move: stopped by the limits joint by joint, and by a forbidden cell altogether: [..., n]."""
        after = (position + self.moves[action]).clamp(0, self.positions - 1)
        blocked = self.forbidden.flatten()[self.number(after)]
        return torch.where(blocked.unsqueeze(-1), position, after)

    def dynamics(self, world: World, action: Tensor) -> Transition:
        """Move, then look at the error."""
        position, goal = self.moved(world["position"], action), world["goal"]
        error = self.angles[goal] - self.angles[position]
        reached = (position == goal).all(-1)
        return Transition(
            {"position": position, "goal": goal}, -error.square().sum(-1), info={"success": reached.to(error.dtype)}
        )

    def observe(self, world: World) -> Tensor:
        """Joint angles, goal angles and their difference, rad: [B, 3 n]."""
        position, goal = self.angles[world["position"]], self.angles[world["goal"]]
        return torch.cat((position, goal, goal - position), -1)

    def draw(self, world: World) -> np.ndarray:
        """The arm, its goal posture, and the joint space of the first two joints in the corner."""
        position, goal = world["position"][0], world["goal"][0]
        canvas = drawing.Canvas(2.4)
        for cells, colour, width in ((goal, drawing.PALE, 0.05), (position, drawing.BLUE, 0.07)):
            angles = self.angles.cpu()[cells].cumsum(0)
            length = 1.0 / self.joints
            x, y = (length * angles.cos()).cumsum(0), (length * angles.sin()).cumsum(0)
            joints = [(0.0, 0.0), *zip(x.tolist(), y.tolist(), strict=True)]
            canvas.line(joints, width, colour)
            for joint in joints[:-1]:
                canvas.disc(joint, 0.02, drawing.PAPER)
        if self.joints >= 2:
            self._draw_joint_space(canvas, position, goal)
        return canvas.frame()

    def _draw_joint_space(self, canvas: drawing.Canvas, position: Tensor, goal: Tensor) -> None:
        edge = 0.7 / self.positions
        corner = (-1.15, -1.15)
        around = [tuple(position[2:].tolist())] if self.joints > 2 else [()]
        walls = self.forbidden.cpu()[(slice(None), slice(None), *around[0])]
        marks = [((i, j), drawing.INK) for i, j in walls.nonzero().tolist()]
        marks += [(tuple(goal[:2].tolist()), drawing.GREEN), (tuple(position[:2].tolist()), drawing.BLUE)]
        canvas.box(corner, (corner[0] + 0.7, corner[1] + 0.7), (235, 238, 240))
        for (i, j), colour in marks:
            low = (corner[0] + i * edge, corner[1] + j * edge)
            canvas.box(low, (low[0] + edge, low[1] + edge), colour)

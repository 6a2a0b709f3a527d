"""What the small worlds share: chance that was drawn when the episode began, moves on a grid, and pictures of a board."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from pistar.envs import drawing
from pistar.envs.native import World

MOVES = ((1, 0), (0, 1), (-1, 0), (0, -1))  # east, north, west, south
Cell = tuple[float, float]


def begun(uniform: Tensor, **state: Tensor) -> World:
    """A start at clock 0 that carries ``uniform`` [B, draws], the luck of the whole episode."""
    return {"luck": uniform, "clock": torch.zeros_like(uniform[:, 0], dtype=torch.int64), **state}


def luck(world: World, count: int, steps: int) -> Tensor:
    """The ``count`` uniform numbers of the present step, out of ``steps`` times as many: [B, count]."""
    first = (world["clock"].clamp(max=steps - 1) * count).unsqueeze(1)
    return world["luck"].gather(1, first + torch.arange(count, device=first.device))


def pick(uniform: Tensor, count: int) -> Tensor:
    """A number from 0 to ``count`` − 1, all alike: [...] -> [...] int64."""
    return (uniform * count).long().clamp(max=count - 1)


def offsets(moves: Iterable[tuple[int, int]], like: Tensor) -> Tensor:
    """Moves as a tensor [A, 2] on the device of ``like``."""
    return torch.tensor(list(moves), device=like.device)


def board(
    width: int,
    height: int,
    squares: Iterable[tuple[Cell, drawing.Colour]],
    discs: Iterable[tuple[Cell, drawing.Colour]],
) -> np.ndarray:
    """A picture of a board of cells, (0, 0) at the lower left: [SIZE, SIZE, 3] uint8."""
    span = max(width, height) + 0.5
    canvas = drawing.Canvas(span, (width / 2, height / 2))
    for x in range(width):
        for y in range(height):
            canvas.box((x + 0.04, y + 0.04), (x + 0.96, y + 0.96), (235, 238, 240))
    for (left, low), colour in squares:
        canvas.box((left + 0.04, low + 0.04), (left + 0.96, low + 0.96), colour)
    for (left, low), colour in discs:
        canvas.disc((left + 0.5, low + 0.5), 0.32, colour)
    return canvas.frame()

"""Flat pictures of simple worlds: shapes in the world's own units on a square canvas, smoothed by oversampling.

It differs from ``mujoco_drawing``, which projects a MuJoCo model. Left out: text (``report.video`` captions frames).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]
Colour = tuple[int, int, int]

SIZE, OVERSAMPLING = 480, 2  # pixels of a frame's edge; drawn larger and reduced
PAPER, INK, PALE = (250, 250, 248), (52, 58, 64), (205, 210, 215)
BLUE, ORANGE, GREEN = (31, 111, 180), (224, 122, 40), (60, 150, 90)


class Canvas:
    """A square of ``span`` world units around ``centre``, x to the right and y up."""

    def __init__(self, span: float, centre: Point = (0.0, 0.0)) -> None:
        self._pixels = SIZE * OVERSAMPLING
        self._scale, self._centre = self._pixels / span, centre
        self._image = Image.new("RGB", (self._pixels, self._pixels), PAPER)
        self._pen = ImageDraw.Draw(self._image)

    def _place(self, point: Point) -> Point:
        x, y = ((float(p) - c) * self._scale for p, c in zip(point, self._centre, strict=True))
        return self._pixels / 2 + x, self._pixels / 2 - y

    def line(self, points: Sequence[Point], width: float, colour: Colour = INK) -> None:
        """A stroke with round ends."""
        places = [self._place(point) for point in points]
        self._pen.line(places, colour, max(1, round(width * self._scale)), joint="curve")
        for point in (points[0], points[-1]):
            self.disc(point, width / 2, colour)

    def disc(self, centre: Point, radius: float, colour: Colour = INK) -> None:
        """A filled circle."""
        self._pen.ellipse(self._around(centre, radius), colour)

    def ring(self, centre: Point, radius: float, width: float, colour: Colour = INK) -> None:
        """A circle's outline."""
        self._pen.ellipse(self._around(centre, radius), None, colour, max(1, round(width * self._scale)))

    def box(self, low: Point, high: Point, colour: Colour = INK) -> None:
        """A filled rectangle between two corners."""
        (left, bottom), (right, top) = self._place(low), self._place(high)
        self._pen.rectangle((left, top, right, bottom), colour)

    def _around(self, centre: Point, radius: float) -> tuple[float, float, float, float]:
        (x, y), r = self._place(centre), radius * self._scale
        return x - r, y - r, x + r, y + r

    def frame(self) -> np.ndarray:
        """The picture: [SIZE, SIZE, 3] uint8."""
        return np.asarray(self._image.resize((SIZE, SIZE), Image.Resampling.LANCZOS), np.uint8)

"""Line charts as SVG text for pages: no script, no fonts of their own, colours left to the page's style sheet.

What belongs to the series n has the class ``sn``; a page gives each its colour, in light and in dark. Numbers are rounded to
tenths of a pixel, which nobody sees and which halves the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from pistar.report.curves import spread, widened
from pistar.report.numerals import typeset

Array = NDArray[np.float64]

MOST_POINTS = 240  # of a line
TEXT = 12  # pixels
GAP = 15  # between two labels


@dataclass(frozen=True)
class Line:
    """One series: x and y [N], with a band from low to high [N] where there is one; NaN leaves a gap."""

    index: int  # decides the colour
    x: Array
    y: Array
    low: Array | None = None
    high: Array | None = None
    style: str = "line"  # the class beside the colour: "line", "faint", "step"
    dots: bool = False


@dataclass(frozen=True)
class Reference:
    """A horizontal line with its name."""

    label: str
    value: float


@dataclass(frozen=True)
class Frame:
    """The plot's rectangle in pixels, and what its edges stand for."""

    left: float
    top: float
    right: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: Array | float) -> Array | float:
        """From data to pixels."""
        low, high = self.x
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def down(self, value: Array | float) -> Array | float:
        """From data to pixels; what lies beyond an edge by far is cut there."""
        low, high = self.y
        share = np.clip((value - low) / (high - low), -1.0, 2.0)
        result: Array | float = self.bottom - share * (self.bottom - self.top)
        return result


def chart(
    lines: Sequence[Line],
    references: Sequence[Reference] = (),
    *,
    size: tuple[int, int],
    description: str,
    limits: tuple[float, float],
    x_limits: tuple[float, float] | None = None,
    margin: int = 0,
    x_label: str = "",
    x_ticks: int = 6,
    y_ticks: int = 5,
    css: str = "",
) -> str:
    """An ``<svg>`` of ``size`` (width, height); ``margin`` pixels at the right hold the names of the references."""
    width, height = size
    low, high = widened(limits, [reference.value for reference in references])
    across = x_limits or (0.0, max([float(line.x[-1]) for line in lines if len(line.x)] or [1.0]) or 1.0)
    vertical = ticks(low, high, y_ticks)
    left = 10 + 7.0 * max((len(typeset(value)) for value in vertical), default=1)
    bottom = height - (40 if x_label else 22)
    frame = Frame(left, 8, width - max(margin, 10), bottom, across, (low, high))
    number = f"{abs(hash_of(description, lines)):x}"
    parts = [
        f'<svg class="chart {css}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">',
        f'<clipPath id="c{number}"><rect x="{frame.left:.1f}" y="{frame.top - 4:.1f}" '
        f'width="{frame.right - frame.left:.1f}" height="{frame.bottom - frame.top + 8:.1f}"/></clipPath>',
        *axes(frame, vertical, ticks(*across, x_ticks), x_label, height),
        f'<g clip-path="url(#c{number})">',
        *(band(line, frame) for line in lines if line.low is not None),
        *(path(line, frame) for line in lines),
        "</g>",
        *named(references, frame, margin),
        "</svg>",
    ]
    return "".join(parts)


def hash_of(description: str, lines: Sequence[Line]) -> int:
    """A number that tells this chart from others on a page, the same on every run (which ``hash`` of a text is not)."""
    total = sum(ord(letter) * 31**place for place, letter in enumerate(description[:24]))
    return int(total + sum(int(abs(np.nansum(line.y)) * 1e3) % 10**9 for line in lines)) % 2**48


def axes(frame: Frame, vertical: Sequence[float], horizontal: Sequence[float], label: str, height: int) -> list[str]:
    """Grid lines, ticks and their numbers."""
    parts = []
    for value in vertical:
        y = frame.down(value)
        parts.append(f'<line class="grid" x1="{frame.left:.1f}" x2="{frame.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick end" x="{frame.left - 6:.1f}" y="{y + 4:.1f}">{typeset(value)}</text>')
    parts.append(
        f'<line class="axis" x1="{frame.left:.1f}" x2="{frame.right:.1f}" y1="{frame.bottom:.1f}" y2="{frame.bottom:.1f}"/>'
    )
    for value in horizontal:
        x = frame.across(value)
        side = "end" if x > frame.right - 14 else "middle"
        parts.append(f'<text class="tick {side}" x="{x:.1f}" y="{frame.bottom + 16:.1f}">{typeset(value)}</text>')
    if label:
        middle = (frame.left + frame.right) / 2
        parts.append(f'<text class="tick middle" x="{middle:.1f}" y="{height - 6}">{escape(label)}</text>')
    return parts


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers within [low, high], about as many as are wanted."""
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return []
    unit = 10.0 ** math.ceil(math.log10(high - low))
    steps = [unit * factor / 10**power for power in range(3) for factor in (1, 0.5, 0.25, 0.2)]
    counts = [math.floor(high / step + 1e-9) - math.ceil(low / step - 1e-9) + 1 for step in steps]
    step = steps[min(range(len(steps)), key=lambda n: (abs(counts[n] - wanted), -n))]
    first = math.ceil(low / step - 1e-9)
    return [float(f"{n * step:.12g}") + 0.0 for n in range(first, math.floor(high / step + 1e-9) + 1)]


def thinned(line: Line) -> Line:
    """At most ``MOST_POINTS`` of a line's points, the last one always."""
    count = len(line.x)
    if count <= MOST_POINTS:
        return line
    index = np.unique(np.linspace(0, count - 1, MOST_POINTS).round().astype(int))
    low, high = (None if edge is None else edge[index] for edge in (line.low, line.high))
    return Line(line.index, line.x[index], line.y[index], low, high, line.style, line.dots)


def path(line: Line, frame: Frame) -> str:
    """The line, and its dots."""
    line = thinned(line)
    x, y = np.asarray(frame.across(line.x)), np.asarray(frame.down(line.y))
    text, pen = [], False
    for across, down in zip(x.tolist(), y.tolist(), strict=True):
        if math.isfinite(down):
            text.append(f"{'L' if pen else 'M'}{across:.1f} {down:.1f}")
        pen = math.isfinite(down)
    result = f'<path class="{line.style} s{line.index}" d="{"".join(text)}"/>'
    if line.dots or len(text) == 1:
        for across, down, step, value in zip(x.tolist(), y.tolist(), line.x.tolist(), line.y.tolist(), strict=True):
            if math.isfinite(down):
                told = f"<title>{typeset(step)}: {typeset(value)}</title>"
                result += f'<circle class="dot s{line.index}" cx="{across:.1f}" cy="{down:.1f}" r="3">{told}</circle>'
    return result


def band(line: Line, frame: Frame) -> str:
    """The area between low and high."""
    line = thinned(line)
    assert line.low is not None
    assert line.high is not None, "a band has two edges"
    known = np.isfinite(line.low) & np.isfinite(line.high)
    if known.sum() < 2:
        return ""
    x = np.asarray(frame.across(line.x[known]))
    low, high = (np.asarray(frame.down(edge[known])) for edge in (line.low, line.high))
    points = [*zip(x, high, strict=True), *zip(x[::-1], low[::-1], strict=True)]
    return f'<path class="band s{line.index}" d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in points)}Z"/>'


def named(references: Sequence[Reference], frame: Frame, margin: int) -> list[str]:
    """A dashed line for each reference and its name: in the margin, or above the line where there is none."""
    low, high = frame.y
    parts = []
    inside = [min(max(reference.value, low), high) for reference in references]
    gap = GAP * (high - low) / (frame.bottom - frame.top)
    places = spread(inside, gap, low, high)
    for reference, value, place in zip(references, inside, places, strict=True):
        beyond = "↓ " if reference.value < low else "↑ " if reference.value > high else ""
        y, label = float(frame.down(value)), f"{beyond}{escape(reference.label)} {typeset(reference.value)}"
        if not beyond:
            parts.append(
                f'<line class="reference" x1="{frame.left:.1f}" x2="{frame.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
        at = float(frame.down(place))
        if margin:
            parts.append(f'<text class="name" x="{frame.right + 8:.1f}" y="{at + 4:.1f}">{label}</text>')
        else:
            parts.append(
                f'<text class="name end halo" x="{frame.right - 4:.1f}" y="{max(at - 4, TEXT):.1f}">{label}</text>'
            )
    return parts

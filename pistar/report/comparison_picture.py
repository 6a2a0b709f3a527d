"""A comparison of groups of runs as one picture: curves, aggregate scores, performance profiles, who is better than whom.

The learning curve of one run is ``picture``'s; this one shares its style. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pistar.report.comparison import Band, Comparison
from pistar.report.numerals import typeset
from pistar.report.picture import INK, QUIET, STYLE, THRESHOLD
from pistar.report.replacing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which colour-blind readers tell apart; beyond it, lines differ by their dashes too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B4C9A")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
MOST_PAIRS = 12  # rows of the last panel
LONGEST = 44  # characters of a label


def colour(index: int) -> str:
    """Of the group at ``index``."""
    return COLOURS[index % len(COLOURS)]


def dashes(index: int) -> Any:
    """Of the group at ``index``."""
    return DASHES[index // len(COLOURS) % len(DASHES)]


def clipped(label: str) -> str:
    """A label that leaves room for a picture."""
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"


def draw(comparison: Comparison, path: Path) -> Path:
    """Draw into the PNG ``path`` and return it."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pairs = len(comparison.improvements[:MOST_PAIRS])
    rows = max(len(comparison.summaries), 1)
    lower = 1.0 + 0.32 * max(rows, pairs)  # inches
    height = 6.3 + lower
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, height), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        engine: Any = figure.get_layout_engine()
        engine.set(w_pad=0.15, h_pad=0.12, wspace=0.03, hspace=0.05)
        grid = figure.add_gridspec(2, 2, height_ratios=(4.6, lower))
        curves, profiles = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
        scores, chances = figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
        title = figure.suptitle(comparison.task, fontsize=15, fontweight="bold", x=0.012, ha="left")
        title.set_in_layout(True)
        draw_curves(curves, comparison)
        draw_profiles(profiles, comparison)
        draw_scores(scores, comparison)
        draw_chances(chances, comparison)
        handles, labels = curves.get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower left",
            ncols=min(len(labels), 3),
            frameon=False,
            labelcolor=INK,
            fontsize=10,
        )
        with replacing(path) as partial:
            figure.savefig(partial, format="png", metadata={"Software": None})
    return path


def draw_curves(axes: Axes, comparison: Comparison) -> None:
    """The interquartile mean of evaluations against steps."""
    for index, each in enumerate(comparison.summaries):
        draw_band(axes, each.curve, index, label=f"{clipped(each.group.label)} ({len(each.scores)} runs)")
    if comparison.threshold is not None:
        axes.axhline(comparison.threshold, color=THRESHOLD, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1)
    axes.set_xlim(left=0)
    name(axes, "evaluations: interquartile mean, 95 % interval", "environment steps", "return")


def draw_profiles(axes: Axes, comparison: Comparison) -> None:
    """The share of runs that reach more than a score."""
    for index, each in enumerate(comparison.summaries):
        draw_band(axes, each.profile, index)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlim(comparison.summaries[0].profile.x[0], comparison.summaries[0].profile.x[-1])
    name(axes, "performance profile", "final return x", "share of runs above x")


def draw_band(axes: Axes, band: Band, index: int, label: str | None = None) -> None:
    """One group's curve."""
    marker = "o" if len(band.x) == 1 else None
    axes.fill_between(band.x, band.low, band.high, color=colour(index), alpha=0.16, linewidth=0)
    axes.plot(
        band.x, band.centre, color=colour(index), linestyle=dashes(index), linewidth=1.9, label=label, marker=marker
    )


def draw_scores(axes: Axes, comparison: Comparison) -> None:
    """The interquartile mean of final scores, its interval, and every run."""
    names = [clipped(each.group.label) for each in comparison.summaries]
    for index, each in enumerate(comparison.summaries):
        low, high = each.interval
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [index, index], color=colour(index), linewidth=9, alpha=0.3, solid_capstyle="butt")
        axes.plot(each.scores, [index] * len(each.scores), "|", color=colour(index), markersize=9, alpha=0.8)
        axes.plot(each.interquartile_mean, index, "o", color=colour(index), markersize=7, mec="white", mew=1)
    rows(axes, names)
    name(axes, "final return: interquartile mean, 95 % interval, runs", "return", "")


def draw_chances(axes: Axes, comparison: Comparison) -> None:
    """The probability of improvement of each pair."""
    pairs = comparison.improvements[:MOST_PAIRS]
    axes.axvline(0.5, color=QUIET, linewidth=1)
    for row, pair in enumerate(pairs):
        axes.plot(pair.interval, [row, row], color=INK, linewidth=9, alpha=0.22, solid_capstyle="butt")
        axes.plot(pair.probability, row, "o", color=INK, markersize=7, mec="white", mew=1)
    axes.set_xlim(-0.03, 1.03)
    rows(axes, [f"{clipped(pair.better)}\nover {clipped(pair.than)}" for pair in pairs])
    left = len(comparison.improvements) - len(pairs)
    name(axes, "probability of improvement" + (f" ({left} more pairs in the numbers)" if left else ""), "", "")
    if not pairs:
        axes.set_axis_off()


def rows(axes: Axes, names: list[str]) -> None:
    """One row a name, from above."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)


def name(axes: Axes, title: str, below: str, left: str) -> None:
    """Title, labels and numbers of the axes."""
    from matplotlib.ticker import FuncFormatter

    axes.set_title(title, loc="left", fontsize=11, color=INK, pad=8)
    axes.set_xlabel(below, fontsize=10)
    axes.set_ylabel(left, fontsize=10)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: typeset(value)))
    if left:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: typeset(value)))

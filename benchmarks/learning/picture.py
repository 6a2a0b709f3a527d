"""Learning curves of a suite: the mean over seeds of every row, in its 95 % interval from three seeds on.

Every task has a panel for the defaults, with peers dotted beside them, and one for the recipes, where there are any; a thin grey
line is what PPO's defaults are asked for. Where a few lines fall far below the others, the axis is cut and says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.learning.results import Result
from benchmarks.learning.suites import FAMILY
from pistar.statistics import student_quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Okabe and Ito's palette, which colour-blind readers tell apart, in the order of the family.
COLOURS = ("#0072B2", "#D55E00", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#8C6BB1", "#7F7F7F")
LINES = {"defaults": "-", "recipe": "-", "published": "--", "peer": ":"}
WORDS = {"peer": "sb3-contrib", "published": "published settings"}
INK, FAINT = "#1f2733", "#e6e8ec"
RECIPE = ", by its recipe"
FEWEST = 3  # seeds of which an interval says something
CUT = 0.04  # share of the means that may lie below the axis


def curves(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """Steps [E] and means [seeds, E] on them; seeds that were judged at other steps are interpolated."""
    known = [outcome for outcome in result.outcomes if outcome.curve]
    steps = np.asarray(known[0].steps_of_curve, dtype=np.float64)
    return steps, np.stack([np.interp(steps, each.steps_of_curve, each.curve) for each in known])


def band(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds and the half-width of its 95 % interval (Student's t), 0 for one seed: [seeds, E] -> [E], [E]."""
    seeds = len(means)
    if seeds < 2:
        return means.mean(0), np.zeros(means.shape[1])
    return means.mean(0), student_quantile(seeds - 1) * means.std(0, ddof=1) / math.sqrt(seeds)


def draw(title: str, results: Sequence[Result], path: Path) -> bool:
    """Write the picture; False, and nothing is written, where no row has a curve."""
    results = [result for result in results if any(outcome.curve for outcome in result.outcomes)]
    if not results:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = panels(results)
    columns = 2 if any(title.endswith(RECIPE) for title in shown) else min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(5.2 * columns, 3.2 * rows + 0.9), squeeze=False)
    handles: dict[str, Line2D] = {}
    for (name, some), ax in zip(shown.items(), axes.flat, strict=False):
        handles |= panel(ax, name, some)
    for ax in axes.flat[len(shown) :]:
        ax.axis("off")
    if any(title.endswith(RECIPE) for title in shown):
        for pair in axes:
            level(pair)
    for ax in (ax for ax in axes.flat if ax.axison):
        say_what_is_cut(ax)
    figure.suptitle(title, color=INK, fontsize=13, y=1 - 0.1 / figure.get_figheight())
    across = min(len(handles), 3 * columns)
    figure.legend(list(handles.values()), list(handles), loc="lower center", ncols=across, frameon=False, fontsize=8)
    lines = -(-len(handles) // across)
    bottom = (0.25 + 0.2 * lines) / figure.get_figheight()
    figure.tight_layout(rect=(0, bottom, 1, 1 - 0.15 / figure.get_figheight()))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def panels(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Title -> rows of a panel: of each task the defaults, and beside them the recipe where any task has one."""
    tasks = list(dict.fromkeys(result.row.task or result.row.name for result in results))
    recipes = any(result.row.column == "recipe" for result in results)
    shown: dict[str, list[Result]] = {}
    for task in tasks:
        here = [result for result in results if (result.row.task or result.row.name) == task]
        shown[task] = [result for result in here if result.row.column != "recipe"]
        if recipes:
            shown[task + RECIPE] = [result for result in here if result.row.column == "recipe"]
    return shown


def panel(ax: Axes, title: str, results: Sequence[Result]) -> dict[str, Line2D]:
    """Some curves of a task; gives back the lines by their names, for the legend."""
    handles: dict[str, Line2D] = {}
    if not results:
        ax.axis("off")
        return handles
    values = []
    for result in results:
        row = result.row
        steps, means = curves(result)
        mean, half = band(means)
        colour = COLOURS[FAMILY.index(row.algorithm)] if row.algorithm in FAMILY else COLOURS[0]
        if row.column == "peer":
            colour = INK
        label = " ".join(filter(None, (row.algorithm or "pistar", WORDS.get(row.column, ""))))
        (handles[label],) = ax.plot(steps, mean, LINES[row.column], color=colour, linewidth=1.5)
        if len(means) >= FEWEST:
            ax.fill_between(steps, mean - half, mean + half, color=colour, alpha=0.13, linewidth=0)
        values.append(mean)
    lines = [result.row.asked for result in results if result.row.asked is not None]
    for line in dict.fromkeys(lines):
        handles["asked of ppo's defaults" if results[0].row.task else "asked"] = ax.axhline(
            line, color="#98a2b3", linewidth=1, zorder=0
        )
    frame(ax, title, np.concatenate(values), lines)
    return handles


def level(pair: Sequence[Axes]) -> None:
    """Give the panels of a task the same scale."""
    drawn = [ax.get_ylim() for ax in pair if ax.axison]
    for ax in pair:
        ax.set_ylim(min(low for low, _ in drawn), max(top for _, top in drawn))


def say_what_is_cut(ax: Axes) -> None:
    """In the title, where a line leaves the panel."""
    if min(float(np.min(line.get_ydata())) for line in ax.lines) < ax.get_ylim()[0]:
        ax.set_title(f"{ax.get_title()} (cut below)", fontsize=10, color=INK)


def frame(ax: Axes, title: str, values: np.ndarray, lines: Sequence[float]) -> None:
    """Limits, ticks and titles."""
    top, bottom = max(float(np.max(values)), *lines, -math.inf), float(np.min(values))
    low = min(float(np.quantile(values, CUT)), *lines, math.inf)
    margin = 0.06 * max(top - low, 1e-9)
    ax.set_ylim((low if bottom < low - 2 * margin else min(bottom, low)) - margin, top + 2 * margin)
    ax.set_title(title, fontsize=10, color=INK)
    ax.grid(color=FAINT, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    ax.set_xlabel("steps", fontsize=8)
    ax.set_ylabel("mean return of an evaluation", fontsize=8)
    ax.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
    ax.xaxis.get_offset_text().set_fontsize(8)

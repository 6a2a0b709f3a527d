"""Learning curves of a suite: a panel for every task, in it a line for every row, the mean over seeds in its 95 % interval.

The defaults' lines are solid, the recipes' dashed, peers' and published settings' dotted; a thin grey line is what is asked. Where a
few lines fall far below the others, the axis is cut and says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.learning.results import Result
from benchmarks.learning.suites import FAMILY
from pistar.evaluation import student_quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which colour-blind readers tell apart, in the order of the family.
COLOURS = ("#0072B2", "#D55E00", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#8C6BB1", "#7F7F7F")
LINES = {"defaults": "-", "recipe": "--", "published": ":", "peer": ":"}
INK, FAINT = "#1f2733", "#e6e8ec"
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

    tasks = list(dict.fromkeys(result.row.task or result.row.name for result in results))
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.6 * columns, 3.4 * rows + 0.9), squeeze=False)
    handles: dict[str, object] = {}
    for task, ax in zip(tasks, axes.flat, strict=False):
        handles |= panel(ax, task, [result for result in results if (result.row.task or result.row.name) == task])
    for ax in axes.flat[len(tasks) :]:
        ax.axis("off")
    figure.suptitle(title, color=INK, fontsize=13)
    figure.legend(
        handles.values(), handles.keys(), loc="lower center", ncols=min(len(handles), 3 * columns), frameon=False, fontsize=8
    )
    lines = -(-len(handles) // min(len(handles), 3 * columns))
    bottom = (0.25 + 0.2 * lines) / figure.get_figheight()
    figure.tight_layout(rect=(0, bottom, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def panel(ax: Axes, task: str, results: Sequence[Result]) -> dict[str, object]:
    """One task's curves; gives back the lines by their names, for the legend."""
    handles: dict[str, object] = {}
    values = []
    for result in results:
        row = result.row
        steps, means = curves(result)
        mean, half = band(means)
        colour = COLOURS[FAMILY.index(row.algorithm)] if row.algorithm in FAMILY else COLOURS[0]
        if row.column == "peer":
            colour = INK
        names = {"peer": "sb3-contrib", "recipe": "recipe", "published": "published settings"}
        label = " ".join(filter(None, (row.algorithm or "pistar", names.get(row.column, ""))))
        (handles[label],) = ax.plot(steps, mean, LINES[row.column], color=colour, linewidth=1.5)
        ax.fill_between(steps, mean - half, mean + half, color=colour, alpha=0.13, linewidth=0)
        values.append(mean)
    lines = [result.row.asked for result in results if result.row.asked is not None]
    for line in dict.fromkeys(lines):
        handles["asked of ppo's defaults" if results[0].row.task else "asked"] = ax.axhline(
            line, color="#98a2b3", linewidth=1, zorder=0
        )
    frame(ax, task, np.concatenate(values), lines)
    return handles


def frame(ax: Axes, task: str, values: np.ndarray, lines: Sequence[float]) -> None:
    """Limits, ticks and titles."""
    top = max(float(np.max(values)), *lines) if lines else float(np.max(values))
    low = float(np.quantile(values, CUT))
    margin = 0.06 * max(top - low, 1e-9)
    cut = float(np.min(values)) < low - 2 * margin
    ax.set_ylim((low if cut else min(float(np.min(values)), low)) - margin, top + 2 * margin)
    ax.set_title(task + (" (cut below)" if cut else ""), fontsize=10, color=INK)
    ax.grid(color=FAINT, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    ax.set_xlabel("steps", fontsize=8)
    ax.set_ylabel("mean return of an evaluation", fontsize=8)
    ax.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
    ax.xaxis.get_offset_text().set_fontsize(8)

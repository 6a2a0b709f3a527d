"""Pictures of a search: how it went, what the settings did, and defaults beside tuned. matplotlib is imported when drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pistar.ranges import Choices
from pistar.report.curves import robust_limits, widened
from pistar.report.picture import EVALUATION, INK, OPTIMUM, QUIET, STYLE, TRAINING
from pistar.report.replacing import replacing
from pistar.tune import space

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pistar.tune.comparison import Comparison, Paired
    from pistar.tune.plan import Plan
    from pistar.tune.space import Dimension
    from pistar.tune.study import Finished


def history(rows: Sequence[tuple[int, str, float]], path: Path) -> None:
    """Area of every trial in order, those that were stopped hollow, and the best so far as a line."""
    with drawn(path, (8.0, 4.5)) as figure:
        axes = figure.subplots()
        done = np.array([(number, value) for number, state, value in rows if state == "COMPLETE"]).reshape(-1, 2)
        halted = np.array([(number, value) for number, state, value in rows if state != "COMPLETE"]).reshape(-1, 2)
        if len(done):
            axes.step(
                done[:, 0], np.maximum.accumulate(done[:, 1]), where="post", color=EVALUATION, label="best so far"
            )
            axes.plot(done[:, 0], done[:, 1], "o", color=TRAINING, ms=5, label="trials")
            axes.set_ylim(*widened(robust_limits(done[:, 1]), []))
        if len(halted):
            axes.plot(halted[:, 0], halted[:, 1], "o", mfc="none", mec=QUIET, ms=5, label="stopped: area so far")
        if len(done) and rows[0][0] == 0:
            axes.axhline(done[0, 1], color=INK, lw=0.9, ls=":", label="defaults")
        axes.set(xlabel="trial", ylabel="area under the evaluation curve")
        axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0)


def slices(
    plan: Plan, finished: Sequence[Finished], chosen: Finished, importance: Mapping[str, float], path: Path
) -> None:
    """One panel a setting, the ones that mattered most first: area over value, the chosen trial marked."""
    order = sorted(plan.searched, key=lambda each: -importance.get(each.parameter, 0.0))
    columns = min(4, len(order))
    lines = -(-len(order) // columns)
    values = np.array([each.value for each in finished])
    with drawn(path, (2.9 * columns, 2.5 * lines)) as figure:
        panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
        for axes, dimension in zip(panels, order, strict=False):
            share = importance.get(dimension.parameter)
            title = dimension.parameter + ("" if share is None else f"  {100 * share:.0f} %")
            axes.set_title(title, fontsize=9, color=INK, loc="left")
            places = abscissa(axes, dimension, [each.point for each in finished])
            axes.plot(places, values, "o", color=TRAINING, ms=4, alpha=0.7)
            best = [each.number for each in finished].index(chosen.number)
            axes.plot(places[best], values[best], "o", color=EVALUATION, ms=7)
            axes.set_ylim(*widened(robust_limits(values), [chosen.value]))
        for axes in panels[len(order) :]:
            axes.set_visible(False)
        figure.supylabel("area", fontsize=10, color=QUIET)


def abscissa(axes: Axes, dimension: Dimension, points: Sequence[Mapping[str, Any]]) -> list[float]:
    """Where each point stands, with the axis set up for its range."""
    found = [point[dimension.parameter] for point in points]
    if isinstance(dimension.range, Choices):
        labels = [space.label(value) for value in dimension.range.values]
        axes.set_xticks(range(len(labels)), [str(label) for label in labels], fontsize=8)
        axes.set_xlim(-0.5, len(labels) - 0.5)
        return [float(labels.index(value)) for value in found]
    low, high = dimension.range.low, dimension.range.high
    if dimension.range.scale == "complement":
        low, high = 1 - high, 1 - low
    if dimension.range.scale == "linear":
        marks, margin = np.linspace(low, high, 3), 0.05 * (high - low)
        axes.set_xlim(low - margin, high + margin)
    else:
        marks, margin = np.geomspace(low, high, 3), (high / low) ** 0.05
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xlim(low / margin, high * margin)
    axes.set_xticks(marks, [f"{mark:.2g}" for mark in marks], fontsize=8)
    return [float(value) for value in found]


def comparison(found: Comparison, path: Path) -> None:
    """Every fresh seed as a line from defaults to tuned, for both measures, with means and the interval of the difference."""
    with drawn(path, (8.0, 4.2)) as figure:
        for axes, paired, title in zip(
            figure.subplots(1, 2), (found.area, found.final), ("area under the curve", "return at the end"), strict=True
        ):
            pairs(axes, paired, title)


def pairs(axes: Axes, paired: Paired, title: str) -> None:
    """One measure."""
    for one, two in zip(paired.defaults, paired.tuned, strict=True):
        axes.plot([0, 1], [one, two], "-", color=OPTIMUM if two >= one else EVALUATION, lw=0.9, alpha=0.6)
    means = [float(np.mean(paired.defaults)), float(np.mean(paired.tuned))]
    axes.plot([0, 1], means, "o", color=INK, ms=7)
    low, high = paired.interval
    axes.set_xticks([0, 1], ["defaults", "tuned"])
    axes.set_xlim(-0.3, 1.3)
    axes.set_title(f"{title}\n{paired.difference:+.3g} ({low:+.3g} to {high:+.3g})", fontsize=10, color=INK, loc="left")


class drawn:
    """A figure in the house style that is saved on leaving."""

    def __init__(self, path: Path, size: tuple[float, float]) -> None:
        self.path, self.size = path, size

    def __enter__(self) -> Figure:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.style = matplotlib.rc_context(STYLE)
        self.style.__enter__()
        self.figure = Figure(figsize=self.size, layout="constrained")
        FigureCanvasAgg(self.figure)
        return self.figure

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if kind is None:
                with replacing(self.path) as partial:
                    self.figure.savefig(partial)
        finally:
            self.style.__exit__(kind, error, trace)

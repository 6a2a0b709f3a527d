"""The learning curve of a run, or of one experiment's seeds, as one picture.

Above: the training return, the evaluations with their intervals, and what there is to compare with (the task's
baselines, its threshold and optimum), each labelled where it is rather than in a legend. Below: the quantities that
tell why a curve looks as it does. Outliers are cut off where they would flatten the rest, and the picture says so.

Comparisons of several experiments are other pictures. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pistar.report.curves import Curve, learning, spread, widened
from pistar.report.numerals import typeset
from pistar.report.replacing import replacing
from pistar.report.sink import Record, finite, scalars

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers tell apart, and greys for what stands behind.
TRAINING, EVALUATION, OPTIMUM, THRESHOLD = "#0072B2", "#D55E00", "#00845F", "#A8538A"
INK, QUIET, FAINT = "#1f2733", "#667085", "#e6e8ec"

STYLE: dict[Any, Any] = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that a picture is the same everywhere
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": "#c3c8d0",
    "axes.labelcolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.9,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
}

PANELS = {  # title: names that its quantity goes by; the first few that were reported are drawn
    "entropy (nats)": ("update/entropy", "entropy"),
    "KL of an update (nats)": ("update/kl", "kl"),
    "explained variance": ("update/explained_variance", "explained_variance"),
    "gradient norm": ("update/gradient_norm", "gradient_norm"),
    "clip fraction": ("update/clip_fraction", "clip_fraction"),
}
MOST_PANELS = 4


def learning_curve(
    records: Sequence[Record] | Sequence[Sequence[Record]],
    evaluations: Sequence[Mapping[str, Any]],
    baselines: Mapping[str, float],
    path: str | Path,
    *,
    title: str,
    optimum: float | None = None,
    threshold: float | None = None,
) -> Path:
    """Draw a run into the PNG ``path``, 1600 × 900 pixels, and return it.

    ``records`` are a run's metrics, or a list of them for several seeds, drawn as their median and the band from least
    to greatest. ``evaluations`` hold ``steps``, ``mean`` and ``interval`` (low, high). ``baselines`` maps a name to its
    mean return. What is missing or not finite is left out; a run without records gives an empty picture.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    runs = _seeds(records)
    returns = learning(runs, ("return",))
    found = {name: curve for name, names in PANELS.items() if (curve := learning(runs, names)).limits is not None}
    panels = dict(list(found.items())[:MOST_PANELS])
    points = _evaluation_points(evaluations)
    references = _references(baselines, optimum, threshold)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1600 / 150, 900 / 150), facecolor="white")
        FigureCanvasAgg(figure)
        main, small = _arrange(figure, len(panels), references)
        last = max([*returns.raw_steps[-1:], *points[:, 0], *(curve.steps[-1] for curve in panels.values()), 0.0])
        for axes in (main, *small):
            _horizontal(axes, last, ticks=7 if axes is main else 3)
        figure.text(main.get_position().x0, 0.955, title, fontsize=15, fontweight="bold", va="center")
        _draw_returns(main, returns, points, [value for _, value, _ in references])
        _draw_references(main, references)
        for axes, (name, curve) in zip(small, panels.items(), strict=True):
            _draw_panel(axes, name, curve)
        with replacing(Path(path)) as partial:
            figure.savefig(partial, format="png", metadata={"Software": None})
    return Path(path)


def _seeds(records: Sequence[Any]) -> list[list[dict[str, float]]]:
    runs = [records] if not records or isinstance(records[0], Mapping) else records
    return [[dict(scalars(record)) for record in run] for run in runs]


def _evaluation_points(evaluations: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """[N, 4]: steps, mean, low, high; an interval that is not known has no length."""
    rows: dict[float, list[float]] = {}  # at the same steps the later one, of more episodes, counts
    for each in evaluations:
        steps, mean = finite(each.get("steps")), finite(each.get("mean"))
        if steps is not None and mean is not None:
            ends = [finite(end) for end in each.get("interval") or (None, None)]
            rows[steps] = [steps, mean, *(mean if end is None else end for end in ends)]
    return np.array(sorted(rows.values()), dtype=np.float64).reshape(-1, 4)


def _references(
    baselines: Mapping[str, float], optimum: float | None, threshold: float | None
) -> list[tuple[str, float, str]]:
    """(label, value, colour) of every horizontal line."""
    named: list[tuple[str, float | None, str]] = [(name, value, QUIET) for name, value in baselines.items()]
    named += [("threshold", threshold, THRESHOLD), ("optimum", optimum, OPTIMUM)]
    known = [(name, finite(value), colour) for name, value, colour in named]
    return [
        (f"{name if len(name) <= 24 else name[:23] + '…'}  {typeset(value)}", value, colour)
        for name, value, colour in known
        if value is not None
    ]


def _arrange(figure: Figure, panels: int, references: Sequence[tuple[str, float, str]]) -> tuple[Axes, list[Axes]]:
    """The large axes and the row of small ones, with as much room at the right as the labels there need."""
    from matplotlib.text import Text

    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    labels = [Text(0, 0, f"↑ {label}", fontsize=10, figure=figure) for label, _, _ in references]
    widest = max((label.get_window_extent(renderer).width for label in labels), default=0.0)
    left, right = 0.08, min(0.97, 0.975 - widest / figure.bbox.width)
    main = figure.add_axes((left, 0.375, right - left, 0.49) if panels else (left, 0.11, right - left, 0.755))
    if not panels:
        return main, []
    gap = 0.055
    width = (0.97 - left - gap * (panels - 1)) / panels
    return main, [figure.add_axes((left + index * (width + gap), 0.075, width, 0.135)) for index in range(panels)]


def _horizontal(axes: Axes, last: float, ticks: int) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlim(0, last * 1.01 if last > 0 else 1)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: typeset(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: typeset(value)))


def _draw_returns(axes: Axes, returns: Curve, points: np.ndarray, references: Sequence[float]) -> None:
    """Training and evaluation, within limits that outliers do not set."""
    axes.set_xlabel("environment steps", fontsize=10)
    axes.set_ylabel("episode return (sum of rewards)", fontsize=10)
    box = axes.get_position()
    axes.yaxis.set_label_coords(0.024, (box.y0 + box.y1) / 2, transform=axes.figure.transFigure)
    nearby = [*points[:, 1:].ravel(), *references]
    limits = returns.limits or ((points[:, 2].min(), points[:, 3].max()) if len(points) else None)
    if limits is None:
        axes.set_ylim(*widened((min(nearby), max(nearby)), ()) if nearby else (0, 1))
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no episode has ended yet", color=QUIET, ha="center", va="center", transform=axes.transAxes)
        return
    axes.set_ylim(*widened((float(limits[0]), float(limits[1])), nearby))
    if returns.limits is not None:
        _draw_curve(axes, returns, TRAINING, 1.4)
    if len(points):
        _draw_evaluations(axes, points)
    _note_outliers(axes, np.concatenate((returns.raw, points[:, 1])))
    _name_curves(axes, returns, bool(len(points)))


def _draw_evaluations(axes: Axes, points: np.ndarray) -> None:
    """The means as dots on a line, in the band of their 95 % intervals; a single one has an upright line instead."""
    steps, mean, low, high = points.T
    size = float(np.clip(30 / np.sqrt(len(points)), 2.0, 5.5))
    if len(points) == 1:
        axes.vlines(steps, low, high, color=EVALUATION, linewidth=2.0, zorder=5)
    axes.fill_between(steps, low, high, color=EVALUATION, alpha=0.2, linewidth=0, zorder=4)
    axes.plot(steps, mean, color="white", linewidth=3.6, zorder=4.5)
    axes.plot(steps, mean, "o-", color=EVALUATION, linewidth=2.0, markersize=size, mec="white", mew=0.8, zorder=5)


def _draw_curve(axes: Axes, curve: Curve, colour: str, width: float) -> None:
    """One seed: every value faint behind the smoothed line; several: their median in the band of all."""
    if curve.seeds > 1:
        axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
    elif len(curve.raw) > 1:
        axes.plot(curve.raw_steps, curve.raw, color=colour, alpha=0.22, linewidth=0.45 * width)
    marker = "o" if len(curve.steps) == 1 else None
    axes.plot(curve.steps, curve.centre, color=colour, linewidth=width, marker=marker, markersize=5, zorder=3)


def _note_outliers(axes: Axes, values: np.ndarray) -> None:
    low, high = axes.get_ylim()
    notes = [
        f"{arrow} {beyond.size} beyond, as far as {typeset(extreme(beyond))}"
        for arrow, beyond, extreme in (("↓", values[values < low], np.min), ("↑", values[values > high], np.max))
        if beyond.size
    ]
    if notes:
        axes.annotate(
            "    ".join(notes),
            xy=(0.995, 0.015),
            xycoords="axes fraction",
            fontsize=8.5,
            color=QUIET,
            ha="right",
            va="bottom",
        )


def _name_curves(axes: Axes, returns: Curve, evaluated: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    labels: list[str] = []
    if returns.limits is not None:
        what = "training" if returns.seeds == 1 else f"training, median and range of {returns.seeds} seeds"
        handles.append(Line2D([], [], color=TRAINING, linewidth=1.4))
        labels.append(what)
    if evaluated:
        band = Patch(facecolor=EVALUATION, alpha=0.2, linewidth=0)
        line = Line2D([], [], color=EVALUATION, marker="o", markersize=4.5, mec="white", mew=0.8, linewidth=2.0)
        handles.append((band, line))
        labels.append("evaluation, mean and 95 % interval")
    axes.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(-0.004, 0.995),
        ncols=2,
        frameon=False,
        fontsize=10,
        labelcolor=INK,
        handlelength=1.4,
        borderaxespad=0.2,
        columnspacing=1.6,
    )


def _draw_references(axes: Axes, references: Sequence[tuple[str, float, str]]) -> None:
    """A dashed line for each value, or an arrow where it is off the picture, and its name in the right margin."""
    low, high = axes.get_ylim()
    gap = (high - low) * 22 / axes.get_window_extent().height  # pixels that a line of text takes
    places = spread([min(max(value, low), high) for _, value, _ in references], gap, low, high)
    for (label, value, colour), place in zip(references, places, strict=True):
        arrow = "↓ " if value < low else "↑ " if value > high else ""
        if not arrow:
            axes.axhline(value, color=colour, linewidth=1.2, linestyle=(0, (5, 3)), zorder=2, alpha=0.9)
        axes.annotate(
            arrow + label,
            xy=(1.0, min(max(value, low), high)),
            xytext=(1.018, place),
            xycoords=axes.get_yaxis_transform(),
            textcoords=axes.get_yaxis_transform(),
            fontsize=10,
            color=colour,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.8,
                "alpha": 0.6,
                "relpos": (0, 0.5),
                "shrinkA": 2,
                "shrinkB": 0,
            },
        )


def _draw_panel(axes: Axes, name: str, curve: Curve) -> None:
    from matplotlib.ticker import MaxNLocator

    assert curve.limits is not None, "only quantities that were reported are drawn"
    shown = np.concatenate((curve.low, curve.high)) if curve.seeds > 1 else np.array(curve.limits)
    axes.set_ylim(*widened((float(np.nanmin(shown)), float(np.nanmax(shown))), ()))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(labelsize=9)
    axes.set_title(name, loc="left", fontsize=10, color=INK, pad=6)
    _draw_curve(axes, curve, TRAINING, 1.5)

"""One HTML page about runs of a task, whole in itself: it opens from the disk, without network or script.

Plots are SVG, films and pictures data URIs, colours follow the reader's light or dark setting. The page depends on the runs
alone, not on when or where it is made. No template language: a page is functions that return text, and those escape what
they are given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from pistar import __version__
from pistar.report import origins, sections
from pistar.report.comparison import Band, Comparison, compare, curve
from pistar.report.curves import learning, robust_limits
from pistar.report.embedded import media
from pistar.report.finished import Finished, pair
from pistar.report.groups import Group, grouped, require_comparable
from pistar.report.illnesses import MOVED
from pistar.report.markup import legend, minus
from pistar.report.numerals import duration, interval, number
from pistar.report.picture import PANELS
from pistar.report.svg import Line, Reference, chart

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"  # nothing is loaded from anywhere
)
RATIO = ("update/first_ratio_error",)  # drawn where it is more than rounding
MORE_PANELS = {
    "value error": ("update/value_error",),
    "actions at their bounds": ("action/at_bounds",),
    "ratio error before the first step": RATIO,
    "learning rate": ("update/learning_rate",),
    "episode length (steps)": ("length",),
}
COLOURS = 7  # that the style sheet has


def build(named: Sequence[tuple[str, Finished]], labels: Sequence[str] = (), threshold: float | None = None) -> str:
    """The page about runs, each with the argument that named it (`finished.read_all`).

    Raises UsageError where the runs are of different tasks or protocols; runs that have not ended are shown as they are.
    """
    runs = [run for _, run in named]
    require_comparable(runs)
    groups = grouped(named, labels)
    threshold = runs[0].threshold if threshold is None else threshold
    done = [
        Group(g.label, kept, g.differs) for g in groups if (kept := tuple(r for r in g.runs if r.final is not None))
    ]
    comparison = compare(done, threshold) if done else None
    parts = [
        heading(groups),
        tiles(groups, comparison),
        section("Diagnosis", sections.diagnosis(groups)),
        section("Learning", curves(groups, threshold)),
        section("Evaluation", sections.results(groups, comparison)),
    ]
    if comparison is not None and (len(done) > 1 or threshold is not None):
        parts.append(section("Comparison" if len(done) > 1 else "Steps to the threshold", comparing(comparison)))
    parts += [
        section("Video", origins.videos(media([run.path for run in runs]), groups)),
        section("What was run", origins.runs_table(groups) + origins.differing(groups)),
        section("Make it again", origins.remake(groups)),
        section("Settings", origins.settings(groups)),
        footer(),
    ]
    return document(f"{runs[0].task} · {', '.join(group.label for group in groups)}", "".join(parts))


def document(title: str, body: str) -> str:
    """The page around its parts."""
    css = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{css}</style></head><body><main>{body}</main></body></html>\n"
    )


def section(title: str, content: str) -> str:
    """A part with its title."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def heading(groups: Sequence[Group]) -> str:
    """What the page is about."""
    runs = [run for group in groups for run in group.runs]
    kinds = ", ".join(dict.fromkeys(str(run.settings.get("algorithm.kind", "?")) for run in runs))
    steps, several = max(run.steps for run in runs), len(runs) > 1
    grouping = f" in {len(groups)} groups" if len(groups) > 1 else ""
    length = f"up to {number(steps)} steps each" if several else f"{number(steps)} steps"
    what = f"{len(runs)} run{'s' * several}{grouping} by {kinds}, {length}"
    return f'<header><h1>{escape(runs[0].task)}</h1><p class="sub">{escape(what)}</p></header>'


def tiles(groups: Sequence[Group], comparison: Comparison | None) -> str:
    """The few numbers that are asked for first."""
    found: list[tuple[str, str]] = []
    runs = [run for group in groups for run in group.runs]
    if comparison is not None:
        best = max(comparison.summaries, key=lambda each: each.interquartile_mean)
        ends = best.interval
        if len(best.scores) == 1:
            ends = pair((best.group.runs[0].final or {}).get("interval")) or ends
        who = f" of {best.group.label}, the best group" if len(groups) > 1 else ""
        within = f"; 95 %: {interval(ends)}" if math.isfinite(ends[0]) else ""
        found.append((number(best.interquartile_mean), f"final return{who}{within}"))
        success = sections.share(best.group.runs, "success")
        if success != "–":
            found.append((success, "of the episodes succeed"))
        others = sections.baseline_means(groups)
        if others:
            name = max(others, key=lambda each: others[each])
            found.append((number(others[name]), f"return of the best baseline: {name}"))
    speeds = [run.steps / run.seconds for run in runs if run.seconds]
    if speeds:
        found.append((number(float(np.median(speeds))), "steps a second, collecting and learning"))
        found.append(
            (
                duration(sum(run.seconds or 0.0 for run in runs)),
                f"training time of {len(runs)} run{'s' * (len(runs) > 1)}",
            )
        )
    boxes = (
        f'<div class="tile"><b>{escape(minus(big))}</b><span>{escape(minus(small))}</span></div>'
        for big, small in found
    )
    return f'<div class="tiles">{"".join(boxes)}</div>'


# ---- plots -----------------------------------------------------------------------------------------------------------


def curves(groups: Sequence[Group], threshold: float | None) -> str:
    """The returns, and the quantities that tell why they are as they are."""
    lines, values = return_lines(groups)
    if not lines:
        return "<p>No episode has ended yet.</p>"
    references = [Reference(name, value) for name, value in sections.baseline_means(groups).items()]
    if threshold is not None:
        references.append(Reference("threshold", threshold))
    limits = (min(low for low, _ in values), max(high for _, high in values))
    last = max(float(line.x[-1]) for line in lines)
    several = max(len(group.runs) for group in groups) > 1
    common = {
        "description": "return against environment steps",
        "limits": limits,
        "x_limits": (0.0, last),
        "x_label": "environment steps",
    }
    longest = max((len(reference.label) for reference in references), default=0)
    wide = chart(lines, references, size=(960, 400), margin=(70 + 7 * longest) if longest else 0, css="wide", **common)  # type: ignore[arg-type]
    narrow = chart(lines, references, size=(380, 300), x_ticks=4, css="narrow", **common)  # type: ignore[arg-type]
    how = (
        "interquartile mean of the runs and its 95 % interval" if several else "mean and 95 % interval of its episodes"
    )
    note = f"Dots: evaluations, {how}. Thin: return in training, median of the runs. Dashed: the task's baselines and threshold."
    head = legend([group.label for group in groups])
    return f'{head}<div class="card">{wide}{narrow}</div><p class="small">{note}</p>{panels(groups)}'


def return_lines(groups: Sequence[Group]) -> tuple[list[Line], list[tuple[float, float]]]:
    """Training and evaluation of every group, and the range of each."""
    lines, ranges = [], []
    for index, group in enumerate(groups):
        training = learning([run.flat for run in group.runs], ("return",))
        if training.limits is not None:
            lines.append(Line(index % COLOURS, training.steps, training.centre, style="faint"))
            ranges.append(training.limits)
        band = own_interval(group.runs[0]) if len(group.runs) == 1 else curve(group.runs)
        if len(band.x):
            lines.append(Line(index % COLOURS, band.x, band.centre, band.low, band.high, dots=True))
            ranges.append((float(band.low.min()), float(band.high.max())))
    return lines, ranges


def own_interval(run: Finished) -> Band:
    """A single run's evaluations with the intervals of their episodes."""
    rows = {}
    for each in run.evaluations:
        mean = float(each["mean"])
        rows[float(each["steps"])] = (mean, *(pair(each.get("interval")) or (mean, mean)))
    table = np.array([[steps, *values] for steps, values in sorted(rows.items())], dtype=np.float64).reshape(-1, 4)
    return Band(*table.T)


def panels(groups: Sequence[Group]) -> str:
    """One small plot for every quantity that was reported and moved."""
    found = []
    for title, names in {**PANELS, **MORE_PANELS}.items():
        lines, ranges = [], []
        for index, group in enumerate(groups):
            each = learning([run.flat for run in group.runs], names)
            if each.limits is None or (names == RATIO and each.limits[1] < MOVED):
                continue
            edges = (each.low, each.high) if each.seeds > 1 else (None, None)
            lines.append(Line(index % COLOURS, each.steps, each.centre, *edges))
            shown = np.concatenate((each.low, each.high)) if each.seeds > 1 else each.raw
            ranges.append(robust_limits(shown[np.isfinite(shown)]) if np.isfinite(shown).any() else each.limits)
        if lines:
            limits = (min(low for low, _ in ranges), max(high for _, high in ranges))
            drawn = chart(
                lines, size=(300, 150), description=f"{title} against steps", limits=limits, x_ticks=3, y_ticks=4
            )
            found.append(f'<div class="panel"><h3>{escape(title)}</h3>{drawn}</div>')
    return f'<div class="panels">{"".join(found)}</div>'


def comparing(comparison: Comparison) -> str:
    """Tables of who is better, and the performance profile."""
    text = sections.beside(comparison)
    if len(comparison.summaries) < 2:
        return text
    lines = [
        Line(index % COLOURS, each.profile.x, each.profile.centre, each.profile.low, each.profile.high)
        for index, each in enumerate(comparison.summaries)
    ]
    axis = comparison.summaries[0].profile.x
    common = {
        "description": "share of runs whose final return exceeds x",
        "limits": (0.0, 1.0),
        "x_limits": (float(axis[0]), float(axis[-1])),
        "x_label": "final return x",
    }
    wide = chart(lines, size=(960, 280), css="wide", **common)  # type: ignore[arg-type]
    narrow = chart(lines, size=(380, 240), x_ticks=4, css="narrow", **common)  # type: ignore[arg-type]
    head = legend([each.group.label for each in comparison.summaries])
    return f'{text}<h3>Performance profile: the share of runs whose final return exceeds x</h3>{head}<div class="card">{wide}{narrow}</div>'


def footer() -> str:
    """How the numbers came about."""
    return (
        f'<footer class="small"><p>Made by pistar {escape(__version__)} from the runs\' own records. Interquartile means, intervals by the '
        "stratified bootstrap over runs (10,000 resamples, fixed seed), probabilities of improvement and performance profiles after "
        "Agarwal et al. 2021, arXiv:2108.13264.</p></footer>"
    )

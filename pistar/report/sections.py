"""The parts of a report's page that judge: diagnosis, evaluation, comparison; each from runs to HTML.

Everything that comes from a run is escaped: its records and settings are data from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from pistar.report.comparison import Comparison, verdict
from pistar.report.diagnosis import RULES, diagnose
from pistar.report.finding import Finding
from pistar.report.finished import Finished, mapping, pair
from pistar.report.groups import Group
from pistar.report.markup import minus, table
from pistar.report.numerals import interval, number, signed
from pistar.report.sink import finite

LEVELS = {"ill": "ill", "warning": "look at this", "note": "note"}
CHECKED = {  # rule: the words for "it found nothing"
    "first_ratio": "the ratio is 1 on first minibatches",
    "entropy_collapse": "entropy",
    "large_updates": "size of updates",
    "dead_value_function": "value function",
    "still_observation": "observations that vary",
    "actions_at_bounds": "actions within their bounds",
    "train_and_evaluation": "training and evaluation agree",
    "fell_back": "no fall from the best evaluation",
    "no_better_than_random": "better than random",
    "behind_a_baseline": "better than the task's baselines",
    "still_rising": "no rise at the end",
}


# ---- findings --------------------------------------------------------------------------------------------------------


def findings(groups: Sequence[Group]) -> list[tuple[Finding, list[Finished]]]:
    """Every finding once, with the runs that have it, the worst and the most frequent first."""
    found: dict[str, list[tuple[Finding, Finished]]] = {}
    for run in (run for group in groups for run in group.runs):
        for finding in diagnose(run):
            found.setdefault(finding.key, []).append((finding, run))
    order = list(LEVELS)
    merged = []
    for each in found.values():
        worst = min(each, key=lambda pair: order.index(pair[0].level))[0]
        merged.append((worst, [run for _, run in each]))
    return sorted(merged, key=lambda pair: (order.index(pair[0].level), -len(pair[1])))


def diagnosis(groups: Sequence[Group]) -> str:
    """What is wrong, what it was seen by, and what to do."""
    runs = sum(len(group.runs) for group in groups)
    cards = []
    found = findings(groups)
    for finding, ill in found:
        where = f'<p class="small">{escape(whose(groups, ill))}</p>' if runs > 1 else ""
        cards.append(
            f'<article class="card finding {finding.level}"><h3>{escape(finding.title)}<span class="badge">'
            f"{LEVELS[finding.level]}</span></h3><p>{escape(minus(finding.what))}</p>"
            f"<p><b>What to do:</b> {escape(minus(finding.remedy))}</p>{where}</article>"
        )
    quiet = [words for rule, words in CHECKED.items() if rule not in {rule_of(finding) for finding, _ in found}]
    if not any(finding.level != "note" for finding, _ in found):
        cards.insert(
            0,
            '<article class="card finding well"><h3>No sign of illness<span class="badge">well</span></h3>'
            "<p>None of the checks below found anything wrong in what the runs have recorded.</p></article>",
        )
    return "".join(cards) + f'<p class="small">Checked, and nothing found: {escape("; ".join(quiet))}.</p>'


def rule_of(finding: Finding) -> str:
    """The name of the rule behind a finding, by its key."""
    keys = ("ratio", "entropy", "kl", "value", "still", "bounds", "disagree", "fell", "random", "baseline", "rising")
    return dict(zip(keys, (rule.__name__ for rule in RULES), strict=True))[finding.key]


def whose(groups: Sequence[Group], ill: Sequence[Finished]) -> str:
    """Which runs, in words."""
    parts = []
    for group in groups:
        seeds = [str(run.seed) for run in group.runs if run in ill]
        if seeds:
            name = f"{group.label}: " if len(groups) > 1 else ""
            which = "all runs" if len(seeds) == len(group.runs) else f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"
            parts.append(name + which)
    return "Seen in " + "; ".join(parts)


# ---- results ---------------------------------------------------------------------------------------------------------


def results(groups: Sequence[Group], comparison: Comparison | None) -> str:
    """The final evaluations: one row a group, and the task's baselines on the same episodes."""
    finals = [run.final for group in groups for run in group.runs if run.final is not None]
    if comparison is None or not finals:
        return "<p>No run has come to its final evaluation yet.</p>"
    success = any("success" in final for final in finals)
    optimum = any("fraction_of_optimum" in final for final in finals)
    several = any(len(group.runs) > 1 for group in groups)
    head = ["", "runs", "interquartile mean" if several else "mean return", "95 % interval"]
    rows = [[*head, *(["success"] * success), *(["of the optimum"] * optimum), "episode length"]]
    for each in comparison.summaries:
        ends = each.interval
        if len(each.scores) == 1 and each.group.runs[0].final is not None:
            ends = pair(each.group.runs[0].final.get("interval")) or ends
        row = [each.group.label, str(len(each.scores)), number(each.interquartile_mean), interval(ends)]
        row += [share(each.group.runs, "success")] * success + [share(each.group.runs, "fraction_of_optimum")] * optimum
        rows.append([*row, mean_of(each.group.runs, "length")])
    rows = [[minus(cell) for cell in row] for row in rows]
    blank = [""] * (len(rows[0]) - 3)
    for name, mean in baseline_means(groups).items():
        rows.append([f"baseline: {name}", "", minus(number(mean)), *blank])
    what = "over runs, by resampling them" if several else "over the episodes of its one run"
    note = f'<p class="small">Return of the final evaluation, {finals[0].get("episodes", "?")} episodes a run; intervals {what}.'
    return table(rows) + note + "</p>" + beyond_baselines(groups)


def beyond_baselines(groups: Sequence[Group]) -> str:
    """By how much each run beats each baseline on the same episodes."""
    rows = [["run", "mean return", "95 % interval", "baseline", "better by", "95 % interval"]]
    for group, run in ((each, run) for each in groups for run in each.runs if run.final is not None):
        final = run.final or {}
        first = [
            f"{group.label}, seed {run.seed}",
            number(float(final["mean"])),
            interval(pair(final.get("interval")) or NONE),
        ]
        for name, each in mapping(final.get("baselines")).items():
            gain, ends = finite(mapping(each).get("difference")), pair(mapping(each).get("interval"))
            rows.append([*first, name, "–" if gain is None else signed(gain), interval(ends or NONE)])
            first = [""] * 3
        if first[0]:
            rows.append([*first, "", "", ""])
    return "<h3>Every run beside its baselines, on the same episodes</h3>" + table(
        [[minus(c) for c in row] for row in rows]
    )


NONE = (-np.inf, np.inf)


def baseline_means(groups: Sequence[Group]) -> dict[str, float]:
    """The mean over runs of every baseline's return."""
    found: dict[str, list[float]] = {}
    for run in (run for group in groups for run in group.runs):
        for name, each in mapping((run.final or {}).get("baselines")).items():
            mean = finite(mapping(each).get("mean"))
            if mean is not None:
                found.setdefault(name, []).append(mean)
    return {name: float(np.mean(means)) for name, means in found.items()}


def share(runs: Iterable[Finished], name: str) -> str:
    """The mean over runs of a share, in per cent."""
    values = [value for run in runs if (value := finite((run.final or {}).get(name))) is not None]
    return f"{100 * float(np.mean(values)):.3g} %" if values else "–"


def mean_of(runs: Iterable[Finished], name: str) -> str:
    """The mean over runs of a number of their final evaluation."""
    values = [value for run in runs if (value := finite((run.final or {}).get(name))) is not None]
    return number(float(np.mean(values))) if values else "–"


def beside(comparison: Comparison) -> str:
    """Who is better than whom, and when the threshold was reached."""
    rows = [["a run of", "beats one of", "with probability", "95 % interval", "", "by", "95 % interval"]]
    for each in comparison.improvements:
        chance = [f"{each.probability:.2f}", interval(each.interval), verdict(each)]
        rows.append([each.better, each.than, *chance, signed(each.difference), interval(each.difference_interval)])
    parts = [table([[minus(cell) for cell in row] for row in rows])] if comparison.improvements else []
    crossings = [(each.group.label, len(each.scores), each.crossing) for each in comparison.summaries if each.crossing]
    if crossings and comparison.threshold is not None:
        rows = [["", f"runs that reached {number(comparison.threshold)}", "after steps, median", "95 % interval"]]
        rows += [[label, f"{c.reached} of {n}", number(c.median), interval(c.interval)] for label, n, c in crossings]
        parts.append(table(rows))
    notes = "".join(f'<p class="small">Note: {escape(note)}.</p>' for note in comparison.notes)
    return "".join(parts) + notes

"""Rules about what comes of a run: its evaluations beside its training, its baselines and its own past.

What goes wrong inside is judged in ``illnesses``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pistar.report.finding import Finding, series, solved, spread_of_returns
from pistar.report.finished import Finished, mapping, pair
from pistar.report.numerals import number
from pistar.report.sink import finite

APART = 0.25  # of the range of returns that the run has seen
MUCH_APART = 0.5  # the same where the evaluation is the better one, which noise alone explains up to a point


def train_and_evaluation(run: Finished) -> Finding | None:
    """The policy as judged does worse, or much better, than the policy as trained."""
    returns, span = series(run, "return"), spread_of_returns(run)
    last = run.evaluations[-1] if run.evaluations else {}
    mean, trained = finite(last.get("mean")), float(returns[-1]) if len(returns) else None
    if mean is None or trained is None or span <= 0:
        return None
    gap = mean - trained
    ends = pair(last.get("interval"))
    worse = gap < -APART * span and (ends is None or ends[1] < trained)
    if not worse and gap <= MUCH_APART * span:
        return None
    how = "without the noise of exploration" if run.settings.get("evaluation.deterministic", True) else "as a sample"
    return Finding(
        "disagree",
        "ill" if worse else "note",
        "Evaluation is worse than training" if worse else "Evaluation is better than training",
        f"The last evaluation ({how}) gives a mean return of {number(mean)}, the last training episodes {number(trained)}: a gap of "
        f"{abs(gap) / span:.0%} of the range of returns seen in this run.",
        "If the task needs randomness, evaluate samples with --no-evaluation.deterministic; else look for what differs between the "
        "training and the evaluation environment (time limits, staggered starts, wrappers)."
        if worse
        else "Training still pays for exploring, or its average over the last 100 episodes lags behind: a lower entropy-weight or a "
        "longer run brings them together.",
    )


def no_better_than_random(run: Finished) -> Finding | None:
    """All training was for nothing, as far as the final evaluation can tell."""
    other = mapping(mapping((run.final or {}).get("baselines")).get("random"))
    ends = pair(other.get("interval"))
    if ends is None or ends[0] > 0:
        return None
    return Finding(
        "random",
        "ill",
        "No better than random actions",
        f"On the same episodes the policy returns {number(float((run.final or {})['mean']))} and random actions "
        f"{number(finite(other.get('mean')) or math.nan)}; the 95 % interval of the difference reaches down to {number(ends[0])}.",
        "Train longer, or start from settings that are known to work on a simpler task; the findings above may say why.",
    )


def behind_a_baseline(run: Finished) -> Finding | None:
    """A controller that learned nothing does better on the same episodes."""
    better = {}
    for name, each in mapping((run.final or {}).get("baselines")).items():
        ends, gain = pair(mapping(each).get("interval")), finite(mapping(each).get("difference"))
        if name != "random" and gain is not None and ends is not None and ends[1] < 0:
            better[name] = gain
    if not better:
        return None
    name = min(better, key=lambda each: better[each])
    return Finding(
        "baseline",
        "warning",
        f"{name} does better",
        f"On the same episodes the baseline {name!r} returns {number(-better[name])} more than the policy, and the 95 % interval of the "
        "difference leaves no doubt.",
        "Train longer, or with settings that suit the task; the baseline shows what is possible.",
    )


def fell_back(run: Finished) -> Finding | None:
    """The policy at the end is much worse than the best that was seen."""
    points, span = run.points(), spread_of_returns(run)
    if len(points) < 3 or span <= 0:
        return None
    best_steps, best = max(points, key=lambda point: point[1])
    if best - points[-1][1] <= APART * span or not surely(run, best_steps):
        return None
    return Finding(
        "fell",
        "warning",
        "The policy was better before",
        f"The evaluation at {number(best_steps)} steps gave {number(best)}, the last one {number(points[-1][1])}.",
        "Use best.safetensors, the policy of the best evaluation; let the learning rate fall to 0 (--learning-rate 3e-4:0), or "
        "lower it.",
    )


def surely(run: Finished, best_steps: float) -> bool:
    """Whether the intervals of the evaluation at ``best_steps`` and of the last one leave no doubt which was better."""
    best: dict[str, Any] = next((each for each in reversed(run.evaluations) if each["steps"] == best_steps), {})
    then, now = pair(best.get("interval")), pair(run.evaluations[-1].get("interval"))
    return then is None or now is None or then[0] > now[1]


def still_rising(run: Finished) -> Finding | None:
    """More steps would probably help."""
    points, span = run.points(), spread_of_returns(run)
    if len(points) < 8 or span <= 0 or solved(run):
        return None
    means = [mean for _, mean in points]
    levels = [float(np.median(part)) for part in np.array_split(np.array(means), 4)]
    gain = levels[3] - levels[2]
    if gain <= 0.08 * span or levels[3] < max(levels) or fell_back(run) is not None:
        return None
    return Finding(
        "rising",
        "note",
        "Still improving at the end",
        f"The last quarter of the evaluations is better than the one before by {number(gain)}, {gain / span:.0%} of the range of returns.",
        f"Train longer: `pistar resume {run.path} --steps {2 * run.steps}`, or a new run with more steps, whose schedules span them all.",
    )

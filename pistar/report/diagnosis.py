"""What is wrong with runs, in words: rules, each for one illness, that say what they saw and what to do about it.

A rule is a function of one run that gives a `Finding` or nothing. Limits are set so that healthy runs of pistar's own tasks
pass, with a wide margin; ``tests/report/test_diagnosis.py`` holds them against runs made sick on purpose. A rule whose
quantity a run has not recorded says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pistar.report import illnesses, outcomes
from pistar.report.finding import Finding
from pistar.report.finished import Finished

RULES: Sequence[Callable[[Finished], Finding | None]] = (
    illnesses.first_ratio,
    illnesses.entropy_collapse,
    illnesses.large_updates,
    illnesses.dead_value_function,
    illnesses.still_observation,
    illnesses.actions_at_bounds,
    outcomes.train_and_evaluation,
    outcomes.fell_back,
    outcomes.no_better_than_random,
    outcomes.behind_a_baseline,
    outcomes.still_rising,
)


def diagnose(run: Finished) -> list[Finding]:
    """Every finding of a run, the worst first."""
    found = [finding for rule in RULES for finding in [rule(run)] if finding is not None]
    order = ("ill", "warning", "note")
    return sorted(found, key=lambda finding: order.index(finding.level))

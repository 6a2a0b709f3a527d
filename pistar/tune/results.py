"""What a search leaves: the settings as TOML, the trials as CSV, everything as JSON, pictures, and a page of words."""

from __future__ import annotations

import csv
import io
import json
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pistar import __version__, configuration
from pistar.report.replacing import replacing
from pistar.tune import pictures, plan, space
from pistar.tune.comparison import Comparison, Paired
from pistar.tune.driver import passed_over
from pistar.tune.storage import require_optuna
from pistar.tune.study import Finished, Study

COLUMNS = ("trial", "state", "area", "final_return", "retry_of", "note")


@dataclass(frozen=True)
class Outcome:
    """A search that has come to its end."""

    chosen: Finished
    areas: Mapping[int, Sequence[float]]  # of the finalists, by seed
    importance: Mapping[str, float]  # parameter -> share, none where there are too few trials
    comparison: Comparison | None


def importance(study: Study) -> dict[str, float]:
    """What mattered: the share of each parameter in what sets the best trials apart (PED-ANOVA, Watanabe et al. 2023).

    The method goes by ranks, so that trials that were stopped take part, as worse than all that were not. Empty where fewer
    than eight trials were made, or all have the same value: nothing could be said then.
    """
    optuna = require_optuna()
    done = study.trials("COMPLETE")
    halted = [trial for trial in study.trials("PRUNED") if trial.intermediate_values]
    values = [float(trial.value) for trial in done if trial.value is not None]
    if len(done) + len(halted) < 8 or len(done) < 2 or len(set(values)) < 2:
        return {}
    ranked = optuna.create_study(direction="maximize")
    for trial, value in zip([*done, *halted], [*values, *[min(values) - 1.0] * len(halted)], strict=True):
        ranked.add_trial(optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=value))
    best = min(0.25, len(done) / (len(done) + len(halted)))  # the best that are told apart have values of their own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best)
        found = optuna.importance.get_param_importances(ranked, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}


def write(study: Study, place: Path, outcome: Outcome) -> None:
    """Write every file."""
    put(place / "best.toml", best_toml(study, outcome))
    put(place / "trials.csv", table(study))
    put(place / "result.json", json.dumps(to_json(study, outcome), indent=1, allow_nan=False) + "\n")
    pictures.history(history_of(study), place / "history.png")
    pictures.slices(study.plan, study.finished(), outcome.chosen, outcome.importance, place / "settings.png")
    if outcome.comparison is not None:
        pictures.comparison(outcome.comparison, place / "comparison.png")


def best_toml(study: Study, outcome: Outcome) -> str:
    """The chosen settings; the table [run] says where they come from, and is not read."""
    chosen = outcome.chosen
    origin: dict[str, Any] = {"pistar": __version__, "trial": chosen.number, "area": chosen.value}
    origin["seeds"] = list(study.plan.seeds)
    return configuration.to_toml({**plan.result_tables(study.plan, chosen.point), "run": origin})


def table(study: Study) -> str:
    """One line a trial."""
    text = io.StringIO()
    names = [dimension.parameter for dimension in study.plan.searched]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *names])
    for trial in study.trials():
        attributes = trial.user_attrs
        finals = attributes.get("finals", [])
        area = trial.value if trial.value is not None else max(trial.intermediate_values.items(), default=("", ""))[1]
        cells = [trial.number, trial.state.name.lower(), area, statistics.fmean(finals) if finals else ""]
        cells += [attributes.get("retry_of", ""), attributes.get("failure") or attributes.get("stopped", "")]
        writer.writerow([*cells, *(trial.params.get(name, "") for name in names)])
    return text.getvalue()


def history_of(study: Study) -> list[tuple[int, str, float]]:
    """(trial, state, area) of every trial that has an area, of those that were stopped the one so far."""
    rows = []
    for trial in study.trials("COMPLETE", "PRUNED"):
        last = max(trial.intermediate_values.items(), default=(0, None))[1]
        value = trial.value if trial.state.name == "COMPLETE" else last
        if value is not None:
            rows.append((trial.number, trial.state.name, float(value)))
    return rows


def to_json(study: Study, outcome: Outcome) -> dict[str, Any]:
    """All figures."""
    chosen = outcome.chosen
    return {
        "task": study.plan.method.task,
        "trials": {state.lower(): study.count(state) for state in ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")},
        "impossible": passed_over(study),  # of those that are called pruned
        "chosen": {"trial": chosen.number, "area": chosen.value, "areas": [each[-1] for each in chosen.areas]},
        "settings": chosen.point,
        "defaults": space.start(study.plan.base, study.plan.searched),
        "finalists": {str(number): list(areas) for number, areas in outcome.areas.items()},
        "importance": dict(outcome.importance),
        "comparison": None if outcome.comparison is None else outcome.comparison.to_json(),
    }


# ---- in words --------------------------------------------------------------------------------------------------------


def settings_rows(study: Study, outcome: Outcome) -> list[list[str]]:
    """One row a setting: what it was, what it became, what it mattered."""
    defaults, chosen = space.start(study.plan.base, study.plan.searched), outcome.chosen.point
    rows = [["setting", "default", "tuned", "importance"]]
    names = [dimension.parameter for dimension in study.plan.searched]
    for name in sorted(names, key=lambda name: -outcome.importance.get(name, 0.0)):
        share = f"{100 * outcome.importance[name]:.0f} %" if name in outcome.importance else "–"
        rows.append([name, shown(defaults[name]), shown(chosen[name]), share])
    return rows


def shown(value: Any) -> str:
    """A setting in a table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def words(paired: Paired, what: str, count: int) -> str:
    """One sentence about one measure."""
    low, high = paired.interval
    means = f"defaults {statistics.fmean(paired.defaults):.5g}, tuned {statistics.fmean(paired.tuned):.5g}"
    judged = {
        "better": "tuned is better",
        "worse": "tuned is worse: keep the defaults",
        "as good": "no difference",
        "undecided": "not decided by these seeds",
    }[paired.verdict]
    return f"{what}, {count} fresh seeds: {means}; difference {paired.difference:+.4g} ({low:+.4g} to {high:+.4g}): {judged}"


def put(path: Path, text: str) -> None:
    """A file that appears whole."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")

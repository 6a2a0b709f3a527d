"""The results of a suite as a page: the two columns side by side with what is published, and every row in full."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.learning import published, recipes
from benchmarks.learning.results import Result
from benchmarks.learning.suites import Row, Suite
from pistar.statistics import confidence

WORDS = {"peer": "sb3-contrib, here", "published": "published settings"}
FEW = 8  # rows that are named one by one


def page(name: str, suite: Suite, results: Sequence[Result], picture: bool) -> str:
    """The whole page; ``results`` are those of rows that have any, in the suite's order."""
    parts = [f"# {suite.title}", f"    python -m benchmarks.learning --suite {name}"]
    if suite.about:
        parts.append(suite.about)
    if picture:
        parts.append(f"![Mean return of evaluations and its 95 % interval over seeds]({name}.png)")
    if any(result.row.task for result in results):
        parts.append(overview(results))
    parts.append(details(results, len(suite.seeds)))
    known = {result.row.name for result in results}
    waiting = [row.name for row in suite.rows if row.name not in known]
    if len(waiting) > FEW:
        parts.append(f"{len(waiting)} of {len(suite.rows)} rows have not been run yet; `--list` names them.")
    elif waiting:
        parts.append("Not run yet: " + ", ".join(waiting) + ".")
    if len(results) <= FEW:
        parts.append("Each run: " + "; ".join(f"`{result.command}`" for result in results))
    parts.append(f"Settings, versions and every evaluation of a row: [learning/{name}/](learning/{name}/).")
    made_with = {", ".join(f"{n} {v}" for n, v in o.versions.items()): None for r in results for o in r.outcomes}
    parts += list(made_with)
    return "\n\n".join(parts) + "\n"


# ---- two columns -----------------------------------------------------------------------------------------------------


def overview(results: Sequence[Result]) -> str:
    """A line for every task and algorithm: mean [95 % interval] (seeds) by the defaults and by the recipe."""
    keys = list(dict.fromkeys((result.row.task, result.row.algorithm) for result in results))
    lines = table("task", "algorithm", "defaults", "recipe", "beside", "published")
    sources: dict[str, None] = {}
    for task, algorithm in keys:
        here = [result for result in results if (result.row.task, result.row.algorithm) == (task, algorithm)]
        by_column = {result.row.column: f"{mean(result)} ({len(result.outcomes)})" for result in here}
        others = "; ".join(f"{WORDS[column]}: {by_column[column]}" for column in WORDS if column in by_column)
        cells = (by_column.get("defaults", ""), by_column.get("recipe", ""), others, published.beside(task, algorithm))
        lines.append(f"| {task} | {algorithm} | " + " | ".join(cells) + " |")
        sources |= dict.fromkeys(published.FIGURES.get((task, algorithm), {}))
    legend = ["", "Means, their 95 % intervals and the number of seeds. A recipe changes lanes, horizon and γ alone:"]
    legend[-1] += f" {recipes.in_words(dict.fromkeys(task for task, _ in keys))}."
    if sources:
        legend.append("Published, mean ± deviation over seeds, each by a protocol of its own:")
        legend += ["", *(f"- {source}: {published.SOURCES[source]}" for source in sources)]
    return "\n".join([*lines, *legend])


# ---- every row -------------------------------------------------------------------------------------------------------


def details(results: Sequence[Result], seeds: int) -> str:
    """A line for every row."""
    lines = table(
        "row", "asked", "median", "mean [95 % interval]", "lowest", "per seed", "seconds a run", "seconds a million steps", "seeds",
    )  # fmt: skip
    for result in results:
        scores, outcomes = result.scores, result.outcomes
        cells = (
            result.row.name,
            asked(result, results, seeds),
            f"{statistics.median(scores):.4g}",
            mean(result),
            f"{min(scores):.4g}",
            ", ".join(f"{score:.4g}" for score in scores),
            f"{statistics.median(outcome.seconds for outcome in outcomes):.0f}",
            seconds(result),
            f"{len(outcomes)}" if len(outcomes) >= seeds else f"{len(outcomes)} of {seeds}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(
        [
            *lines,
            "",
            "Seconds are of training on one core, evaluations excluded: the median over seeds and, since other work on a machine "
            "only lengthens them, the fastest; apart for each kind of processor (and how many seeds it ran), where there were several.",
        ]
    )


def asked(result: Result, results: Sequence[Result], seeds: int) -> str:
    """What the row should reach, and whether it does; of TRPO by its defaults, what the peer reaches here."""
    row, line, source = result.row, result.row.asked, ""
    if row.algorithm == "trpo" and row.column == "defaults":
        peers = [each for each in results if each.row.task == row.task and each.row.column == "peer"]
        if peers:
            line, source = statistics.fmean(peers[0].scores), "sb3-contrib's; "
    if line is None:
        return ""
    reached = "reached" if judged(row, result.scores) >= line else "missed"
    if len(result.outcomes) < seeds:
        reached += " so far"
    aim = "" if row.aim is None else f"; aim {row.aim:g}"
    return f"{row.judged_by} ≥ {line:.4g} ({source}{reached}{aim})"


def judged(row: Row, scores: Sequence[float]) -> float:
    """The number that what is asked is compared with."""
    if row.judged_by == "every":
        return min(scores)
    return statistics.median(scores) if row.judged_by == "median" else statistics.fmean(scores)


def mean(result: Result) -> str:
    """With the 95 % interval of it, which one seed does not give."""
    low, high = confidence(result.scores)
    interval = f"[{low:.4g}, {high:.4g}]" if len(result.scores) > 1 else "[–]"
    return f"{statistics.fmean(result.scores):.4g} {interval}"


def seconds(result: Result) -> str:
    """Of a million steps: the median and the fastest, for each processor that made some, beside what is asked."""
    by_processor: dict[str, list[float]] = {}
    for outcome in result.outcomes:
        by_processor.setdefault(outcome.versions.get("processor", ""), []).append(outcome.seconds_a_million)
    several = len(by_processor) > 1
    found = "; ".join(
        f"{statistics.median(every):.0f}, fastest {min(every):.0f}"
        + (f" ({processor or 'unknown'}: {len(every)})" if several else "")
        for processor, every in by_processor.items()
    )
    limit = result.row.asked_seconds
    return found if limit is None else f"{found} (asked ≤ {limit:g})"


def table(*columns: str) -> list[str]:
    """The head of a table."""
    return ["| " + " | ".join(columns) + " |", "| --- " * len(columns) + "|"]

"""Has learning stayed as good? Scores of one learning benchmark beside those of another, seed by seed.

    python -m benchmarks.learning parity NEW REFERENCE --random Reacher-v5=-43 HalfCheetah-v5=-280 [--name parity]

NEW and REFERENCE are folders in which rows lie, of one suite or of several, such as benchmarks/results/learning; or single files of
results with many rows, as they were before there were curves. For every row that both have: (new - reference) /
|reference - random|, of the means over the seeds, with its standard error and the lower 95 % bound of a bootstrap over seeds. What
is new counts as not worse where that bound is at least -0.10. With few seeds of a spread-out score the bound says more about
the seeds than about the change.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent.parent / "results"
DRAWS, WORST = 20_000, -0.10


def bound(new: Any, reference: Any, random: float) -> tuple[float, float]:
    """The relative difference of the means, and its lower 95 % bound."""
    new, reference = np.asarray(new, float), np.asarray(reference, float)
    scale, generator = abs(reference.mean() - random), np.random.default_rng(0)
    drawn = [x[generator.integers(len(x), size=(DRAWS, len(x)))].mean(1) for x in (new, reference)]
    return float((new.mean() - reference.mean()) / scale), float(np.quantile((drawn[0] - drawn[1]) / scale, 0.05))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning parity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("new", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--random", nargs="+", required=True, metavar="ROW=SCORE", help="what random actions score")
    parser.add_argument("--name", default="parity", help="of the result's file")
    parser.add_argument("--about", default="", help="what is new and what the reference, for the page")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the table goes")
    chosen = parser.parse_args(argv)
    random = {row: float(score) for row, score in (each.split("=") for each in chosen.random)}
    scores = [scores_of(path) for path in (chosen.new, chosen.reference)]
    lines = [
        f"# {chosen.name}",
        "",
        *([f"{chosen.about}.", ""] if chosen.about else []),
        "The difference of the means over what was learned since random actions, its standard error, and the lower 95 % bound of a",
        "bootstrap over seeds: not worse is what has a bound of at least -0.10.",
        "",
        "| | new: mean (seeds) | reference: mean (seeds) | difference | ± | lower bound | |",
        "| --- " * 7 + "|",
    ]
    for row in [row for row in scores[0] if row in scores[1] and row in random]:
        new, reference = scores[0][row], scores[1][row]
        found, low = bound(new, reference, random[row])
        error = sum(np.var(x, ddof=1) / len(x) for x in (new, reference)) ** 0.5 / abs(np.mean(reference) - random[row])
        means = " | ".join(f"{np.mean(x):.4g} ({len(x)})" for x in (new, reference))
        lines.append(
            f"| {row} | {means} | {found:+.3f} | {error:.3f} | {low:+.3f} | {'not worse' if low >= WORST else 'not shown'} |"
        )
    page = "\n".join([*lines, ""])
    (chosen.results / f"{chosen.name}.md").write_text(page)
    print(page)


def scores_of(path: Path) -> dict[str, list[float]]:
    """Row -> the score of every seed."""
    if path.is_dir():
        rows = [json.loads(file.read_text()) for file in sorted(path.rglob("*.json"))]
        return {row["row"]: [run["score"] for run in row["runs"]] for row in rows}
    return {row["row"]: list(row["scores"]) for row in json.loads(path.read_text())["rows"]}


if __name__ == "__main__":
    main()

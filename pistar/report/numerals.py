"""Numbers and times as people read them, in lines of text and in pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def short(number: float) -> str:
    """A number in at most four digits, with a suffix from ten thousand on: 1234, 12.3k, 1.23M."""
    rounded = float(f"{number:.3g}")  # first, so that 999,999 becomes 1M rather than 1e+03k
    for size, unit, suffix in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(rounded) >= size:
            return f"{rounded / unit:.3g}{suffix}" if abs(rounded) < 1e12 else f"{rounded:.2e}"
    return f"{number:.4g}"


def typeset(number: float) -> str:
    """``short`` with a true minus sign, for pictures."""
    return short(number).replace("-", "−")


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: 0:05, 12:34, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def number(value: float) -> str:
    """A number, or a dash where there is none."""
    return short(value) if math.isfinite(value) else "–"


def signed(value: float) -> str:
    """A number with its sign."""
    return ("+" if value > 0 else "") + number(value)


def interval(ends: Sequence[float]) -> str:
    """Two ends, or a dash where one sample gave none."""
    low, high = ends
    return f"{number(low)} to {number(high)}" if math.isfinite(low) and math.isfinite(high) else "–"


def aligned(rows: Sequence[Sequence[str]], left: Iterable[int] = (0,)) -> list[str]:
    """Columns of equal width, right-aligned but for those in ``left``."""
    flush, widths = set(left), [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if n in flush else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]

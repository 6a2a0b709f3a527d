"""Pieces of HTML that the parts of a page share; what they are given is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape


def table(rows: Sequence[Sequence[str]], css: str = "numbers") -> str:
    """A table whose first row is its head; cells are escaped, and names may break after their dots and slashes."""

    def cell_of(cell: str) -> str:
        return re.sub(r"([/_.])(?=[a-z])", r"\1<wbr>", escape(cell))

    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{cell_of(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return f'<div class="scroll"><table class="{css}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def minus(text: str) -> str:
    """A true minus sign before numbers; flags, names and exponents keep their hyphens."""
    return re.sub(r"(?<![\w.-])-(?=\.?\d)", "−", text)


def legend(labels: Sequence[str]) -> str:
    """The colours of the groups, where there are several."""
    if len(labels) < 2:
        return ""
    items = (f'<li><span class="swatch s{n % 7}"></span>{escape(label)}</li>' for n, label in enumerate(labels))
    return f'<ul class="legend">{"".join(items)}</ul>'

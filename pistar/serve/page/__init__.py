"""The page at ``/``: one file with its style and script inside, which loads nothing from elsewhere.

A content security policy lets the browser run that script alone, by its digest, and speak to this service alone.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources


@functools.cache
def assembled() -> tuple[str, str]:
    """(HTML, the Content-Security-Policy that goes with it)."""
    text, style, drawing, script = (part(name) for name in ("page.html", "style.css", "drawing.js", "page.js"))
    code = drawing + script
    page = text.replace("/*STYLE*/", style).replace("/*SCRIPT*/", code)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def part(name: str) -> str:
    """A file of this folder."""
    return resources.files(__name__).joinpath(name).read_text("utf-8")

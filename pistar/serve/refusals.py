"""A request that is refused: the status, and a JSON body that says what was expected, what came and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

LONGEST = 200  # characters of a client's own text that an answer repeats
Headers = Sequence[tuple[bytes, bytes]]


class Explanation(msgspec.Struct, omit_defaults=True):
    """The body of every answer that is no success."""

    error: str
    expected: str = ""
    received: str = ""
    next: str = ""


class Refusal(Exception):
    """Raised anywhere while a request is handled; becomes its answer."""

    def __init__(
        self,
        status: int,
        error: str,
        expected: str = "",
        received: str = "",
        next_step: str = "",
        headers: Headers = (),
    ) -> None:
        super().__init__(error)
        self.status, self.headers = status, headers
        self.explanation = Explanation(error, expected, received, next_step)

    def body(self) -> bytes:
        """JSON."""
        return msgspec.json.encode(self.explanation)


def excerpt(value: Any) -> str:
    """A value as JSON, cut where it is long; a client's text never fills a log or an answer."""
    try:
        text = msgspec.json.encode(value).decode(errors="replace")
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"

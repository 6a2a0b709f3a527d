"""Where the time of a run goes: environment, acting, estimating, updating, reporting, evaluating, saving, and the rest.

Clocks are put around the calls that begin each kind of work, from outside, so that a run without them pays nothing. A kind
within another (an environment's step within an evaluation) counts as the outer one's. What an algorithm does besides
gradient steps is its estimating.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

KINDS = ("environment", "acting", "estimating", "updating", "reporting", "evaluating", "saving", "other")


class Profile:
    """Seconds of each kind since the run began; ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.began = clock()
        self.seconds = dict.fromkeys(KINDS[:-1], 0.0)
        self._inside: list[float] = []  # of the kinds that are at work, the seconds that belong to kinds within them
        self._whole = ""  # the kind that swallows those within it

    def around(self, owner: Any, method: str, kind: str, *, whole: bool = False) -> None:
        """Clock every call of ``owner.method``; ``whole``: what is called within it is of this kind too."""
        function = getattr(owner, method)

        def clocked(*arguments: Any, **keywords: Any) -> Any:
            if self._whole:
                return function(*arguments, **keywords)
            if whole:
                self._whole = kind
            began = self.clock()
            self._inside.append(0.0)
            try:
                return function(*arguments, **keywords)
            finally:
                took, within = self.clock() - began, self._inside.pop()
                self.seconds[kind] += took - within
                if self._inside:
                    self._inside[-1] += took
                if whole:
                    self._whole = ""

        object.__setattr__(owner, method, clocked)  # an algorithm's dataclass is frozen

    def so_far(self) -> dict[str, float]:
        """Seconds of every kind, the rest as ``other``."""
        total = self.clock() - self.began
        return {**self.seconds, "other": max(0.0, total - sum(self.seconds.values()))}

    def table(self) -> list[list[str]]:
        """Rows (kind, seconds, share) for a terminal, the longest first."""
        found = self.so_far()
        total = sum(found.values()) or 1.0
        rows = sorted(found.items(), key=lambda item: -item[1])
        return [[kind, f"{seconds:.2f} s", f"{100 * seconds / total:.1f} %"] for kind, seconds in rows]

"""What the doctor found: one mark, one topic, what is wrong in words, what to do, and where it was first seen.

A fault that shows at every step is one finding with a count. A topic in which nothing was found gets one ``ok`` line.
"""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

Mark = Literal["ok", "warning", "error"]
WIDTH, INDENT = 110, 28  # columns of a line, and of its mark and topic


class Place(NamedTuple):
    """Where something happened; ``step`` counts from the start of the episode, a reset is step None."""

    lane: int
    episode: int
    step: int | None = None

    def __str__(self) -> str:
        where = "reset" if self.step is None else f"step {self.step}"
        return f"lane {self.lane}, episode {self.episode}, {where}"


@dataclass
class Finding:
    """One line of the report."""

    mark: Mark
    topic: str
    text: str  # what is so
    advice: str = ""  # what to do about it
    place: Place | None = None  # where it was first seen
    count: int = 1  # how often it was seen

    def to_json(self) -> dict[str, Any]:
        """Plain values; lane, episode and step are null where the finding belongs to no step."""
        place = self.place._asdict() if self.place else dict.fromkeys(Place._fields)
        return {key: value for key, value in asdict(self).items() if key != "place"} | place

    def lines(self) -> list[str]:
        """The finding as indented text."""
        where = f"{self.place}: " if self.place else ""
        more = f" ({self.count} times)" if self.count > 1 else ""
        head = f"{self.mark:<9}{self.topic:<{INDENT - 9}}"
        text = where + self.text + more
        rows = [row for line in text.splitlines() for row in textwrap.wrap(line, WIDTH - INDENT) or [""]]
        rows += textwrap.wrap(f"→ {self.advice}", WIDTH - INDENT) if self.advice else []
        return [head + rows[0], *(" " * INDENT + row for row in rows[1:])]


@dataclass
class Diagnosis:
    """All findings about one target."""

    target: str
    findings: list[Finding] = field(default_factory=list)
    _known: dict[tuple[str, str], Finding] = field(default_factory=dict)

    def ok(self, topic: str, text: str) -> None:
        """Nothing to do."""
        self.findings.append(Finding("ok", topic, text))

    def warn(self, topic: str, text: str, advice: str, place: Place | None = None, key: str = "") -> None:
        """Training works, but perhaps not as it was meant; findings of the same ``key`` are counted, not repeated."""
        self._add(Finding("warning", topic, text, advice, place), key)

    def fail(self, topic: str, text: str, advice: str, place: Place | None = None, key: str = "") -> None:
        """Training would stop, or learn something wrong."""
        self._add(Finding("error", topic, text, advice, place), key)

    def _add(self, finding: Finding, key: str) -> None:
        known = self._known.setdefault((finding.topic, key or finding.text), finding)
        if known is finding:
            self.findings.append(finding)
        else:
            known.count += 1

    def clean(self, topic: str) -> bool:
        """Whether no fault was found in a topic so far."""
        return not any(finding.topic == topic and finding.mark != "ok" for finding in self.findings)

    def number_of(self, mark: Mark) -> int:
        """How many findings bear a mark."""
        return sum(finding.mark == mark for finding in self.findings)

    @property
    def healthy(self) -> bool:
        """No errors; warnings are allowed."""
        return self.number_of("error") == 0

    @property
    def verdict(self) -> str:
        """The last line."""
        errors, warnings = self.number_of("error"), self.number_of("warning")
        if errors:
            also = f" and {counted(warnings, 'warning')}" if warnings else ""
            return f"verdict: {self.target} is not fit for training: {counted(errors, 'error')}{also}"
        if warnings:
            return f"verdict: {self.target} can be trained on; read the {counted(warnings, 'warning')} first"
        return f"verdict: {self.target} is healthy"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "target": self.target,
            "healthy": self.healthy,
            "errors": self.number_of("error"),
            "warnings": self.number_of("warning"),
            "verdict": self.verdict,
            "findings": [finding.to_json() for finding in self.findings],
        }

    def to_text(self) -> str:
        """A tidy list; the last line is the verdict."""
        return "\n".join([line for finding in self.findings for line in finding.lines()] + ["", self.verdict])


def counted(number: int, thing: str) -> str:
    """``1 error``, ``2 errors``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"

"""The latest record on one line of the terminal: percent, steps, return, speed, time left.

On a terminal the line is redrawn in place (tqdm). Elsewhere, in a log file or a job's output, one plain line is printed
every so many seconds, so that the log stays readable and still shows that the run lives. A terminal that has gone, or a
log on a full disk, silences the display and never ends a run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from tqdm.std import tqdm

from pistar.report.numerals import duration, short
from pistar.report.sink import Record, finite

_BAR = "{percentage:3.0f} %|{bar}| {desc}"


class Progress:
    """A sink that shows how far a run is, on ``stream`` (standard error unless told).

    ``done`` are the steps that a resumed run starts with. ``quiet`` shows nothing. ``interval`` is the time in seconds
    between two plain lines; ``clock`` gives seconds.
    """

    def __init__(
        self,
        steps: int,
        *,
        done: int = 0,
        quiet: bool = False,
        stream: TextIO | None = None,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.steps, self.quiet, self.interval = steps, quiet, interval
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._first, self._done = done, done
        self._return: float | None = None
        self._started, self._printed = clock(), float("-inf")
        self._unprinted = False
        self._bar: tqdm[Any] | None = None
        if not quiet and self._stream.isatty():
            self._show(self._open_bar)

    def write(self, record: Record) -> None:
        """Show ``record``; where no episode ended in it, the last known return stays."""
        if self.quiet:
            return
        advance = int(record["steps"]) - self._done
        self._done += advance
        latest = finite(record.get("return"))
        self._return = self._return if latest is None else latest
        if self._bar is not None:
            self._bar.set_description_str(self.line(), refresh=False)
            self._show(self._bar.update, advance)
        elif self._clock() - self._printed >= self.interval:
            self._print()
        else:
            self._unprinted = True

    def line(self) -> str:
        """Steps, return, speed and time left since the start of this process, as one line of text."""
        parts = [f"{short(self._done)} of {short(self.steps)} steps"]
        if self._return is not None:
            parts.append(f"return {short(self._return)}")
        elapsed, made = self._clock() - self._started, self._done - self._first
        if made > 0 and elapsed > 0:
            speed = made / elapsed
            parts.append(f"{short(speed)} steps/s")
            parts.append(f"{duration(max(self.steps - self._done, 0) / speed)} left")
        return "  ".join(parts)

    def say(self, message: str) -> None:
        """Print a line of text without tearing the progress line."""
        if self._bar is not None:
            self._show(self._bar.write, message, self._stream)
        elif not self.quiet:
            self._show(self._put, message)

    def flush(self) -> None:
        """Redraw now."""
        if self._bar is not None:
            self._show(self._bar.refresh)
        elif self._unprinted:
            self._print()

    def close(self) -> None:
        """Leave the last state on the screen; safe to call twice."""
        self.flush()
        if self._bar is not None:
            self._show(self._bar.close)
            self._bar = None
            self.quiet = True

    def _open_bar(self) -> None:
        self._bar = tqdm(
            total=self.steps,
            initial=self._done,
            file=self._stream,
            dynamic_ncols=True,
            bar_format=_BAR,
            desc=self.line(),
        )

    def _print(self) -> None:
        percent = 100 * self._done / max(self.steps, 1)
        self._show(self._put, f"{percent:3.0f} %  {self.line()}")
        self._printed, self._unprinted = self._clock(), False

    def _put(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def _show(self, display: Callable[..., object], *arguments: object) -> None:
        try:
            display(*arguments)
        except (OSError, ValueError):  # a closed stream raises ValueError
            self.quiet, self._unprinted, self._bar = True, False, None

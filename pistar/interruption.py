"""Ctrl-C and SIGTERM: finish the iteration, save, and leave with the signal's exit code."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from pistar.errors import Interrupted


class Interruption:
    """Within ``with``, the first signal is only noted; a second one of Ctrl-C ends the process at once.

    Outside the main thread Python cannot handle signals, and nothing is changed.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        print("\nstopping after this iteration; once more to stop at once", file=sys.stderr)

    def leave(self, run: Path, steps: int, repeated: int) -> None:
        """Raise Interrupted with what was saved and how to go on."""
        assert self.received is not None
        kept = f"saved at {steps} steps"
        if repeated:
            kept = f"kept the last scheduled checkpoint; {repeated} steps will be repeated"
        raise Interrupted(
            f"stopped by signal {self.received}: {kept}. Continue with `pistar resume {run}`", self.received
        )

"""What every peer's script reports: one line of JSON, printed last. It imports nothing but the standard library."""

from __future__ import annotations

import importlib.metadata
import json
import resource
import sys
import time
from typing import Any

BEGAN = time.perf_counter()


def job() -> dict[str, Any]:
    """What to run, from the command line."""
    return dict(json.loads(sys.argv[1]))


def report(
    *, steps: int, seconds: float, imported: float, returns: list[float], packages: list[str], **more: Any
) -> None:
    """Print the result: ``seconds`` from the call that trains to the last update, ``returns`` of training episodes in order."""
    last = returns[-100:]
    print(
        json.dumps(
            {
                "steps": steps,
                "seconds": seconds,
                "import_seconds": imported,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "return": sum(last) / len(last) if last else None,
                "versions": {name: importlib.metadata.version(name) for name in packages},
                **more,
            }
        )
    )


def steady(marks: list[float], steps: int) -> dict[str, float]:
    """Steps per second from the end of the second iteration of ``steps`` steps on: without what is made only once."""
    if len(marks) < 4:
        return {}
    return {"steady": steps * (len(marks) - 2) / (marks[-1] - marks[1])}

"""Python reads this while PufferLib 3.0.0 is built for its peer: the trainer alone, on the CPU.

Its setup.py builds no games of its own where NO_OCEAN says so (they download libraries), but then misses the name of their list;
and it takes any nvcc on the path for a build with CUDA, which a torch without CUDA refuses.
"""

import builtins
import shutil
from typing import Any

found = shutil.which


def which(cmd: str, *rest: Any, **named: Any) -> str | None:
    return None if cmd == "nvcc" else found(cmd, *rest, **named)


builtins.c_extension_paths = []  # type: ignore[attr-defined]
shutil.which = which  # type: ignore[assignment]

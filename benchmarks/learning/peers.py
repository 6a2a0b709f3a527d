"""The interpreter that has sb3-contrib, in an environment of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

DEFAULT = Path.home() / ".cache" / "pistar" / "peers" / "sb3" / "bin" / "python"  # where the speed benchmark makes it


def missing(interpreter: Path) -> str | None:
    """Why the peer's rows must be left out; None where they can run."""
    advice = "make an environment with sb3-contrib and gymnasium[mujoco] in it, and name its interpreter by --peer"
    if not interpreter.is_file():
        return f"there is no {interpreter}; {advice}"
    asked = subprocess.run([str(interpreter), "-c", "import sb3_contrib, mujoco"], capture_output=True, text=True)
    if asked.returncode == 0:
        return None
    return f"{interpreter}: {(asked.stderr.strip().splitlines() or ['it failed'])[-1]}; {advice}"

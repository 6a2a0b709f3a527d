"""The checkpoints of a run: whole states, newest first, with one to fall back on.

``RUN/checkpoints/iteration-00000012.safetensors`` holds everything that decides what happens after iteration 12. At least
two are kept; one that is damaged is passed over, loudly; where none is left, resuming is refused and each is named.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from pistar import serialization
from pistar.errors import ArtefactError, CheckpointError

KIND = "pistar-checkpoint"


class Checkpoints:
    """The checkpoint directory of one run; ``keep`` newest files stay."""

    def __init__(self, directory: Path, keep: int = 2) -> None:
        self.directory, self.keep = directory, max(2, keep)

    def save(self, iteration: int, state: dict[str, Any]) -> Path:
        """Write the state after ``iteration`` iterations; older ones beyond ``keep`` go only once it is safe."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"iteration-{iteration:08d}.safetensors"
        serialization.write(path, state, KIND)
        for old in self.paths()[self.keep :]:
            old.unlink(missing_ok=True)
        for stray in self.directory.glob(".*.tmp"):  # left by a process that was killed while writing
            stray.unlink(missing_ok=True)
        return path

    def paths(self) -> list[Path]:
        """Every checkpoint, newest first."""
        return sorted(self.directory.glob("iteration-*.safetensors"), reverse=True)

    def load(self) -> dict[str, Any]:
        """The newest state that is whole. Raises CheckpointError naming every file where there is none."""
        failures = []
        for path in self.paths():
            try:
                state, _ = serialization.read(path, KIND)
            except ArtefactError as error:
                failures.append(str(error))
                continue
            for failure in failures:
                warnings.warn(f"{failure}; falling back to {path.name}", stacklevel=2)
            return state
        if not failures:
            raise CheckpointError(f"{self.directory} holds no checkpoint; nothing to resume from")
        raise CheckpointError("no checkpoint of this run is usable:\n  " + "\n  ".join(failures))

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
        self._damaged: list[Path] = []

    def save(self, iteration: int, state: dict[str, Any]) -> Path:
        """Write the state after ``iteration`` iterations; older ones beyond ``keep`` go only once it is safe.

        So do those that `load` has passed over: counted among the newest, they would take the place of whole ones.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.path(iteration)
        serialization.write(path, state, KIND)
        for damaged in self._damaged:
            if damaged != path:
                damaged.unlink(missing_ok=True)
        self._damaged.clear()
        self.prune(iteration)
        for stray in self.directory.glob(".*.tmp"):  # left by a process that was killed while writing
            stray.unlink(missing_ok=True)
        return path

    def prune(self, iteration: int) -> None:
        """Remove those before ``iteration`` but for so many that ``keep`` are left with it."""
        for old in [path for path in self.paths() if path <= self.path(iteration)][self.keep :]:
            old.unlink(missing_ok=True)

    def path(self, iteration: int) -> Path:
        """Where the state after so many iterations stands."""
        return self.directory / f"iteration-{iteration:08d}.safetensors"

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
                self._damaged.append(path)
                continue
            for failure in failures:
                warnings.warn(f"{failure}; falling back to {path.name}", stacklevel=2)
            return state
        if not failures:
            raise CheckpointError(f"{self.directory} holds no checkpoint; nothing to resume from")
        raise CheckpointError("no checkpoint of this run is usable:\n  " + "\n  ".join(failures))

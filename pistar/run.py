"""A run directory: the whole experiment, its records, checkpoints and policy, and nothing that is not in it.

::

    RUN/experiment.toml        every resolved value, and under [run] the versions, seed and command
    RUN/metrics.jsonl          one object an iteration: the source of truth
    RUN/evaluations.jsonl      one object an evaluation
    RUN/checkpoints/           whole states to resume from
    RUN/policy.safetensors     the policy as it stands; best.safetensors: that of the best evaluation
    RUN/tensorboard/           a mirror of the metrics
    RUN/learning_curve.png     the picture
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pistar import __version__, configuration, serialization
from pistar.errors import ArtefactError, UsageError
from pistar.experiment import Experiment

RECORDED = ("torch", "numpy", "gymnasium", "mujoco")  # packages whose version can change the last bit of a run


@dataclass(frozen=True)
class RunDirectory:
    """The paths of a run."""

    path: Path

    @property
    def experiment(self) -> Path:
        """The experiment's TOML."""
        return self.path / "experiment.toml"

    @property
    def metrics(self) -> Path:
        """One record an iteration."""
        return self.path / "metrics.jsonl"

    @property
    def evaluations(self) -> Path:
        """One record an evaluation."""
        return self.path / "evaluations.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Whole states."""
        return self.path / "checkpoints"

    @property
    def policy(self) -> Path:
        """The newest policy."""
        return self.path / "policy.safetensors"

    @property
    def best(self) -> Path:
        """The policy of the best evaluation."""
        return self.path / "best.safetensors"

    @property
    def tensorboard(self) -> Path:
        """The mirror of the metrics."""
        return self.path / "tensorboard"

    @property
    def picture(self) -> Path:
        """The learning curve."""
        return self.path / "learning_curve.png"

    @staticmethod
    def create(path: Path, experiment: Experiment, command: list[str]) -> RunDirectory:
        """Make a new run directory; one that exists and is not empty is refused, so that nothing is overwritten."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(
                f"{path} exists already and is left as it is. Continue it with `pistar resume {path}`, "
                "or choose another place with --out"
            )
        path.mkdir(parents=True, exist_ok=True)
        run = RunDirectory(path)
        run.write_experiment(experiment, {"command": command, **machine()})
        return run

    @staticmethod
    def open(path: Path) -> RunDirectory:
        """An existing run directory; raises ArtefactError where it is none."""
        run = RunDirectory(path)
        if not run.experiment.is_file():
            raise ArtefactError(f"{path} is not a run directory: it has no experiment.toml")
        return run

    def write_experiment(self, experiment: Experiment, provenance: dict[str, Any]) -> None:
        """Replace experiment.toml atomically."""
        text = configuration.to_toml({**experiment.to_table(), "run": provenance})
        serialization.write_bytes(self.experiment, text.encode())

    def provenance(self) -> dict[str, Any]:
        """The [run] table: what the run was started with."""
        return dict(configuration.read_toml(self.experiment).get("run", {}))


def machine() -> dict[str, Any]:
    """What bit-exact continuation depends on besides the experiment itself."""
    import torch

    found: dict[str, Any] = {"pistar": __version__, "python": platform.python_version()}
    for package in RECORDED:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found["processor"] = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    found["platform"] = sys.platform
    return found


def differences(recorded: dict[str, Any]) -> list[str]:
    """What has changed since the run was started, of all that its bits depend on."""
    now = machine()
    return [
        f"{name}: {recorded.get(name, 'absent')} then, {now.get(name, 'absent')} now"
        for name in sorted({*now, *recorded} - {"command"})
        if recorded.get(name) != now.get(name)
    ]

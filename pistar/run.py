"""A run directory: the whole experiment, its records, checkpoints and policy, and nothing that is not in it.

::

    RUN/experiment.toml        every resolved value, and under [run] the versions, seed and command
    RUN/metrics.jsonl          one object an iteration: the source of truth
    RUN/evaluations.jsonl      one object an evaluation
    RUN/checkpoints/           whole states to resume from
    RUN/policy.safetensors     the policy as it stands; best.safetensors: that of the best evaluation
    RUN/cloned.safetensors     the policy that was cloned from demonstrations, and cloning.jsonl: how; where there are such
    RUN/tensorboard/           a mirror of the metrics
    RUN/learning_curve.png     the picture
"""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pistar import __version__, configuration
from pistar.errors import UsageError
from pistar.experiment import Experiment

UNBEGUN = (
    r"checkpoints(/iteration-0+\.safetensors|/\.iteration-0+\.safetensors\.\d+\.tmp)?|\.experiment\.toml\.\d+\.tmp"
    r"|cloned\.safetensors|cloning\.jsonl|\.(cloned\.safetensors|cloning\.jsonl)\.\d+\.tmp"
)
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
    def cloned(self) -> Path:
        """The policy that was cloned from demonstrations, where there were such."""
        return self.path / "cloned.safetensors"

    @property
    def cloning(self) -> Path:
        """One record a pass of cloning, and a last one of what it came to."""
        return self.path / "cloning.jsonl"

    @property
    def tensorboard(self) -> Path:
        """The mirror of the metrics."""
        return self.path / "tensorboard"

    @property
    def picture(self) -> Path:
        """The learning curve."""
        return self.path / "learning_curve.png"

    @staticmethod
    def create(path: Path) -> RunDirectory:
        """Make the place of a new run; one that exists and is not empty is refused, so that nothing is overwritten."""
        require_new(path)
        path.mkdir(parents=True, exist_ok=True)
        run = RunDirectory(path)
        run.sweep()
        return run

    def begin(self, experiment: Experiment, command: list[str]) -> None:
        """Write experiment.toml, by which the place is a run: once checkpoint 0 is there, so that every run can be resumed."""
        self.write_experiment(experiment, {"command": command, **machine()})

    @staticmethod
    def open(path: Path) -> RunDirectory:
        """An existing run directory; raises UsageError where it is none."""
        return RunDirectory(find_run(path))

    def write_experiment(self, experiment: Experiment, provenance: dict[str, Any]) -> None:
        """Replace experiment.toml atomically."""
        from pistar import serialization  # imports torch, which those who only look for a run do not need

        text = configuration.to_toml({**experiment.to_table(), "run": provenance})
        serialization.write_bytes(self.experiment, text.encode())

    def sweep(self) -> None:
        """Remove the halves of files that a killed process was writing beside their places."""
        halves = [
            f".{path.name}.*.tmp" for path in (self.experiment, self.policy, self.best, self.cloned, self.cloning)
        ]
        halves.append(f".{self.picture.stem}.*.partial{self.picture.suffix}")
        for half in (found for pattern in halves for found in self.path.glob(pattern)):
            half.unlink(missing_ok=True)

    def provenance(self) -> dict[str, Any]:
        """The [run] table: what the run was started with."""
        return dict(configuration.read_toml(self.experiment).get("run", {}))


def require_new(path: Path) -> None:
    """Refuse a place for a new run where something stands already, but for the rest of a run that never began."""
    if path.exists() and not (path.is_dir() and unbegun(path)):
        raise UsageError(
            f"{path} exists already and is left as it is. Continue it with `pistar resume {path}`, "
            "or choose another place with --out"
        )


def unbegun(path: Path) -> bool:
    """Whether a directory holds nothing, or only what a run leaves that is killed before it is one (`begin`)."""
    return all(re.fullmatch(UNBEGUN, found.relative_to(path).as_posix()) for found in path.rglob("*"))


def free_place(experiment: Experiment, last: str | int) -> Path:
    """The next free runs/TASK-ALGORITHM-LAST, where a run goes that was given no place."""
    tables = experiment.to_table()
    task, algorithm = str(tables["task"].get("id") or tables["task"]["kind"]), str(tables["algorithm"]["kind"])
    name = re.sub(r"[^\w.+-]+", "-", f"{task}-{algorithm}-{last}")
    path, number = Path("runs") / name, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{name}-{number}"
    return path


def find_run(path: Path) -> Path:
    """``path``, where it is the directory of one run; a UsageError says what it is instead."""
    if not path.exists():
        raise UsageError(f"no such run: {path} (expected the directory that `pistar train --out` made)")
    if not (path / "experiment.toml").is_file():
        seeds = sorted(str(found.parent) for found in path.glob("seed-*/experiment.toml"))
        hint = f"; it holds several runs, resume one of them: {', '.join(seeds)}" if seeds else ""
        if path.is_dir() and any(path.iterdir()) and unbegun(path):
            hint = "; its run was killed before the first step: start it again, by the same command"
        raise UsageError(f"{path} is not a run directory: it has no experiment.toml{hint}")
    return path


def find_policy(path: Path) -> Path:
    """``path``, where it is a policy file or a run that has one; a UsageError says what it is instead."""
    if not path.exists():
        raise UsageError(f"no such file or run: {path} (expected a run directory or a policy.safetensors)")
    if path.is_dir() and not (path / "policy.safetensors").is_file():
        seeds = sorted(str(found.parent) for found in path.glob("seed-*/policy.safetensors"))
        inside = f"; it holds several runs: {', '.join(seeds)}" if seeds else ""
        if not seeds and (path / "experiment.toml").is_file():
            inside = f"; the run has not saved one yet: go on with it by `pistar resume {path}`"
        raise UsageError(f"{path} holds no policy.safetensors{inside}")
    return path


def machine() -> dict[str, Any]:
    """What bit-exact continuation depends on besides the experiment itself."""
    import torch

    from pistar.kernels import library

    found: dict[str, Any] = {"pistar": __version__, "python": platform.python_version()}
    for package in RECORDED:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found["processor"] = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    found["platform"] = sys.platform
    found["kernels"] = library.identity()
    return found


def differences(recorded: dict[str, Any]) -> list[str]:
    """What has changed since the run was started, of all that its bits depend on."""
    now = machine()
    return [
        f"{name}: {recorded.get(name, 'absent')} then, {now.get(name, 'absent')} now"
        for name in sorted({*now, *recorded} - {"command"})
        if recorded.get(name) != now.get(name)
    ]

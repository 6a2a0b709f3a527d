import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pistar.cli import main

# A run of four iterations that takes a few tenths of a second.
SMALL = "--steps 256 --lanes 2 --horizon 32 --warm-up 16 --ppo.epochs 2 --checkpoints.every 2 "
SMALL += "--evaluation.episodes 2 --evaluation.final-episodes 2"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pistar(capsys) -> Command:
    """Run a command line in this process: (exit code, standard output, standard error)."""

    def call(line: str, *more: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*line.split(), *map(str, more)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def train(pistar: Command) -> Command:
    """Run ``pistar train`` on CartPole-v1 with small settings."""

    def call(line: str, *more: object) -> tuple[int, str, str]:
        return pistar(f"train CartPole-v1 {SMALL} {line}", *more)

    return call


@pytest.fixture
def started() -> Callable[..., subprocess.Popen[str]]:
    """Start a command line in a process of its own."""

    def start(line: str, *more: object, cwd: Path | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pistar", *line.split(), *map(str, more)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=cwd, env=environment)

    return start


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A run that is done; not to be written to."""
    path = tmp_path_factory.mktemp("trained") / "run"
    assert main([*f"train CartPole-v1 {SMALL} --quiet".split(), "--out", str(path)]) == 0
    return path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "run"))

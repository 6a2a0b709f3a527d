"""Every part of a policy from the user's own file: the how-tos followed to the letter, in a directory of the user's."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pistar import artefact

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "how-to"
SHORT = "--steps 512 --lanes 2 --horizon 64 --warm-up 16 --quiet --checkpoints.every 1 --evaluation.every 0"
SHORT += " --evaluation.final-episodes 2"


@pytest.fixture(autouse=True)
def in_a_directory_of_ones_own(tmp_path, monkeypatch):
    """Where nothing but the user's file lies; what was imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    for example in (ROOT / "docs" / "examples").glob("*.py"):  # another test may have imported it from there
        monkeypatch.delitem(sys.modules, example.stem, raising=False)
    known = set(sys.modules)
    path = list(sys.path)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def command_of(page: str, module: str) -> str:
    """The command line that a page prints for a module."""
    lines = (PAGES / page).read_text().splitlines()
    return next(line.strip() for line in lines if line.startswith("    pistar train") and f" {module}:" in line)


CASES = {
    "encoder": ("add-an-encoder.md", "fourier", "fourier:Fourier"),
    "towers": ("add-an-encoder.md", "residual", "residual:Residual"),
    "whole policy": ("add-an-encoder.md", "quadratic", "quadratic:Quadratic"),
    "memory": ("add-a-memory.md", "leaky_memory", "leaky_memory:Leaky"),
    "distribution": ("choose-or-add-a-distribution.md", "laplace", "laplace:LaplaceHead"),
}


@pytest.mark.parametrize("part", CASES)
def test_a_part_of_ones_own_trains_is_saved_loaded_and_resumed(part: str, pistar, tmp_path: Path):
    page, module, trust = CASES[part]
    shutil.copy(ROOT / "docs" / "examples" / f"{module}.py", tmp_path)
    line = re.sub(r" --steps \d+", "", command_of(page, module)).removeprefix("pistar ")
    assert pistar(f"{line} {SHORT}", "--out", "whole")[0] == 0
    assert pistar(f"{line} {SHORT.replace('--steps 512', '--steps 256 --schedule-steps 512')}", "--out", "half")[0] == 0
    assert pistar("resume half --steps 512 --quiet")[0] == 0
    mine, theirs = (artefact.load(tmp_path / run, trust).state_dict() for run in ("half", "whole"))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    code, _, err = pistar("evaluate whole --episodes 2")
    assert code == 2
    assert f"--trust {trust}" in err
    code, out, _ = pistar(f"evaluate whole --episodes 2 --json --trust {trust}")
    assert code == 0
    assert '"mean"' in out
    source = tmp_path / f"{module}.py"
    source.write_text(source.read_text() + "\n# another version\n")
    code, _, err = pistar(f"evaluate whole --episodes 2 --trust {trust}")
    assert code == 2
    assert "another version" in err


def test_several_parts_of_ones_own_at_once(pistar, tmp_path: Path):
    for module in ("fourier", "residual", "leaky_memory", "laplace"):
        shutil.copy(ROOT / "docs" / "examples" / f"{module}.py", tmp_path)
    parts = "--mlp.encoder-module fourier:Fourier --mlp.actor-module residual:Residual --mlp.memory leaky_memory:Leaky"
    parts += " --mlp.distribution laplace:LaplaceHead"
    assert pistar(f"train pendulum {parts} {SHORT}", "--out", "run")[0] == 0
    trust = "fourier:Fourier,residual:Residual,leaky_memory:Leaky,laplace:LaplaceHead"
    assert pistar(f"evaluate run --episodes 2 --trust {trust}")[0] == 0
    code, _, err = pistar("evaluate run --episodes 2 --trust fourier:Fourier,residual:Residual,leaky_memory:Leaky")
    assert code == 2
    assert "laplace:LaplaceHead" in err


def test_the_same_from_a_shell(tmp_path: Path):
    shutil.copy(ROOT / "docs" / "examples" / "fourier.py", tmp_path)
    line = f"train cartpole --mlp.encoder-module fourier:Fourier {SHORT} --out run"
    for words in (line, "evaluate run --episodes 2 --trust fourier:Fourier", "resume run --steps 640 --quiet"):
        command = [sys.executable, "-m", "pistar", *words.split()]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

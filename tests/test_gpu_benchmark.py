"""The GPU benchmark where there is no GPU: it says why it measures nothing, and what its table is made of."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.speed import gpu

SCRIPT = Path(gpu.__file__)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_cuda_it_measures_nothing_and_says_why() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"skipped: torch {torch.__version__} finds no CUDA here")
    assert done.stdout.count("\n") == 1


def chosen(**changes: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **{"checkout": None, "python": sys.executable, "device": "cuda", "iterations": 2, **changes}
    )


def test_a_peer_that_is_not_there_is_told_with_the_reason(tmp_path: Path) -> None:
    assert "--checkout PATH" in str(gpu.missing_peer(chosen()))
    assert "holds no purejaxrl/ppo.py" in str(gpu.missing_peer(chosen(checkout=tmp_path)))
    (tmp_path / "purejaxrl").mkdir()
    (tmp_path / "purejaxrl" / "ppo.py").touch()
    (tmp_path / "jax.py").write_text("raise ImportError('no jax here')")
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    script.chmod(0o755)
    assert "no jax here" in str(gpu.missing_peer(chosen(checkout=tmp_path, python=str(script))))
    (tmp_path / "jax.py").write_text("def default_backend(): return 'cpu'")
    for name in ("flax", "distrax", "optax", "gymnax"):
        (tmp_path / f"{name}.py").touch()
    assert "computes on the cpu, expected the gpu" in str(
        gpu.missing_peer(chosen(checkout=tmp_path, python=str(script)))
    )


def test_all_entries_of_a_round_have_the_same_settings() -> None:
    jobs = [job for _, _, job in gpu.entries(chosen(checkout=SCRIPT.parent), 16, peer=True).values()]
    assert len(jobs) == 5
    for key in ("lanes", "horizon", "steps", "epochs", "minibatch", "learning_rate", "entropy_weight"):
        assert len({job[key] for job in jobs}) == 1, key
    assert jobs[0]["minibatch"] * gpu.MINIBATCHES == 16 * 128


def test_the_table_compares_within_a_round_and_says_who_fell_back() -> None:
    def found(entry: str, seed: int, seconds: float, **more: Any) -> dict[str, Any]:
        base = {"lanes": 8, "entry": entry, "seed": seed, "steps": 600, "seconds": seconds, "return": 1.0}
        return {**base, "versions": {"torch": "2"}, "fell_back": [], **more}

    runs = [found(gpu.REFERENCE, seed, 6.0 * (1 + seed)) for seed in (0, 1)]
    runs += [found("pistar, graphs", seed, 2.0 * (1 + seed), fell_back=["..."]) for seed in (0, 1)]
    runs += [found("purejaxrl", 0, 3.0, compile_seconds=1.0), {"lanes": 8, "entry": "x", "seed": 0, "error": "no"}]
    whole = {"name": "gpu", "device": "G", "python": "3", "seeds": 2, "left_out": None, "runs": runs}
    page = gpu.to_markdown(whole)
    assert "| 8 | pistar, graphs, fell back | 225 |  | 3.00 [3.00, 3.00] |" in page
    assert "| 8 | purejaxrl | 200 | 300 |" in page
    assert "| 8 | x | failed |" in page

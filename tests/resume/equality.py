"""Whether two finished runs are the same, bit for bit, but for what depends on the clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pistar import artefact, serialization
from pistar.checkpoint import KIND

CLOCKED = ("seconds", "offsets/metrics")  # of a checkpoint: time, and bytes of records in which times are written
ASIDE = ("tensorboard", "learning_curve.png")  # mirrors of the records


def assert_equal_runs(one: Path, other: Path) -> None:
    """Every file of two finished runs: checkpoints, policies, records, the experiment; and no file more."""
    found = files(one)
    assert found == files(other), f"files that only one has: {set(found) ^ set(files(other))}"
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        mine, theirs = records(one / name), records(other / name)
        for left, right in zip(mine, theirs, strict=False):
            assert left == right, f"{name}, iteration {left['iteration']}: {left} is not {right}"
        assert len(mine) == len(theirs), f"{name} has {len(mine)} and {len(theirs)} records"
    assert table(one) == table(other), "the experiments differ"
    for name in (path for path in found if path.startswith("checkpoints/")):
        assert_equal_states(one / name, other / name)
    for name in (path for path in found if path.endswith(".safetensors") and "/" not in path):
        mine, theirs = (artefact.load(path / name).state_dict() for path in (one, other))
        different = [key for key in theirs if not torch.equal(mine[key], theirs[key])]
        assert not different, f"{name}: {different} differ"
        # Equal states give equal bytes, and a policy file holds nothing that depends on the clock.
        assert (one / name).read_bytes() == (other / name).read_bytes(), f"{name}: the bytes differ"


def files(run: Path) -> list[str]:
    """Every file of a run, hidden ones too."""
    names = (path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    return sorted(name for name in names if not name.startswith(ASIDE))


def table(run: Path) -> str:
    """The whole experiment, without the provenance of the run."""
    return (run / "experiment.toml").read_text().split("[run]")[0]


def records(path: Path) -> list[dict[str, Any]]:
    """The records of a JSONL file without their times."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def assert_equal_states(one: Path, other: Path) -> None:
    """Two checkpoints: parameters, buffers, optimizer, environment, algorithm, statistics and every random stream."""
    mine, theirs = (flat(serialization.read(path, KIND)[0]) for path in (one, other))
    assert mine.keys() == theirs.keys(), f"{one.name}: only one has {mine.keys() ^ theirs.keys()}"
    assert {"torch", "learner/parameters", "learner/generator", "collector/generator", "iteration"} <= mine.keys()
    different = [name for name in theirs if name not in CLOCKED and mine[name] != theirs[name]]
    assert not different, f"{one.name}: {different} differ"


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """path -> leaf; an array or a tensor is its type, shape and bytes."""
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        found: dict[str, Any] = {f"{path}:{type(tree).__name__}": len(tree)}
        for key, child in items:
            found |= flat(child, f"{path}/{key}" if path else str(key))
        return found
    if isinstance(tree, torch.Tensor):
        return {path: ("tensor", str(tree.dtype), tuple(tree.shape), tree.numpy().tobytes())}
    if isinstance(tree, np.ndarray):
        return {path: ("array", str(tree.dtype), tree.shape, tree.tobytes())}
    return {path: tree}

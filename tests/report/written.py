"""Runs as files, without training: settings, records and evaluations as a test wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pistar import configuration
from pistar.experiment import resolve
from pistar.report import jsonl

STEPS = (1000, 2000, 3000, 4000)


def write_run(
    path: Path,
    *,
    seed: int = 0,
    means: Sequence[float] = (10.0, 20.0, 30.0, 40.0),
    final: float | None = 40.0,
    task: str = "cartpole",
    tables: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Sequence[float]] | None = None,
    baselines: Mapping[str, Any] | None = None,
    command: Sequence[str] = ("pistar", "train", "cartpole", "--out", "x y"),
) -> Path:
    """A run of 4,000 steps, evaluated after every 1,000; ``final`` None: it has not come to its end."""
    layer = configuration.layer({"training": {"seed": seed, "steps": 4000}}, tables or {})
    experiment = resolve({"kind": task}, (layer, "the test"))
    provenance = {"command": list(command), "pistar": "0.1.0", "torch": "2.13.0", "processor": "x86"}
    path.mkdir(parents=True)
    (path / "experiment.toml").write_text(configuration.to_toml({**experiment.to_table(), "run": provenance}))
    judged: list[dict[str, Any]] = [
        {"steps": steps, "mean": mean, "interval": [mean - 1, mean + 1]}
        for steps, mean in zip(STEPS, means, strict=False)
    ]
    if final is not None:
        interval = [final - 1, final + 1]
        judged.append(
            {
                "steps": 4000,
                "final": True,
                "episodes": 100,
                "mean": final,
                "interval": interval,
                "baselines": dict(baselines or {}),
            }
        )
    columns = {"return": [5.0 + n for n in range(40)], **(metrics or {})}
    length = max(len(column) for column in columns.values())
    records = [
        {
            "iteration": n + 1,
            "steps": 100 * (n + 1),
            **{name: column[n] for name, column in columns.items() if n < len(column)},
            "time": {"seconds": 0.1 * (n + 1)},
        }
        for n in range(length)
    ]
    (path / "metrics.jsonl").write_bytes(b"".join(map(jsonl.encode, records)))
    (path / "evaluations.jsonl").write_bytes(b"".join(map(jsonl.encode, judged)))
    return path

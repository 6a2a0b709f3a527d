"""What a run leaves behind, and that a resumed one leaves the same."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pistar import training
from pistar.errors import StorageError
from pistar.experiment import Experiment, find_task, resolve
from pistar.report import jsonl
from pistar.report.recorder import statistics


def experiment(task: str = "Reacher-v5", steps: int = 512) -> Experiment:
    table: dict[str, Any] = {
        "training": {
            "lanes": 2,
            "horizon": 64,
            "steps": steps,
            "warm_up": 16,
            "learning_rate": {"from": 1e-3, "to": 0.0},
        },
        "evaluation": {"episodes": 2, "every": 256, "final_episodes": 2},
        "checkpoints": {"every": 1},
        "policy": {"kind": "mlp", "hidden": [4]},
        "algorithm": {"kind": "ppo", "epochs": 1},
    }
    return resolve(find_task(task), (table, "the test"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorder") / "run"
    training.train(experiment(), path, quiet=True)
    return path


def without_time(path: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "time"} for record in jsonl.read(path)]


def mirrored(run: Path, tag: str) -> list[int]:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader  # type: ignore[import-untyped]

    events = (
        event for path in sorted((run / "tensorboard").iterdir()) for event in LegacyEventFileLoader(str(path)).Load()
    )
    return [event.step for event in events for value in event.summary.value if value.tag == tag]


def test_a_record_holds_every_metric_in_strict_json(run: Path):
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = (run / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [(record["iteration"], record["steps"]) for record in records] == [(1, 128), (2, 256), (3, 384), (4, 512)]
    statistics = {
        f"{what}/{how}" for what in ("action", "observation") for how in ("mean", "deviation", "minimum", "maximum")
    }
    update = {"entropy", "kl", "clip_fraction", "explained_variance", "gradient_norm", "learning_rate"}
    for record in records:
        assert {"return", "length", "episodes", "info/reward_dist", "info/reward_ctrl", *statistics} <= set(record)
        assert {f"update/{name}" for name in update} <= set(record)
        assert set(record["time"]) == {"seconds", "steps_per_second"}
        assert record["time"]["steps_per_second"] == pytest.approx(record["steps"] / record["time"]["seconds"])
    assert records[-1]["length"] <= 50
    assert [record["update/learning_rate"] for record in records] == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])


def test_every_evaluation_is_kept_and_the_picture_drawn(run: Path):
    evaluations = jsonl.read(run / "evaluations.jsonl")
    assert [(e["steps"], e.get("final", False)) for e in evaluations] == [(256, False), (512, False), (512, True)]
    low, high = evaluations[0]["interval"]
    assert low < evaluations[0]["mean"] < high
    assert "random" in evaluations[-1]["baselines"]
    assert (run / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_mirror_has_each_point_once(run: Path):
    assert mirrored(run, "update/kl") == [128, 256, 384, 512]
    assert mirrored(run, "info/reward_ctrl") == [128, 256, 384, 512]
    assert mirrored(run, "evaluation/mean") == [256, 512]


class Stop(Exception):
    pass


def stopped(path: Path, iteration: int) -> None:
    """A run that breaks off between the record and the checkpoint of ``iteration``."""

    def crash(progress: training.Progress) -> None:
        if progress.iteration == iteration:
            raise Stop

    with pytest.raises(Stop):
        training.train(experiment(), path, quiet=True, on_iteration=crash)


def test_a_run_that_broke_off_and_was_resumed_has_the_same_records(run: Path, tmp_path: Path):
    path = tmp_path / "run"
    stopped(path, 2)
    with (path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"iteration":3,"ste')  # torn by a power cut
    assert len(jsonl.read(path / "metrics.jsonl")) == 2  # the second is newer than the checkpoint
    training.resume(path, quiet=True)
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert without_time(path / name) == without_time(run / name)
    for tag in ("update/kl", "evaluation/mean"):
        assert mirrored(path, tag) == mirrored(run, tag)


def test_on_a_full_disk_a_run_ends_cleanly_and_can_go_on(run: Path, tmp_path: Path, full_beyond):
    path = tmp_path / "run"
    stopped(path, 3)
    size = (path / "metrics.jsonl").stat().st_size
    recorder = training.Recorder(training.RunDirectory.open(path), experiment(), quiet=True)
    before = (path / "metrics.jsonl").read_bytes()
    with full_beyond(size + 10), pytest.raises(StorageError, match=r"metrics\.jsonl") as caught, recorder:
        recorder.metrics.write({"iteration": 9, "steps": 9 * 128})
    assert caught.value.exit_code == 5
    assert (path / "metrics.jsonl").read_bytes() == before
    training.resume(path, quiet=True)
    assert without_time(path / "metrics.jsonl") == without_time(run / "metrics.jsonl")


@dataclasses.dataclass
class Part:
    observation: Any
    action: Any
    weight: Any = None


def test_statistics_are_those_of_every_leaf_that_counts():
    observation = {"image": torch.arange(24, dtype=torch.uint8).view(3, 2, 4), "empty": torch.zeros(3, 2, 0)}
    action = torch.tensor([[0, 1], [1, 1], [0, 1]])
    found = statistics(Part(observation, action))  # type: ignore[arg-type]
    assert found["observation/image/mean"] == pytest.approx(11.5)
    assert found["observation/image/deviation"] == pytest.approx(math.sqrt((24**2 - 1) / 12))
    assert (found["observation/image/minimum"], found["observation/image/maximum"]) == (0, 23)
    assert found["action/mean"] == pytest.approx(4 / 6)
    assert not any("empty" in name for name in found)
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    counted = statistics(Part(observation, action, weight))  # type: ignore[arg-type]
    assert (counted["action/mean"], counted["action/deviation"]) == (0, 0)
    assert (counted["observation/image/minimum"], counted["observation/image/maximum"]) == (0, 19)


def test_statistics_of_a_large_rollout_look_at_a_part(monkeypatch):
    monkeypatch.setattr("pistar.report.recorder.ENOUGH", 10)
    found = statistics(Part(torch.arange(40.0).view(20, 2, 1), torch.zeros(20, 2)))  # type: ignore[arg-type]
    assert found["observation/maximum"] == 31
    assert found["observation/minimum"] == 0

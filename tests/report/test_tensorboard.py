"""TensorBoard's own reader is the judge of what the mirror wrote."""

# mypy: disable-error-code="import-untyped"
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pistar.errors import StorageError
from pistar.report import tensorboard
from pistar.report.tensorboard import TensorBoardMirror


def record(iteration: int, **more: object) -> dict[str, object]:
    return {
        "iteration": iteration,
        "steps": 100 * iteration,
        "return": 1.5 * iteration,
        "length": None,
        "update/kl": 0.25,
        "info/x": float("nan"),
        "time": {"seconds": 2.0},
        **more,
    }


def events(directory: Path):
    """Every event in the order in which TensorBoard reads files, unfiltered: what third-party readers see."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    return [event for path in sorted(directory.iterdir()) for event in LegacyEventFileLoader(str(path)).Load()]


def points(directory: Path, tag: str) -> list[tuple[int, float]]:
    return [(e.step, v.simple_value) for e in events(directory) for v in e.summary.value if v.tag == tag]


def accumulated(directory: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(directory)).Reload()


def test_tensorboard_reads_every_finite_number_in_its_group(tmp_path: Path):
    mirror = TensorBoardMirror(tmp_path)
    mirror.write(record(1))
    mirror.write(record(2))
    read = accumulated(tmp_path)  # while the writer has the file open
    mirror.close()
    mirror.close()
    assert set(read.Tags()["scalars"]) == {"training/return", "update/kl", "time/seconds"}
    assert [(e.step, e.value) for e in read.Scalars("training/return")] == [(100, 1.5), (200, 3.0)]


def test_the_experiment_is_shown_as_text_and_hyperparameters(tmp_path: Path):
    mirror = TensorBoardMirror(tmp_path)
    mirror.describe('[algorithm]\nkind = "ppo"\nclip = 0.2\nnested = {to = [1, 2]}\n')
    mirror.close()
    read = accumulated(tmp_path)
    assert b'kind = "ppo"' in read.Tensors("experiment")[0].tensor_proto.string_val[0]
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    content = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert metadata.PLUGIN_NAME == "hparams"
    assert start.hparams["algorithm.clip"].number_value == 0.2
    assert json.loads(start.hparams["algorithm.nested.to"].string_value) == [1, 2]


@pytest.mark.parametrize("torn", [0, 1, 11, 40])
def test_resuming_leaves_no_point_doubled_or_lost(tmp_path: Path, torn: int):
    """For any reader; with a last event that a crash tore; resumed twice at one place, then at a later one."""
    for resumed_at, iterations in ((None, range(1, 6)), (300, range(4, 7)), (300, range(4, 9)), (700, range(8, 10))):
        mirror = TensorBoardMirror(tmp_path, resumed_at)
        for iteration in iterations:
            mirror.write(record(iteration))
        mirror.close()
        newest = max(tmp_path.iterdir())
        newest.write_bytes(newest.read_bytes()[: -torn or None])
    whole = 10 if torn == 0 else 9
    assert [step for step, _ in points(tmp_path, "update/kl")] == [100 * i for i in range(1, whole)]
    assert [e.step for e in accumulated(tmp_path).Scalars("update/kl")] == [100 * i for i in range(1, whole)]


def test_a_tensorboard_that_is_open_forgets_what_was_cut(tmp_path: Path):
    mirror = TensorBoardMirror(tmp_path)
    for iteration in range(1, 6):
        mirror.write(record(iteration))
    read = accumulated(tmp_path)
    mirror.close()
    mirror = TensorBoardMirror(tmp_path, 300)
    mirror.write(record(4, **{"update/kl": 0.5}))
    mirror.close()
    assert [(e.step, e.value) for e in read.Reload().Scalars("update/kl")] == [
        (100, 0.25),
        (200, 0.25),
        (300, 0.25),
        (400, 0.5),
    ]


def test_files_sort_in_the_order_they_were_written_whatever_the_clock_says(tmp_path: Path, monkeypatch):
    names = []
    for now in (2_000_000_000.0, 2_000_000_000.0, 1_000_000_000.0):
        monkeypatch.setattr(tensorboard.time, "time", lambda now=now: now)
        before = set(tmp_path.iterdir())
        TensorBoardMirror(tmp_path).close()
        names += [path.name for path in set(tmp_path.iterdir()) - before]
    assert names == sorted(names)
    assert len(set(names)) == 3


def test_a_full_disk_is_an_error_and_leaves_whole_events(tmp_path: Path, full_beyond):
    mirror = TensorBoardMirror(tmp_path)
    mirror.write(record(1))
    (path,) = tmp_path.iterdir()
    with full_beyond(path.stat().st_size + 20), pytest.raises(StorageError, match="tfevents"):
        mirror.write(record(2))
    mirror.write(record(3))
    mirror.close()
    assert [step for step, _ in points(tmp_path, "update/kl")] == [100, 300]


def test_tensorflow_is_never_imported(tmp_path: Path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise RuntimeError('tensorflow was imported')")
    code = (
        "import sys; from pistar.report.tensorboard import TensorBoardMirror as M; "
        "m = M('mirror'); m.describe('a = 1'); m.write({'steps': 1, 'x': 1.0}); m.close(); "
        "assert not {'tensorflow', 'torch'} & set(sys.modules)"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(tensorboard.__file__).parents[2]}"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)

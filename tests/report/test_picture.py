"""Pictures: whole, the same every time, and showing what they are given."""

import math
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from pistar.errors import StorageError
from pistar.report import picture
from pistar.report.picture import learning_curve

RECORDS = [
    {"iteration": i, "steps": 100 * i, "return": None if i < 3 else 10.0 - 30 / i, "update/kl": 0.01 / i}
    for i in range(1, 40)
]
EVALUATIONS = [{"steps": 100 * i, "mean": 10 - 30 / i, "interval": [9 - 30 / i, 11 - 30 / i]} for i in range(5, 40, 5)]


def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: object, **options: object) -> Figure:
    """The figure just before it is saved."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])
    learning_curve(*arguments, tmp_path / "curve.png", title="title", **options)  # type: ignore[arg-type]
    return figures[0]


def words(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [text.get_text() for text in (*axes.texts, *(legend.get_texts() if legend else ()))]


def levels(axes: Axes) -> set[float]:
    """Where horizontal lines are."""
    return {float(line.get_ydata()[0]) for line in axes.lines if list(line.get_xdata()) == [0, 1]}  # type: ignore[index,arg-type]


def test_a_run_is_drawn_with_title_axes_evaluations_and_every_reference(tmp_path, monkeypatch):
    figure = drawn(monkeypatch, tmp_path, RECORDS, EVALUATIONS, {"random": -5.0, "expert": 9.5}, threshold=9.0)
    main, kl = figure.axes
    assert [text.get_text() for text in figure.texts] == ["title"]
    assert "steps" in main.get_xlabel()
    assert "return" in main.get_ylabel()
    assert levels(main) == {-5.0, 9.5, 9.0}
    assert {"random  −5", "expert  9.5", "threshold  9", "training", "evaluation, mean and 95 % interval"} <= {
        *words(main)
    }
    lines = [np.asarray(line.get_ydata(), dtype=float) for line in main.lines]
    means = [each["mean"] for each in EVALUATIONS]
    assert any(len(line) == len(means) and np.allclose(line, means) for line in lines)
    (band,) = main.collections
    edges = band.get_paths()[0].vertices
    for each in EVALUATIONS:
        heights = sorted({round(float(y), 9) for x, y in edges if x == each["steps"]})
        assert heights == pytest.approx(each["interval"])
    assert "KL" in kl.get_title("left")


def test_of_two_evaluations_at_the_same_steps_the_later_counts(tmp_path, monkeypatch):
    twice = [*EVALUATIONS, {**EVALUATIONS[-1], "mean": 10.5, "final": True}]
    figure = drawn(monkeypatch, tmp_path, RECORDS, twice, {})
    (line,) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert len(line.get_xdata()) == len(EVALUATIONS)  # type: ignore[arg-type]
    assert line.get_ydata()[-1] == 10.5  # type: ignore[index]


def test_a_picture_is_the_same_bytes_every_time_and_has_the_stated_size(tmp_path):
    paths = [tmp_path / "a" / "one.png", tmp_path / "two.png"]
    for path in paths:
        assert learning_curve(RECORDS, EVALUATIONS, {"random": -5.0}, path, title="t") == path
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(paths[0]) as image:
        assert image.size == (1600, 900)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "two.png"]


@pytest.mark.parametrize(
    ("records", "evaluations", "baselines"),
    [
        ([], [], {}),
        ([], [], {"random": 1.0}),
        ([], EVALUATIONS[:1], {}),
        ([{"iteration": 1, "steps": 10, "return": 3.0}], [], {"random": 3.0}),
        ([{"iteration": i, "steps": 10 * i, "return": 0.0} for i in range(5)], [], {}),
        ([{"iteration": i, "steps": i, "return": math.nan, "update/kl": None} for i in range(5)], [], {"r": math.inf}),
        ([{"iteration": i, "steps": i, "return": -1e150 if i % 2 else 1e150} for i in range(9)], [], {}),
        (RECORDS, [{"steps": 100, "mean": None, "interval": None}, {"steps": 200, "mean": 1.0}], {"r": -1e9}),
        ([RECORDS, RECORDS[:10]], EVALUATIONS, {f"baseline {i}": 9.0 for i in range(20)}),
    ],
)
def test_odd_runs_are_drawn_too(tmp_path, recwarn, records, evaluations, baselines):
    learning_curve(records, evaluations, baselines, tmp_path / "curve.png", title="")
    assert (tmp_path / "curve.png").stat().st_size > 1000
    assert [str(warning.message) for warning in recwarn] == []


def test_labels_of_lines_close_together_do_not_overlap(tmp_path, monkeypatch):
    figure = drawn(monkeypatch, tmp_path, RECORDS, [], {f"b{i}": 9.0 + i / 1000 for i in range(6)})
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts if text.get_text().startswith("b")]
    assert len(boxes) == 6
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(box.x1 <= 1600 for box in boxes)


def test_outliers_are_cut_off_and_said(tmp_path, monkeypatch):
    wild = [{**record, "return": -1e6} if record["iteration"] == 20 else record for record in RECORDS]
    main = drawn(monkeypatch, tmp_path, wild, [], {}).axes[0]
    assert main.get_ylim()[0] > -100
    assert any("beyond, as far as −1M" in text for text in words(main))


def test_a_full_disk_keeps_the_older_picture(tmp_path, full_beyond):
    path = tmp_path / "curve.png"
    path.write_bytes(b"older")
    with full_beyond(1000), pytest.raises(StorageError, match=r"cannot write .*curve\.png"):
        learning_curve(RECORDS, [], {}, path, title="t")
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_no_display_is_needed_and_a_users_own_matplotlib_is_left_alone(tmp_path):
    code = (
        "import sys, matplotlib; matplotlib.rcParams['font.size'] = 7; "
        "from pistar.report.picture import learning_curve as draw; "
        "draw([{'iteration': 1, 'steps': 1, 'return': 1.0}], [], {}, 'p.png', title='t'); "
        "assert matplotlib.rcParams['font.size'] == 7; "
        "assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
    )
    environment = {"PYTHONPATH": str(Path(picture.__file__).parents[2]), "HOME": os.environ.get("HOME", str(tmp_path))}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)

"""Videos hold the frames they were given, at the speed that was asked."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pistar.errors import StorageError, UsageError
from pistar.report.video import caption, write_video


def scene(count: int, height: int = 48, width: int = 64) -> Iterator[np.ndarray]:
    """A red square that moves over a grey ground."""
    for index in range(count):
        frame = np.full((height, width, 3), 200, dtype=np.uint8)
        frame[10:26, 2 * index : 2 * index + 16] = (220, 30, 30)
        yield frame


def error(decoded: list[np.ndarray], count: int) -> float:
    expected = np.stack(list(scene(count)))
    return float(np.abs(np.stack(decoded).astype(int) - expected).mean())


def animation(path: Path) -> tuple[list[np.ndarray], int]:
    """Frames and the whole duration in milliseconds."""
    with Image.open(path) as image:
        frames, total = [], 0
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGB")))
            total += int(image.info["duration"])
    return frames, total


def test_an_mp4_plays_back_the_frames(tmp_path: Path):
    av = pytest.importorskip("av")
    path = write_video(scene(20), tmp_path / "new" / "video.mp4", fps=25)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 25
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 20
    assert error(decoded, 20) < 6
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # a page can play it while it loads


def test_odd_sides_are_padded_for_mp4(tmp_path: Path):
    av = pytest.importorskip("av")
    with av.open(str(write_video(scene(3, 47, 63), tmp_path / "video.mp4"))) as container:
        assert (container.streams.video[0].height, container.streams.video[0].width) == (48, 64)


def test_a_gif_plays_back_the_frames(tmp_path: Path):
    frames, total = animation(write_video(scene(10), tmp_path / "video.gif", fps=30))
    assert len(frames) == 10
    assert error(frames, 10) < 2
    assert total == 330  # 10 / 30 s in hundredths


def test_frames_too_fast_for_a_gif_are_left_out_and_its_length_kept(tmp_path: Path):
    frames, total = animation(write_video(scene(20), tmp_path / "video.gif", fps=100))
    assert len(frames) == 10
    assert total == 200


def test_a_webp_plays_back_the_frames(tmp_path: Path):
    frames, _ = animation(write_video(scene(8), tmp_path / "video.webp", fps=20))
    assert len(frames) == 8
    assert error(frames, 8) < 6


def test_without_av_an_mp4_becomes_a_gif(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.warns(RuntimeWarning, match="video.gif instead"):
        path = write_video(scene(3), tmp_path / "video.mp4")
    assert path == tmp_path / "video.gif"
    assert len(animation(path)[0]) == 3


@pytest.mark.parametrize(
    ("frames", "name", "fps", "message"),
    [
        ([], "a.gif", 30, "no frames"),
        (scene(2), "a.avi", 30, "no video format"),
        (scene(2), "a.gif", 0, "positive number of frames"),
        (scene(2), "a.gif", float("inf"), "positive number of frames"),
        ([None], "a.gif", 30, "frame 0 is None"),
        ([np.zeros((4, 4, 3))], "a.gif", 30, "float64"),
        ([*scene(1), *scene(1, 50)], "a.gif", 30, "sizes must agree"),
    ],
)
def test_what_is_no_video_is_refused_and_leaves_nothing(tmp_path: Path, frames, name, fps, message):
    with pytest.raises(UsageError, match=message):
        write_video(frames, tmp_path / name, fps)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["mp4", "gif", "webp"])
def test_a_full_disk_keeps_the_older_video(tmp_path: Path, full_beyond, kind):
    if kind == "mp4":
        pytest.importorskip("av")
    path = tmp_path / f"video.{kind}"
    path.write_bytes(b"older")
    with full_beyond(300), pytest.raises(StorageError, match="cannot write"):
        write_video(scene(20), path)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_caption_fits_into_any_frame_and_leaves_the_original_alone():
    for height, width in ((480, 640), (40, 30)):
        frame = np.full((height, width, 3), 255, dtype=np.uint8)
        marked = caption(frame, ["step 12   return −3.4", "x"])
        assert marked.shape == frame.shape
        assert (frame == 255).all()
        assert (marked != frame).any()
        assert (marked[-1, -1] == 255).all()
    assert (caption(frame, []) == frame).all()

"""Frames to a video file: H.264 in .mp4 through PyAV, animated .gif and .webp through Pillow.

An .mp4 is encoded as the frames come, so that an hour of them needs no more memory than a second. The other two are for
pages that show no video; Pillow keeps what changed between frames in memory.

It leaves out sound, and reading videos back.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pistar.errors import UsageError
from pistar.report.replacing import replacing

GIF_FASTEST = 50  # frames a second; browsers slow faster ones down to ten


def write_video(frames: Iterable[np.ndarray], path: str | Path, fps: float = 30) -> Path:
    """Write ``frames``, each [height, width, 3] uint8 RGB, to ``path`` and return where the video is.

    The extension decides the format. Without PyAV an .mp4 becomes a .gif of the same name, with a warning. The file
    appears only when it is complete. Raises UsageError for another extension, no frames, or a frame of another shape.
    """
    path = Path(path)
    writers: dict[str, Callable[[Iterator[np.ndarray], Path, float], None]] = {
        ".mp4": _write_mp4,
        ".gif": _write_gif,
        ".webp": _write_webp,
    }
    if path.suffix.lower() not in writers:
        raise UsageError(f"no video format for {path.name!r}: expected a name that ends in {', '.join(writers)}")
    if not (fps > 0 and math.isfinite(fps)):
        raise UsageError(f"a video needs a positive number of frames a second, not {fps}")
    if path.suffix.lower() == ".mp4" and not _has_av():
        actual = path.with_suffix(".gif")
        warnings.warn(
            f'an .mp4 needs av, which is not installed: pip install "pistar[video]"; writing {actual.name} instead',
            RuntimeWarning,
            stacklevel=2,
        )
        path = actual
    stream = _checked(frames)
    first = next(stream, None)
    if first is None:
        raise UsageError(f"no frames for {path}: can this environment be drawn?")
    with replacing(path) as partial:
        writers[path.suffix.lower()](chain([first], stream), partial, fps)
    return path


def caption(frame: np.ndarray, lines: list[str]) -> np.ndarray:
    """A copy of ``frame`` [height, width, 3] with small white text on a dark ground in its upper left corner.

    The text is about a twentieth of the frame's height and shrinks where a line would not fit the width.
    """
    if not lines:
        return frame.copy()
    image = Image.fromarray(frame)
    height, width = frame.shape[:2]
    text = "\n".join(lines).replace("−", "–")  # the minus sign is the one that Pillow's font lacks
    size = max(11.0, height / 22)
    draw = ImageDraw.Draw(image, "RGBA")
    font, box = _measured(draw, text, size)
    margin = size / 2
    available = max(width - 4 * margin, 1.0)
    if box[2] > available:
        font, box = _measured(draw, text, max(6.0, size * available / box[2]))
    draw.rectangle((0, 0, box[2] + 2 * margin, box[3] + 2 * margin), fill=(15, 23, 42, 170))
    draw.multiline_text((margin, margin), text, font=font, fill=(255, 255, 255, 255), spacing=size / 4)
    return np.asarray(image)


def _measured(draw: ImageDraw.ImageDraw, text: str, size: float) -> tuple[Any, tuple[float, float, float, float]]:
    font = ImageFont.load_default(size=size)
    return font, draw.multiline_textbbox((0, 0), text, font=font, spacing=size / 4)


def _has_av() -> bool:
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    shape: tuple[int, ...] | None = None
    for number, frame in enumerate(frames):
        if frame is None or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
            found = "None" if frame is None else f"{list(frame.shape)} {frame.dtype}"
            raise UsageError(f"frame {number} is {found}: expected [height, width, 3] uint8")
        shape = shape or frame.shape
        if frame.shape != shape:
            raise UsageError(
                f"frame {number} is {list(frame.shape)}, but the first was {list(shape)}: sizes must agree"
            )
        yield frame


def _write_mp4(frames: Iterator[np.ndarray], path: Path, fps: float) -> None:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    # faststart moves the index to the front, so that a page plays the video before it has loaded all of it.
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: Any = None
        for pixels in frames:
            even = _even(pixels)
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                stream.height, stream.width = even.shape[:2]
                stream.pix_fmt = "yuv420p"  # the one layout that every player decodes
                stream.options = {"crf": "20", "preset": "medium"}
                stream.codec_context.colorspace = Colorspace.ITU709
                stream.codec_context.color_range = ColorRange.MPEG
                stream.codec_context.color_primaries = stream.codec_context.color_trc = 1  # ITU-R BT.709 too
            frame = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _even(frame: np.ndarray) -> np.ndarray:
    """The frame with its last row or column repeated where a side is odd, which 4:2:0 subsampling cannot hold."""
    height, width = frame.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return np.ascontiguousarray(frame)
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _write_gif(frames: Iterator[np.ndarray], path: Path, fps: float) -> None:
    stride = math.ceil(fps / GIF_FASTEST)
    images = [
        Image.fromarray(frame).quantize(colors=256, dither=Image.Dither.NONE)
        for number, frame in enumerate(frames)
        if number % stride == 0
    ]
    durations = [10 * each for each in _durations(len(images), 100 * stride / fps)]  # a GIF counts in 1/100 s
    images[0].save(path, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, disposal=1)


def _write_webp(frames: Iterator[np.ndarray], path: Path, fps: float) -> None:
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(
        path,
        format="WEBP",
        save_all=True,
        append_images=images[1:],
        duration=_durations(len(images), 1000 / fps),
        loop=0,
        quality=80,
    )


def _durations(count: int, exact: float) -> list[int]:
    """Whole durations whose running sum never strays from ``exact`` a frame by more than half a unit."""
    ends = [round(index * exact) for index in range(count + 1)]
    return [end - start for start, end in pairwise(ends)]

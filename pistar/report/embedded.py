"""Films and pictures of a run as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}
LARGEST = 16_000_000  # bytes of one file; a page that a browser opens at once holds no more
MOST = 48_000_000  # bytes of all
DRAWN_ANEW = ("learning_curve.png",)  # what the page shows by itself


@dataclass(frozen=True)
class Medium:
    """One film or picture; ``uri`` is empty where the file is too large to be put into a page."""

    path: Path
    uri: str
    film: bool
    poster: str = ""  # a still picture of a film, for paper


def media(directories: list[Path]) -> list[Medium]:
    """All films and pictures that lie in run directories themselves, in order."""
    found, total = [], 0
    for directory in directories:
        for path in sorted(directory.iterdir()):
            if path.suffix.lower() not in TYPES or path.name in DRAWN_ANEW or path.name.startswith("."):
                continue
            size, film = path.stat().st_size, TYPES[path.suffix.lower()].startswith("video/")
            if size > LARGEST or total + size > MOST:
                found.append(Medium(path, "", film))
                continue
            total += size
            found.append(
                Medium(
                    path, data_uri(path.read_bytes(), TYPES[path.suffix.lower()]), film, poster(path) if film else ""
                )
            )
    return found


def data_uri(content: bytes, kind: str) -> str:
    """``content`` as an address that contains it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def poster(path: Path) -> str:
    """The first frame of a film as a JPEG, or nothing where no decoder is installed or the film cannot be read."""
    try:
        import av
    except ImportError:
        return ""
    try:
        with av.open(str(path)) as container:
            image: Any = next(container.decode(video=0)).to_image()  # type: ignore[no-untyped-call]
    except (OSError, ValueError, StopIteration, IndexError):  # av's own errors are of these kinds
        return ""
    buffer = BytesIO()
    image.save(buffer, format="JPEG", quality=80)
    return data_uri(buffer.getvalue(), "image/jpeg")

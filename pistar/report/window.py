"""Frames in a window as they are made: what ``pistar watch`` shows where there is a screen.

Needs pygame. The frames of an environment are scaled to the window, their proportions kept. Space pauses; Escape, Q and
the window's own button close it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from pistar.errors import MissingExtra, UsageError


def has_display() -> bool:
    """Whether a window would be seen: a desktop session, and SDL not told to draw into nothing."""
    if os.environ.get("SDL_VIDEODRIVER", "").lower() in ("dummy", "offscreen"):
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show(frames: Iterable[np.ndarray], fps: float = 30, *, title: str = "pistar") -> bool:
    """Show ``frames``, each [height, width, 3] uint8, at ``fps`` at most; False where the viewer closed the window.

    A frame is asked for only when it is due, so that an endless stream may be given. Raises MissingExtra without pygame
    and UsageError where no window can be opened.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError:
        raise MissingExtra("pygame", "classic", "watching in a window") from None
    if not fps > 0:
        raise UsageError(f"a window needs a positive number of frames a second, not {fps}")
    screen, clock = None, pygame.time.Clock()
    try:
        for frame in frames:
            if screen is None:
                screen = _open(pygame, frame, title)
            _draw(pygame, screen, frame)
            if not _listen(pygame, screen, frame):
                return False
            clock.tick(fps)
        return True
    finally:
        pygame.display.quit()


def _open(pygame: Any, frame: np.ndarray, title: str) -> Any:
    height, width = frame.shape[:2]
    enlarge = max(1, 480 // max(height, width))  # pixel worlds are shown at a size that can be seen
    try:
        pygame.display.init()
        screen = pygame.display.set_mode((width * enlarge, height * enlarge), pygame.RESIZABLE)
    except pygame.error as error:
        raise UsageError(f"no window can be opened ({error}); record a video instead") from None
    pygame.display.set_caption(title)
    return screen


def _draw(pygame: Any, screen: Any, frame: np.ndarray) -> None:
    """Fill the window with the frame, centred, its proportions kept."""
    height, width = frame.shape[:2]
    across, down = screen.get_size()
    factor = min(across / width, down / height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    picture = pygame.image.frombuffer(np.ascontiguousarray(frame).tobytes(), (width, height), "RGB")
    if size != (width, height):
        whole = factor == int(factor)  # whole factors keep pixels crisp, others look better smoothed
        picture = (pygame.transform.scale if whole else pygame.transform.smoothscale)(picture, size)
    screen.fill((0, 0, 0))
    screen.blit(picture, ((across - size[0]) // 2, (down - size[1]) // 2))
    pygame.display.flip()


def _listen(pygame: Any, screen: Any, frame: np.ndarray) -> bool:
    """Handle what the viewer did, waiting while paused; False to close."""
    paused = False
    while True:
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                return False
            if event.type == pygame.KEYDOWN:
                if event.key in (pygame.K_ESCAPE, pygame.K_q):
                    return False
                paused ^= event.key == pygame.K_SPACE
            if event.type == pygame.VIDEORESIZE:
                _draw(pygame, screen, frame)
        if not paused:
            return True
        pygame.time.wait(30)

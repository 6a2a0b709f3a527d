"""The window, drawn into SDL's dummy screen."""

import sys
from collections.abc import Iterator

import numpy as np
import pytest

from pistar.errors import MissingExtra, UsageError
from pistar.report import window

FRAME = np.full((40, 60, 3), (10, 200, 30), dtype=np.uint8)


@pytest.fixture
def pygame(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    return pytest.importorskip("pygame")


def test_frames_are_shown_enlarged_in_their_proportions(pygame):
    seen = []

    def frames() -> Iterator[np.ndarray]:
        yield FRAME
        screen = pygame.display.get_surface()
        seen.append((screen.get_size(), tuple(screen.get_at((240, 160)))[:3]))
        yield FRAME

    assert window.show(frames(), fps=1000)
    assert seen == [((480, 320), (10, 200, 30))]


def test_closing_stops_asking_for_frames(pygame):
    asked = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal asked
        while True:
            asked += 1
            if asked == 3:
                pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE))
            yield FRAME

    assert not window.show(endless(), fps=1000)
    assert asked == 3


def test_a_pause_lasts_until_space_is_pressed_again(pygame, monkeypatch):
    waits = []

    def wait(milliseconds: int) -> None:
        waits.append(milliseconds)
        if len(waits) == 3:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_SPACE))

    monkeypatch.setattr(pygame.time, "wait", wait)

    def frames() -> Iterator[np.ndarray]:
        yield FRAME
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_SPACE))
        yield FRAME

    assert window.show(frames(), fps=1000)
    assert len(waits) == 3


def test_no_screen_no_pygame_and_no_speed_are_said(pygame, monkeypatch):
    with pytest.raises(UsageError, match="positive number of frames"):
        window.show([FRAME], fps=0)
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    with pytest.raises(UsageError, match="record a video instead"):
        window.show([FRAME])
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(MissingExtra, match="pygame"):
        window.show([FRAME])


def test_a_display_is_known_from_the_session(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not window.has_display()
    monkeypatch.setenv("DISPLAY", ":0")
    assert window.has_display()
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert not window.has_display()

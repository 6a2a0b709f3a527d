"""What `cuda` asks of torch, and in which order, on a device that only notes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from pistar.graphs import capture
from pistar.graphs.capture import WARM_UPS, NotStill


class Device:
    """Stands in for ``torch.cuda``: one stream is current, one graph records what is called while it captures."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses, self.mode, self.capturing = refuses, 0, False
        self.stream, self.said = "default", list[str]()

    @contextlib.contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        before, self.stream = self.stream, stream.name
        yield
        self.stream = before

    @contextlib.contextmanager
    def graph(self, graph: Any) -> Iterator[None]:
        self.stream, self.capturing = "capture", True
        yield
        self.capturing = False
        if self.refuses:  # as torch does where the end of a capture fails: the stream stays
            raise RuntimeError("operation failed due to a previous error during capture")
        self.stream = "default"

    def install(self, patch: pytest.MonkeyPatch) -> None:
        device = self

        class Stream:
            def __init__(self, name: str = "side") -> None:
                self.name = name

            def wait_stream(self, other: Stream) -> None:
                device.said.append(f"{self.name} waits for {other.name}")

        class Graph:
            def replay(self) -> None:
                device.said.append("replay")

        def set_mode(mode: Any) -> None:
            device.mode = mode

        for name, value in {
            "Stream": Stream,
            "CUDAGraph": Graph,
            "graph": self.graph,
            "stream": self.on,
            "current_stream": lambda: Stream(device.stream),
            "set_stream": lambda stream: setattr(device, "stream", stream.name),
            "get_sync_debug_mode": lambda: device.mode,
            "set_sync_debug_mode": set_mode,
        }.items():
            patch.setattr(torch.cuda, name, value)


def test_a_function_is_watched_and_warmed_up_on_a_side_stream_before_it_is_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device, calls = Device(), list[tuple[str, Any, bool]]()
    device.install(monkeypatch)
    replay = capture.cuda(lambda: calls.append((device.stream, device.mode, device.capturing)))
    assert calls == [("side", 0, False), *[("side", "error", False)] * WARM_UPS, ("capture", 0, True)]
    assert device.said == ["side waits for default", "default waits for side"]
    assert (device.stream, device.mode) == ("default", 0)
    replay()
    assert device.said[-1] == "replay"
    assert len(calls) == 2 + WARM_UPS


def test_what_waits_for_the_device_is_never_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    device, seen = Device(), list[bool]()
    device.install(monkeypatch)

    def reads() -> None:
        seen.append(device.capturing)
        float(torch.ones(2).sum())

    with pytest.raises(NotStill, match="_local_scalar_dense"):
        capture.cuda(reads)
    assert seen == [False]


def test_a_capture_that_fails_leaves_the_stream_and_the_watch_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(refuses=True)
    device.install(monkeypatch)
    with pytest.raises(RuntimeError, match="previous error"):
        capture.cuda(lambda: None)
    assert (device.stream, device.mode) == ("default", 0)

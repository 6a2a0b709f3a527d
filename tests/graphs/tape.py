"""A stand-in for CUDA graphs on a CPU: the operations of one call, written down and repeated over the same memory.

As with a graph, only what was launched is repeated: Python does not run again, so that a number which was read from Python is
baked in, and a tensor that came from outside is the one that was seen while capturing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pistar.envs.environment import Environment
from pistar.graphs.capture import WARM_UPS, Still, tensors
from pistar.kernels.library import switched

__all__ = ["Tape", "again", "capture", "never", "still_world", "switched"]

Call = tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]


class Tape(TorchDispatchMode):
    """Writes down what runs; ``replay`` runs it again."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.namespace != "profiler":
            given = {each.untyped_storage().data_ptr() for each in tensors((*args, *(kwargs or {}).values()))}
            made = [
                x for x in outputs(out) if x.untyped_storage().data_ptr() not in given
            ]  # no views, nothing in place
            self.calls.append((func, args, kwargs or {}, made))
        return out

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, made in self.calls:
                again = outputs(func(*args, **kwargs))
                if made:
                    for old, new in zip(made, again, strict=True):
                        old.copy_(new)


def outputs(out: Any) -> list[Tensor]:
    return list(tensors(tuple(out) if isinstance(out, list | tuple) else (out,)))


def capture(function: Callable[[], None]) -> Callable[[], None]:
    """As `pistar.graphs.capture.cuda` goes about it: a look for what makes the host wait, warm-up, capture."""
    with Still():
        function()
    for _ in range(WARM_UPS):
        function()
    tape = Tape()
    with tape:
        function()
    return tape.replay


def again(function: Callable[[], None]) -> Callable[[], None]:
    """The function itself."""
    function()
    return function


def never(function: Callable[[], None]) -> Callable[[], None]:
    """A device that refuses, once the function has run."""
    function()
    raise RuntimeError("operation not permitted when stream is capturing")


def still_world(world: Environment) -> Environment:
    """The world as it is on a GPU: it does not look at its data."""
    world.looks = False  # type: ignore[attr-defined]
    return world

"""Capturing a function as a CUDA graph; and looking, before that, for what a graph cannot hold."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pistar.tree import leaves

log = logging.getLogger("pistar")
Function = Callable[[], None]
Capture = Callable[[Function], Function]  # calls a function some times, and returns what repeats it
WARM_UPS = 3  # calls before a capture, in which libraries make ready what they must not make while capturing

aten = torch.ops.aten
READING = {aten._local_scalar_dense, aten.is_nonzero, aten.equal, aten.nonzero, aten.masked_select, aten.lift_fresh}
PICKING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
COPYING = {aten.copy_, aten._to_copy}


class NotStill(RuntimeError):
    """A step waits for the device, or its shapes depend on data."""


class Still(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises NotStill where an operation makes the host wait, or gives shapes that depend on data.

    That is: a number read from a tensor, a tensor made of Python's numbers, a copy between devices, a selection by bools.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look, then let it run."""
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet in PICKING:
            waits = any(each.dtype in (torch.bool, torch.uint8) for each in args[1] if each is not None)
        else:
            waits = packet in READING or bool(
                {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags)
            )
        if packet in COPYING:
            to = kwargs.get("device") or args[0].device  # "cuda" and "cuda:0" are one
            places = {each.device.type for each in tensors(args)} | {torch.device(to).type}
            waits = len(places) > 1
        if waits:
            raise NotStill(f"{packet} makes the host wait for the device")
        return func(*args, **kwargs)


def tensors(values: Any) -> Iterator[Tensor]:
    """The tensors among an operation's arguments."""
    return (leaf for _, leaf in leaves(tuple(values)) if isinstance(leaf, Tensor))


def cuda(function: Function) -> Function:
    """What ``function`` launches as a CUDA graph; the result launches it again, over the same memory.

    A capture that fails can leave torch's default generator unusable, so that everything that is known to fail is looked for
    before: first by `Still`, then by torch's own watch for synchronisation. Raises NotStill, or torch's RuntimeError.
    """
    side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    before = torch.cuda.get_sync_debug_mode()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        with Still():  # type: ignore[no-untyped-call]
            function()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(WARM_UPS):
                function()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    torch.cuda.current_stream().wait_stream(side)
    graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            function()
    except BaseException:
        torch.cuda.set_stream(current)  # which a capture that fails at its end leaves changed
        raise
    replay: Function = graph.replay
    return replay

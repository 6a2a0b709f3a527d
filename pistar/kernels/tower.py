"""A tower of dense layers as one differentiable function: forward and analytic backward are one kernel call each.

Gradients of gradients, forward-mode derivatives and traced code take torch's own layers (`in_plain_torch`).
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pistar.kernels.library import library

ACTIVATIONS: dict[type[nn.Module], int] = {nn.Tanh: 0, nn.ReLU: 1, nn.ELU: 2, nn.Identity: 0}


class NativeTower:
    """The kernels' side of a tower: packed weights and one block's vectors; no parameters of its own."""

    def __init__(self, native: ctypes.CDLL, sizes: Sequence[int], activation: int) -> None:
        self.native, self.inputs, self.outputs = native, sizes[0], sizes[-1]
        self.handle = native.tower_new(activation, len(sizes) - 1, (ctypes.c_int * len(sizes))(*sizes))
        if not self.handle:
            raise MemoryError("no memory for the tower's packed weights")
        weakref.finalize(self, native.tower_free, self.handle)

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copied tower makes its own."""

    def forward(self, parameters: Tensor, x: Tensor) -> Tensor:
        """[N, inputs] -> [N, outputs]."""
        y = x.new_empty((x.shape[0], self.outputs))
        self.native.tower_forward(self.handle, parameters.data_ptr(), x.shape[0], x.data_ptr(), y.data_ptr())
        return y

    def backward(self, parameters: Tensor, x: Tensor, dy: Tensor, wants_input: bool) -> tuple[Tensor, Tensor | None]:
        """Gradients of the flat parameters and of x [N, inputs]."""
        gradient, dx = torch.empty_like(parameters), torch.empty_like(x) if wants_input else None
        self.native.tower_backward(
            self.handle,
            parameters.data_ptr(),
            x.shape[0],
            x.data_ptr(),
            dy.data_ptr(),
            gradient.data_ptr(),
            None if dx is None else dx.data_ptr(),
        )
        return gradient, dx


def make(sizes: Sequence[int], activation: nn.Module) -> NativeTower | None:
    """The kernels' side of a tower, or None where torch must do the work."""
    if type(activation) not in ACTIVATIONS:
        return None
    native = library()
    return None if native is None else NativeTower(native, sizes, ACTIVATIONS[type(activation)])


def takes(parameters: Sequence[Tensor], x: Tensor) -> bool:
    """Whether the kernels can be given these numbers, here and now."""
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and parameters[0].dtype == torch.float32
        and parameters[0].device.type == "cpu"
        and not in_plain_torch()
    )


def in_plain_torch() -> bool:
    """Whether torch is tracing, transforming or differentiating forwards."""
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._functorch.maybe_current_level() is not None
    )


def flat(parameters: Sequence[Tensor]) -> Tensor:
    """One vector of all parameters: themselves, where they lie one after another as a learner lays them."""
    place = parameters[0].data_ptr()
    for parameter in parameters:
        if parameter.data_ptr() != place or not parameter.is_contiguous():
            return torch.cat([each.detach().flatten() for each in parameters])
        place += 4 * parameter.numel()
    size = (place - parameters[0].data_ptr()) // 4
    return parameters[0].detach().as_strided((size,), (1,))


class Dense(torch.autograd.Function):
    """layers(x) by the kernels; the layers themselves where a graph of the backward pass is wanted."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layers: nn.Sequential, native: NativeTower, *parameters: Tensor) -> Tensor:
        """[N, inputs] -> [N, outputs]."""
        ctx.layers, ctx.native = layers, native
        ctx.save_for_backward(x, *parameters)
        return native.forward(flat(parameters), x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """With respect to x and every parameter."""
        (dy,) = gradients
        x, *parameters = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: what follows must be differentiable itself
            wanted = [each for each in (x, *parameters) if each.requires_grad]
            found = iter(torch.autograd.grad(ctx.layers(x), wanted, dy, create_graph=True))
            dx, *rest = [next(found) if each.requires_grad else None for each in (x, *parameters)]
            return dx, None, None, *rest
        gradient, dx = ctx.native.backward(flat(parameters), x, dy.contiguous(), ctx.needs_input_grad[0])
        shares = gradient.split([parameter.numel() for parameter in parameters])
        return dx, None, None, *(share.view_as(each) for share, each in zip(shares, parameters, strict=True))

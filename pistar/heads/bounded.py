"""Numbers that stay within bounds without ever getting stuck at one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LOWEST_LOG_STD, HIGHEST_LOG_STD = -5.0, 2.0  # within which log σ is kept


def bounded(x: Tensor, low: float, high: float) -> Tensor:
    """X within [low, high], and as it is inside, bit for bit: [...]; what is outside still learns to come back."""
    result: Tensor = _Bounded.apply(x, low, high)  # type: ignore[no-untyped-call]
    return result


class _Bounded(torch.autograd.Function):
    """Clamp whose gradient is withheld only from values outside that descent would push further out.

    Inside the bounds it is the identity, bit for bit. A plain clamp gives no gradient outside either way, and a σ that
    once overshot would stay at its bound for good; this one comes back as soon as the loss asks for it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.low, ctx.high = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        (x,) = ctx.saved_tensors
        outward = ((x < ctx.low) & (gradient > 0)) | ((x > ctx.high) & (gradient < 0))
        return gradient.masked_fill(outward, 0.0), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        """Forwards it is the identity everywhere, as it is backwards for a value that comes back."""
        return tangents[0].clone()

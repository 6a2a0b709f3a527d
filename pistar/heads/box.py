"""Between the policy's coordinates, [−1, 1] per dimension, and those of a ``Box`` space."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from pistar.errors import UsageError
from pistar.heads.head import torch_dtype

NO_BOUND = float(np.finfo(np.float32).max)  # environments write the largest float32 where they mean infinity


class BoxActions(nn.Module):
    """The affine map from [−1, 1] to the bounds where both are finite, and clipping at them.

    A dimension with one finite bound is clipped at it, an unbounded one is passed on. With ``squash`` the policy's action u
    is squashed to tanh(u) before it is mapped to the bounds, which must all be finite, and never needs clipping;
    ``family`` is what asks for it.
    """

    low: Tensor
    high: Tensor
    centre: Tensor
    half_range: Tensor

    def __init__(self, space: spaces.Box, squash: bool = False, family: str = "squash") -> None:
        super().__init__()
        self.shape = space.shape
        self.size = prod(space.shape)
        self.squash = squash
        self.dtype = torch_dtype(space)
        low, high = _bounds(space)
        bounded = np.isfinite(low) & np.isfinite(high)
        if squash and not bounded.all():
            raise UsageError(
                f"{family} needs finite bounds to map actions between, but {int((~bounded).sum())} of the {self.size} "
                f"dimensions of {space} lack one; bound the space, or choose the gaussian distribution"
            )
        lowest, highest = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)  # unbounded: the identity
        centre, half_range = lowest / 2 + highest / 2, highest / 2 - lowest / 2
        for name, value in {"low": low, "high": high, "centre": centre, "half_range": half_range}.items():
            self.register_buffer(name, torch.from_numpy(value.astype(np.float32)), persistent=False)

    def to_environment(self, action: Tensor) -> Tensor:
        """[..., A] -> [..., *space.shape], inside the bounds."""
        unit = action.tanh() if self.squash else action
        scaled = torch.addcmul(self.centre, self.half_range, unit).clamp(self.low, self.high)
        return scaled.to(self.dtype).reshape((*action.shape[:-1], *self.shape))

    def from_environment(self, action: Tensor) -> Tensor:
        """[..., *space.shape] -> [..., A]; with ``squash`` the bounds themselves map to large finite values."""
        flat = action.to(self.centre.dtype).reshape(*action.shape[: action.dim() - len(self.shape)], self.size)
        unit = torch.where(self.half_range > 0, (flat - self.centre) / self.half_range, 0.0)
        if not self.squash:
            return unit
        largest = 1 - torch.finfo(unit.dtype).eps
        return unit.clamp(-largest, largest).atanh()


def _bounds(space: spaces.Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Flat bounds, ±inf where there is none; rounded inwards to float32, so that no float32 policy leaves the space."""
    low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
    low = np.where(low <= -NO_BOUND, -np.inf, low)
    high = np.where(high >= NO_BOUND, np.inf, high)
    rounded_low, rounded_high = low.astype(np.float32), high.astype(np.float32)
    rounded_low = np.where(rounded_low < low, np.nextafter(rounded_low, np.float32(np.inf)), rounded_low)
    rounded_high = np.where(rounded_high > high, np.nextafter(rounded_high, np.float32(-np.inf)), rounded_high)
    return rounded_low.astype(np.float64), rounded_high.astype(np.float64)

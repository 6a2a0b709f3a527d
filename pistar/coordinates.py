"""What a feature map reads of a state: columns of the observation, each scaled to [0, 1] between its bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from pistar.errors import UnsupportedSpace, UsageError


class Coordinates(nn.Module):
    """Columns of an observation, scaled to [0, 1]: Box (d,), MultiDiscrete (d,) or Discrete -> [..., len(columns)].

    ``columns`` are indices into the observation (None: all); ``low`` and ``high``, one number or one per column,
    replace the space's bounds, and are needed where those are infinite. Values outside are clipped to them.
    """

    column: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        space: spaces.Space[Any],
        columns: Sequence[int] | None = None,
        low: float | Sequence[float] | None = None,
        high: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        lowest, highest = _space_bounds(space)
        chosen = list(range(len(lowest))) if columns is None else list(columns)
        wrong = [column for column in chosen if not -len(lowest) <= column < len(lowest)]
        if wrong or not chosen:
            raise UsageError(f"columns must be indices into {len(lowest)} entries, at least one; received {chosen}")
        self.names = [column % len(lowest) for column in chosen]
        bottom = lowest[self.names] if low is None else np.array(per_column("low", low, len(chosen)))
        top = highest[self.names] if high is None else np.array(per_column("high", high, len(chosen)))
        for column, least, most in zip(self.names, bottom, top, strict=True):
            if not (math.isfinite(most - least) and least < most) and not (least == most and math.isfinite(least)):
                raise UsageError(
                    f"column {column} of the observation lies in [{least:g}, {most:g}], which no grid covers; "
                    "give finite low < high, or leave the column out with columns"
                )
        self.scalar = isinstance(space, spaces.Discrete)
        self.range = top - bottom
        self.register_buffer("column", torch.tensor(self.names), persistent=False)
        self.register_buffer("low", torch.tensor(bottom, dtype=torch.float32), persistent=False)
        self.register_buffer("high", torch.tensor(top, dtype=torch.float32), persistent=False)

    def __len__(self) -> int:
        return len(self.names)

    def forward(self, observation: Tensor) -> Tensor:
        """[..., d] (Discrete: [...]) -> [..., len(columns)] in [0, 1]; a column of no extent gives 0."""
        values = observation.unsqueeze(-1) if self.scalar else observation.index_select(-1, self.column)
        extent = self.high - self.low
        unit = (values.to(self.low.dtype) - self.low) / torch.where(extent > 0, extent, 1.0)
        return unit.clamp(0.0, 1.0)


def _space_bounds(space: spaces.Space[Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Lowest and highest value of every column, as float64 [d]."""
    if isinstance(space, spaces.Discrete):
        low = np.array([space.start], np.float64)
        return low, low + float(space.n) - 1
    if isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1:
        low = np.asarray(space.start, np.float64)
        return low, low + space.nvec - 1
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return space.low.astype(np.float64), space.high.astype(np.float64)
    raise UnsupportedSpace(
        f"features need a Discrete, MultiDiscrete (d,) or Box (d,) observation space, received {space}; "
        "flatten the observation, or use an MLP policy"
    )


def per_column(name: str, value: Any, columns: int) -> list[Any]:
    """One value for every column, given as such or as one for all."""
    values = list(value) if isinstance(value, Sequence | np.ndarray) else [value] * columns
    if len(values) != columns:
        raise UsageError(f"{name} must be one number or one per column: expected {columns}, received {len(values)}")
    return values

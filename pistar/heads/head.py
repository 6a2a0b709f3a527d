"""The contract of a head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from pistar.distributions import Distribution
from pistar.errors import UnsupportedSpace, UsageError
from pistar.tree import Tree


class Head(nn.Module, ABC):
    """Turns ``size`` outputs of a tower into a distribution over the actions of one space."""

    size: int

    @abstractmethod
    def forward(self, outputs: Tensor) -> Distribution:
        """[..., size] -> a distribution of batch shape [...]."""

    @abstractmethod
    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tree:
        """All the noise that sampling actions of batch shape ``shape`` takes, e.g. (T, B), in one draw."""

    @abstractmethod
    def to_environment(self, action: Tree) -> Tree:
        """The policy's action as an element of the space, batched: right dtype, shape and bounds."""

    @abstractmethod
    def from_environment(self, action: Tree) -> Tree:
        """The policy's action that ``to_environment`` maps to ``action``, for imitation; any of them if several do."""

    @property
    def choices(self) -> int:
        """How many outputs ``forbid`` can forbid, each with an entry of the mask; 0 where the head takes no mask."""
        return 0

    def forbid(self, outputs: Tensor, mask: Tree) -> Tensor:
        """The outputs [..., size] with those set to −inf that ``mask`` forbids, whose entry is 0.

        ``mask`` is [..., choices], one entry per logit; of a joint head, a dict of its parts' masks. A row that forbids every
        value of an index forbids none: there was nothing to choose, as after the end of an episode, and no action counts.
        """
        raise UsageError(f"a {type(self).__name__} has no discrete choices that a mask could forbid")

    def require_mask(self, space: spaces.Space[Any], where: str) -> None:
        """Raise UnsupportedSpace where ``space``, an observation's entry called ``where``, is no mask for this head."""
        if not self.choices:
            raise UnsupportedSpace(
                f"{where} is to mask actions, but a {type(self).__name__} has no discrete choices to forbid"
            )
        binary = isinstance(space, spaces.MultiBinary) or (
            isinstance(space, spaces.Box) and bool((space.low >= 0).all() and (space.high <= 1).all())
        )
        if not binary or spaces.utils.flatdim(space) != self.choices:
            raise UnsupportedSpace(
                f"{where} is to mask actions: expected a MultiBinary({self.choices}), or a Box of so many numbers from 0 "
                f"(forbidden) to 1, for the choices of a {type(self).__name__}; received {space}"
            )

    def rescale(self, weight: Tensor, gain: float) -> None:
        """Told once, at the start, the weights [size, inputs] that make its outputs, and the gain they were drawn with.

        They are small, so that all actions begin alike. A head that needs larger outputs enlarges the weights in place.
        """
        return


def torch_dtype(space: Any) -> torch.dtype:
    """The dtype of tensors that hold the elements of a space."""
    return torch.from_numpy(np.zeros(0, space.dtype)).dtype

"""An auxiliary value on the actor's own features: one more output of the actor's last layer.

Phasic policy gradient distils a value function into the policy's network (Cobbe et al. 2020, arXiv:2009.04416, figure 1).
Here the policy's head is wrapped, and leaves the last of the tower's outputs to that value: the features below are shared,
the weights of the last layer are its own, and distribution, noise and actions are those of the wrapped head. So it works
with whatever makes the outputs. It differs from a critic in that no algorithm bootstraps from it.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from pistar.distributions import Distribution
from pistar.heads import Head
from pistar.tree import Tree


class AuxiliaryHead(Head):
    """``head``, given all of the outputs but the last."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head
        self.size = head.size + 1

    def forward(self, outputs: Tensor) -> Distribution:
        """[..., size] -> the wrapped head's distribution."""
        distribution: Distribution = self.head(outputs[..., :-1])
        return distribution

    def value(self, outputs: Tensor) -> Tensor:
        """The auxiliary value: [..., size] -> [...]."""
        return outputs[..., -1]

    @property
    def choices(self) -> int:
        """The wrapped head's."""
        return self.head.choices

    def forbid(self, outputs: Tensor, mask: Tree) -> Tensor:
        """The wrapped head's; the value is never forbidden."""
        return torch.cat((self.head.forbid(outputs[..., :-1], mask), outputs[..., -1:]), dim=-1)

    def require_mask(self, space: spaces.Space[Any], where: str) -> None:
        """The wrapped head's."""
        self.head.require_mask(space, where)

    def rescale(self, weight: Tensor, gain: float) -> None:
        """The wrapped head's."""
        self.head.rescale(weight[:-1], gain)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tree:
        """The wrapped head's."""
        return self.head.noise(shape, generator, dtype, device)

    def to_environment(self, action: Tree) -> Tree:
        """The wrapped head's."""
        return self.head.to_environment(action)

    def from_environment(self, action: Tree) -> Tree:
        """The wrapped head's."""
        return self.head.from_environment(action)

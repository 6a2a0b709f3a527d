"""An encoder of your own: sines and cosines of the observation, at frequencies drawn once.

    pistar train cartpole --mlp.encoder-module fourier:Fourier --steps 20000

Rahimi & Recht 2007 (Random features for large-scale kernel machines). A small network then sees as if through a wide one.
"""

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from pistar.networks import FlatEncoder

FREQUENCIES = 64


class Fourier(nn.Module):
    """Any observation, flat and normalised, then [cos Wx, sin Wx]."""

    frequencies: Tensor

    def __init__(self, space: spaces.Space[Any], generator: torch.Generator) -> None:
        super().__init__()
        self.flat = FlatEncoder(space, normalize=True)
        self.size = 2 * FREQUENCIES  # numbers that it gives
        self.register_buffer("frequencies", torch.randn((FREQUENCIES, self.flat.size), generator=generator))

    def forward(self, observation: Any) -> Tensor:
        """[..., leaf] -> [..., size], whatever the leading dimensions."""
        phase = self.flat(observation) @ self.frequencies.t()
        return torch.cat((phase.cos(), phase.sin()), -1)

    def absorb(self, observation: Any, weight: Tensor | None) -> None:
        """Move the moments; an encoder without any needs no such method."""
        self.flat.absorb(observation, weight)

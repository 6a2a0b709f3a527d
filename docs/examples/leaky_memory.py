"""A memory of one's own: running averages of what was seen, each forgetting at a rate that it learns.

h' = a h + (1 − a) W x,    a = sigmoid(rate)

pistar train cartpole --mlp.memory leaky_memory:Leaky --mlp.memory-size 32 --mlp.segment 16 --steps 20000
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pistar.memories.memory import Memory


class Leaky(Memory):
    """State: the averages h [N, size], which are also what it gives."""

    def __init__(self, inputs: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.randn((size, inputs), generator=generator) / inputs**0.5)
        self.rate = nn.Parameter(torch.linspace(-2.0, 4.0, size))  # from half a step to fifty

    def initial(self, lanes: int) -> Tensor:
        """Zeros."""
        return self.weight.new_zeros((lanes, self.size))

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step."""
        after = torch.lerp(x @ self.weight.t(), state, self.rate.sigmoid())
        return after, after

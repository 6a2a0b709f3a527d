"""A tower of your own: layers that add to what they are given.

pistar train cartpole --mlp.actor-module residual:Residual --mlp.critic-module residual:Residual --steps 20000
"""

import torch
from torch import Tensor, nn

WIDTH, BLOCKS = 64, 2


class Residual(nn.Module):
    """x ← x + W tanh(V x), twice, between two linear maps."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        shapes = [(WIDTH, inputs), *[(WIDTH, WIDTH)] * (2 * BLOCKS), (outputs, WIDTH)]
        # Drawn from the run's generator and not from torch's global one, so that equal seeds give equal weights.
        drawn = [torch.randn(shape, generator=generator) / shape[1] ** 0.5 for shape in shapes]
        drawn[-1] *= 0.01 if outputs > 1 else 1.0  # all actions begin alike
        self.weights = nn.ParameterList(drawn)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        first, *blocks, last = self.weights
        x = x @ first.t()
        for inner, outer in zip(blocks[::2], blocks[1::2], strict=True):
            x = x + torch.tanh(x @ inner.t()) @ outer.t()
        return x @ last.t()

"""A whole policy of your own: outputs and value are polynomials of the second degree in the observation.

    pistar train pendulum --policy quadratic:Quadratic --policy.scale 0.1 --steps 20000

A policy kind is a frozen dataclass of settings that builds a `Policy`; it works for every action space, by `action_head`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pistar.envs.environment import Spaces
from pistar.heads import action_head
from pistar.networks import FlatEncoder
from pistar.policy import Evaluation, Policy


@dataclass(frozen=True)
class Quadratic:
    """Settings; the comment behind a field is its help text."""

    summary: ClassVar[str] = "polynomials of the second degree"

    scale: float = 0.05  # deviation of the coefficients at the start

    def build(self, spaces: Spaces, generator: torch.Generator) -> Policy:
        """A policy for these spaces."""
        return QuadraticPolicy(spaces, self, generator)


class QuadraticPolicy(Policy):
    """Outputs θᵀφ(s) and value wᵀφ(s), φ(s) = [1, s, s sᵀ]."""

    def __init__(self, spaces: Spaces, kind: Quadratic, generator: torch.Generator) -> None:
        super().__init__()
        self.spaces, self.kind = spaces, kind
        self.head = action_head(spaces.action)
        self.encoder = FlatEncoder(spaces.observation, normalize=True)
        size = 1 + self.encoder.size + self.encoder.size**2
        self.actor = nn.Parameter(kind.scale * torch.randn((self.head.size, size), generator=generator))
        self.critic = nn.Parameter(torch.zeros(size))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """What is trained, by name; "critic" is what serves values alone."""
        return {"actor": [self.actor, *self.head.parameters()], "critic": [self.critic]}

    def features(self, observation: Any) -> Tensor:
        """φ [..., size]."""
        x = self.encoder(observation)
        square = (x.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2)
        return torch.cat((torch.ones_like(x[..., :1]), x, square), -1)

    def outputs(self, observation: Any, memory: Any = None, is_first: Tensor | None = None) -> tuple[Tensor, Any]:
        """The head's inputs [..., head.size]; no memory."""
        return self.features(observation) @ self.actor.t(), memory

    def value(self, observation: Any) -> Tensor:
        """V(s) [...]."""
        return self.features(observation) @ self.critic

    def evaluate(self, observation: Any, action: Any) -> Evaluation:
        """What learning asks."""
        distribution = self.head(self.outputs(observation)[0])
        return Evaluation(distribution, distribution.log_prob(action), distribution.entropy(), self.value(observation))

    def absorb(self, observation: Any, weight: Tensor | None = None) -> None:
        """Move the observation moments, between an update and the next rollout."""
        self.encoder.absorb(observation, weight)

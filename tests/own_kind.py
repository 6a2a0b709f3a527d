"""A policy kind from outside the package, which files may name only where it is trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from pistar.policies.mlp import MLP
from pistar.policy import Policy


@dataclass(frozen=True)
class Own:
    """A small MLP under a name of its own."""

    summary: ClassVar[str] = "a kind of one's own"

    units: int = 4

    def build(self, spaces: Any, generator: torch.Generator) -> Policy:
        policy = MLP(hidden=(self.units,)).build(spaces, generator)
        policy.kind = self
        return policy

"""Heads side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from pistar.distributions import Joint
from pistar.errors import UnknownName, UnsupportedSpace
from pistar.heads.head import Head
from pistar.tree import Tree


class JointHead(Head):
    """Heads side by side, each given its own share of the outputs; actions are dicts or tuples."""

    def __init__(self, children: Mapping[str, Head] | tuple[Head, ...]) -> None:
        super().__init__()
        self.names = tuple(children) if isinstance(children, Mapping) else None  # None: a tuple
        self.parts = nn.ModuleList(children.values() if isinstance(children, Mapping) else children)
        self.sizes = [head.size for head in self._heads()]
        self.size = sum(self.sizes)

    @property
    def named(self) -> dict[str, Head]:
        """The parts by name, those of a tuple by position: "0", "1", ..."""
        return {str(key): head for key, head in self._items()}

    def forward(self, outputs: Tensor) -> Joint:
        """[..., Σ sizes] -> Joint."""
        shares = torch.split(outputs, self.sizes, dim=-1)
        return Joint(self._assemble([head(share) for head, share in zip(self._heads(), shares, strict=True)]))

    @property
    def choices(self) -> int:
        """Those of all parts."""
        return sum(head.choices for head in self._heads())

    def forbid(self, outputs: Tensor, mask: Tree) -> Tensor:
        """Every part that ``mask`` has an entry for, a dict by names (of a tuple "0", "1", ...) or a tuple; others stay."""
        masks = {str(index): part for index, part in enumerate(mask)} if isinstance(mask, tuple) else mask
        shares = zip(self.named.items(), torch.split(outputs, self.sizes, dim=-1), strict=True)
        return torch.cat([head.forbid(x, masks[name]) if name in masks else x for (name, head), x in shares], dim=-1)

    def require_mask(self, space: spaces.Space[Any], where: str) -> None:
        """Raise UnsupportedSpace where ``space`` is no dict of masks for parts that can be masked."""
        if not isinstance(space, spaces.Dict | spaces.Tuple):
            raise UnsupportedSpace(
                f"{where} is to mask actions of several parts: expected a Dict of masks by the parts' names, or a Tuple, received {space}"
            )
        children = space.spaces if isinstance(space, spaces.Dict) else {str(i): s for i, s in enumerate(space.spaces)}
        for name, child in children.items():
            if name not in self.named:
                raise UnknownName(f"part of the action to mask in {where}:", name, self.named)
            self.named[name].require_mask(child, f"{where}[{name!r}]")

    def rescale(self, weight: Tensor, gain: float) -> None:
        """Every part its own share."""
        for head, share in zip(self._heads(), torch.split(weight, self.sizes), strict=True):
            head.rescale(share, gain)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tree:
        """The parts' noise, drawn in their order."""
        return self._assemble([head.noise(shape, generator, dtype, device) for head in self._heads()])

    def to_environment(self, action: Tree) -> Tree:
        """Every part converted by its own head."""
        return self._assemble([head.to_environment(action[key]) for key, head in self._items()])

    def from_environment(self, action: Tree) -> Tree:
        """Every part converted by its own head."""
        return self._assemble([head.from_environment(action[key]) for key, head in self._items()])

    def _heads(self) -> list[Head]:
        return [part for part in self.parts if isinstance(part, Head)]

    def _items(self) -> list[tuple[Any, Head]]:
        heads = self._heads()
        return list(zip(self.names if self.names is not None else range(len(heads)), heads, strict=True))

    def _assemble(self, values: list[Any]) -> Any:
        return tuple(values) if self.names is None else dict(zip(self.names, values, strict=True))

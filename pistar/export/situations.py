"""Observations and noise with which a file is compared: where the policy has been, and further out.

Real numbers are drawn around the normaliser's mean, with deviations from a tenth of its own to ten times that, where every
entry is at its limit; those of a policy without a normaliser between their bounds, where these are near enough. Which entry of
which leaf a normaliser sees is found by giving every one its own number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from pistar.export.graph import Layout
from pistar.export.ports import Path, Port, assemble, leaf_spaces
from pistar.export.reading import Arrays
from pistar.normalization import Normalizer
from pistar.policy import Policy
from pistar.tree import map_leaves

SCALES = (0.1, 1.0, 3.0, 10.0)
BROADEST = 1e4  # a Box wider than that is drawn like an unbounded one


class Situations:
    """What to compare with: the same for the same policy, always."""

    def __init__(self, policy: Policy, layout: Layout) -> None:
        self.policy, self.layout = policy, layout
        self.generator = np.random.default_rng(0)
        self.leaves = dict(leaf_spaces(policy.spaces.observation))
        self.usual = _usual(policy, layout)

    def observation(self, rows: int) -> Arrays:
        """Every entry of the observation, also those that the policy does not read, by port: [N, ...]."""
        return {port.name: self._leaf(port, rows).astype(port.dtype) for port in self.layout.observation}

    def noise(self, rows: int) -> Arrays:
        """As a reader draws it."""
        drawn: Arrays = {}
        for port in self.layout.of("noise"):
            normal = port.noise == "normal"
            draw = self.generator.standard_normal if normal else self.generator.random
            drawn[port.name] = draw((rows, *port.shape), np.float32)
        return drawn

    def _leaf(self, port: Port, rows: int) -> NDArray[Any]:
        space, shape, generator = self.leaves[port.path], (rows, *port.shape), self.generator
        if isinstance(space, spaces.MultiBinary) or port.path[:1] == (self.policy.mask,):
            return generator.integers(0, 2, shape)
        if isinstance(space, spaces.Discrete):
            return generator.integers(int(space.n), size=shape) + int(space.start)
        if isinstance(space, spaces.MultiDiscrete):
            return generator.integers(np.broadcast_to(space.nvec, shape)) + space.start
        assert isinstance(space, spaces.Box)
        if space.dtype.kind in "iub":
            low, high = (
                np.clip(space.low.astype(np.int64), -1000, 1000),
                np.clip(space.high.astype(np.int64), -1000, 1000),
            )
            return generator.integers(np.broadcast_to(low, shape), np.broadcast_to(high, shape), endpoint=True)
        return self._numbers(space, port.path, shape)

    def _numbers(self, space: spaces.Box, path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        if path not in self.usual and (high - low < BROADEST).all():
            drawn: NDArray[Any] = self.generator.uniform(np.broadcast_to(low, shape), np.broadcast_to(high, shape))
            return drawn
        mean, deviation = self.usual.get(path, (0.0, 1.0))
        scale = self.generator.choice(SCALES, size=(shape[0], *[1] * (len(shape) - 1)))
        return mean + deviation * scale * self.generator.standard_normal(shape)


def _usual(policy: Policy, layout: Layout) -> dict[Path, tuple[NDArray[Any], NDArray[Any]]]:
    """Mean and deviation of every leaf that a normaliser of the policy has seen."""
    numbered: dict[Path, Any] = {}
    owner: list[tuple[Path, int]] = []
    for port in layout.observation:
        count = int(np.prod(port.shape))
        box = policy.spaces.observation if not port.path else dict(leaf_spaces(policy.spaces.observation))[port.path]
        if port.dtype == "float32":
            numbered[port.path] = torch.arange(len(owner) + 1.0, len(owner) + count + 1.0).view(1, *port.shape)
            owner += [(port.path, index) for index in range(count)]
        else:
            numbered[port.path] = (
                torch.as_tensor(getattr(box, "start", 0)).expand(1, *port.shape).to(getattr(torch, port.dtype))
            )
    found = {
        port.path: (np.zeros(port.shape), np.ones(port.shape)) for port in layout.observation if port.path in numbered
    }
    known: set[Path] = set()

    def note(module: Any, arguments: Any) -> None:
        for place, number in enumerate(arguments[0][0].tolist()):
            if bool(module.mask[place]) and number == round(number) and 1 <= number <= len(owner):
                path, index = owner[round(number) - 1]
                found[path][0].flat[index] = float(module.shift[place])
                found[path][1].flat[index] = 1.0 / float(module.scale[place])
                known.add(path)

    hooks = [m.register_forward_pre_hook(note) for m in policy.modules() if isinstance(m, Normalizer)]
    dtype = next(policy.parameters()).dtype
    try:
        with torch.no_grad():
            tree = assemble(policy.spaces.observation, numbered)
            policy.outputs(map_leaves(lambda x: x.to(dtype) if x.is_floating_point() else x, tree))
    finally:
        for hook in hooks:
            hook.remove()
    return {path: value for path, value in found.items() if path in known}

"""Encoders and towers: from an observation tree to features, from features to outputs.

An encoder turns whatever the space is into one float vector per step and owns its normalisation; a tower is a stack of
dense layers. Initialisation draws from a generator of its own, never from torch's global one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn

from pistar.errors import UnsupportedSpace
from pistar.kernels import tower
from pistar.normalization import Normalizer
from pistar.tree import Tree

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}


class FlatEncoder(nn.Module):
    """Any tree of boxes, discretes and binaries -> one vector: boxes flattened, discretes one-hot, in the space's order."""

    def __init__(self, space: spaces.Space[Any], normalize: bool) -> None:
        super().__init__()
        self.space = space
        self.size = flat_size(space)
        mask = torch.cat(float_entries(space)) if normalize else torch.zeros(self.size, dtype=torch.bool)
        self.normalizer = Normalizer(mask) if bool(mask.any()) else None
        # A single float box is the common case and needs no walk through the tree.
        self.plain = isinstance(space, spaces.Box) and len(space.shape) == 1 and space.dtype.kind == "f"

    def flatten(self, observation: Tree) -> Tensor:
        """Observation tree [..., leaf] -> raw vector [..., size]."""
        if self.plain:
            return observation  # type: ignore[no-any-return]
        return torch.cat(flat_leaves(self.space, observation), dim=-1)

    def forward(self, observation: Tree) -> Tensor:
        """Observation tree [..., leaf] -> normalised vector [..., size]."""
        x = self.flatten(observation)
        return x if self.normalizer is None else self.normalizer(x)

    def absorb(self, observation: Tree, weight: Tensor | None) -> None:
        """Update the moments with observations [N, ...]."""
        if self.normalizer is not None:
            self.normalizer.update(self.flatten(observation), weight)


def flat_size(space: spaces.Space[Any]) -> int:
    """The length of a space's flat vector."""
    if not isinstance(
        space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Dict | spaces.Tuple
    ):
        raise UnsupportedSpace(
            f"no encoder for a {type(space).__name__} observation "
            "(known: Box, Discrete, MultiDiscrete, MultiBinary, Dict, Tuple); wrap the environment or give a policy kind of your own"
        )
    return int(spaces.utils.flatdim(space))


def float_entries(space: spaces.Space[Any]) -> list[Tensor]:
    """For every leaf, which entries of its flat vector are real numbers that are worth normalising."""
    if isinstance(space, spaces.Dict):
        return [mask for child in space.spaces.values() for mask in float_entries(child)]
    if isinstance(space, spaces.Tuple):
        return [mask for child in space.spaces for mask in float_entries(child)]
    number = isinstance(space, spaces.Box) and space.dtype.kind == "f"
    return [torch.full((flat_size(space),), number)]


def flat_leaves(space: spaces.Space[Any], observation: Tree) -> list[Tensor]:
    """The flat float vectors [..., n] of every leaf, in the space's order."""
    if isinstance(space, spaces.Dict):
        return [x for key, child in space.spaces.items() for x in flat_leaves(child, observation[key])]
    if isinstance(space, spaces.Tuple):
        return [x for child, part in zip(space.spaces, observation, strict=True) for x in flat_leaves(child, part)]
    dtype = torch.get_default_dtype()
    if isinstance(space, spaces.Discrete):
        return [nn.functional.one_hot(observation.long() - int(space.start), int(space.n)).to(dtype)]
    if isinstance(space, spaces.MultiDiscrete):
        parts = zip(space.nvec.flatten().tolist(), space.start.flatten().tolist(), strict=True)
        flat = observation.long().flatten(observation.dim() - len(space.shape))
        return [nn.functional.one_hot(flat[..., i] - start, n).to(dtype) for i, (n, start) in enumerate(parts)]
    dims = len(space.shape or ())
    flat = observation.flatten(observation.dim() - dims) if dims else observation.unsqueeze(-1)
    if flat.dtype == torch.uint8 and isinstance(space, spaces.Box):
        return [flat.to(dtype) / 255.0]
    return [flat if flat.is_floating_point() else flat.to(dtype)]


class Tower(nn.Module):
    """Dense layers: ``sizes`` = (inputs, hidden ..., outputs), an activation between them, none at the end."""

    def __init__(self, sizes: tuple[int, ...], activation: str, last_gain: float, generator: torch.Generator) -> None:
        super().__init__()
        self.sizes = sizes
        self.precision = torch.float32  # of the products; what goes in and out is float32 either way
        self._native: tower.NativeTower | None = None
        gain = 2**0.5
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(pairwise(sizes)):
            last = index == len(sizes) - 2
            layers.append(dense(inputs, outputs, last_gain if last else gain, generator))
            if not last:
                layers.append(ACTIVATIONS[activation]())
        self.layers = nn.Sequential(*layers)

    @property
    def activation(self) -> nn.Module:
        """What stands between the layers; the identity where there is but one."""
        return self.layers[1] if len(self.layers) > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]; by the native kernels where they can be used, else layer by layer."""
        if self.precision is not torch.float32:
            # The cache of weights that were cast would outlive what a CUDA graph holds.
            with torch.autocast(x.device.type, self.precision, cache_enabled=False):
                cast: Tensor = self.layers(x)
            return cast.float()
        parameters = list(self.layers.parameters())
        native = self._native_tower() if tower.takes(parameters, x) else None
        if native is None:
            result: Tensor = self.layers(x)
            return result
        rows = x.reshape(-1, self.sizes[0]).contiguous()
        if torch.is_grad_enabled() and (x.requires_grad or any(parameter.requires_grad for parameter in parameters)):
            y: Tensor = tower.Dense.apply(rows, self.layers, native, *parameters)  # type: ignore[no-untyped-call]
        else:
            y = native.forward(tower.flat(parameters), rows)
        return y.view(*x.shape[:-1], self.sizes[-1])

    def _native_tower(self) -> tower.NativeTower | None:
        """Made at first use: a policy may be built for another device or precision."""
        if self._native is None:
            self._native = tower.make(self.sizes, self.activation)
        return self._native


def set_precision(policy: nn.Module, precision: Literal["float32", "bfloat16"]) -> None:
    """Let all dense towers of a policy multiply in this precision, acting and learning alike."""
    for module in policy.modules():
        if isinstance(module, Tower):
            module.precision = getattr(torch, precision)


class Dense(nn.Linear):
    """A linear layer whose weights are whatever `dense` gives it: torch's own start draws from its global generator."""

    def reset_parameters(self) -> None:
        """Leave them."""


def dense(inputs: int, outputs: int, gain: float, generator: torch.Generator) -> nn.Linear:
    """A linear layer with orthogonal weights (Saxe, McClelland & Ganguli 2014) and zero bias."""
    layer = Dense(inputs, outputs)
    with torch.no_grad():
        nn.init.orthogonal_(layer.weight, gain, generator=generator)
        layer.bias.zero_()
    return layer


def orthogonal_gates(gates: int, size: int, inputs: int, generator: torch.Generator) -> nn.Parameter:
    """The weights [gates · size, inputs] of a memory's gates, each orthogonal by itself."""
    blocks = [nn.init.orthogonal_(torch.empty(size, inputs), generator=generator) for _ in range(gates)]
    return nn.Parameter(torch.cat(blocks))

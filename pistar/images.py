"""Encoders for observations that hold images: each image through layers of convolutions, all else as `FlatEncoder` has it.

An image is a Box of uint8 with two or three dimensions: [H, W], [H, W, C] or [C, H, W], where the channels are the smaller
of the first and the last dimension (the last of equals). Pixels are divided by 255 and not normalised further. The default
layers are those of Mnih et al. (2015), Nature 518:529-533: 32 filters of 8 × 8 with stride 4, 64 of 4 × 4 with stride 2, 64
of 3 × 3 with stride 1, 512 dense units; each followed by a ReLU, its weights orthogonal.

Left out: pooling, residual layers and pretrained features (give an encoder of your own).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from pistar.errors import UnsupportedSpace
from pistar.networks import FlatEncoder, dense
from pistar.tree import Tree

Path = tuple[Any, ...]  # keys and positions that lead to a leaf


@dataclass(frozen=True)
class Convolutions:
    """Layers of convolutions and a dense one: one entry of each per layer."""

    filters: Sequence[int] = (32, 64, 64)
    kernels: Sequence[int] = (8, 4, 3)  # width and height, pixels
    strides: Sequence[int] = (4, 2, 1)
    features: int = 512  # units of the dense layer behind them


def is_image(space: spaces.Space[Any]) -> bool:
    """Whether a leaf of an observation space is an image."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def leaf_spaces(space: spaces.Space[Any], path: Path = ()) -> list[tuple[Path, spaces.Space[Any]]]:
    """(path, leaf) in the space's order."""
    if isinstance(space, spaces.Dict):
        return [leaf for key, child in space.spaces.items() for leaf in leaf_spaces(child, (*path, key))]
    if isinstance(space, spaces.Tuple):
        return [leaf for index, child in enumerate(space.spaces) for leaf in leaf_spaces(child, (*path, index))]
    return [(path, space)]


def holds_image(space: spaces.Space[Any]) -> bool:
    """Whether any leaf is an image."""
    return any(is_image(leaf) for _, leaf in leaf_spaces(space))


def follow(tree: Tree, path: Path) -> Any:
    """The leaf at the end of ``path``."""
    for step in path:
        tree = tree[step]
    return tree


class ImageEncoder(nn.Module):
    """One image [..., H, W(, C)] -> features [..., size]."""

    def __init__(self, space: spaces.Box, layers: Convolutions, generator: torch.Generator) -> None:
        super().__init__()
        self.dims = len(space.shape)
        self.last = self.dims == 3 and space.shape[-1] <= space.shape[0]
        height, width = space.shape[:2] if self.last or self.dims == 2 else space.shape[1:]
        channels = 1 if self.dims == 2 else space.shape[-1 if self.last else 0]
        blocks: list[nn.Module] = []
        shape = (height, width)
        for filters, kernel, stride in zip(layers.filters, layers.kernels, layers.strides, strict=True):
            shape = tuple((side - kernel) // stride + 1 if side >= kernel else 0 for side in shape)  # type: ignore[assignment]
            if min(shape) < 1:
                raise UnsupportedSpace(
                    f"an image of {height} × {width} pixels is too small for convolutions of {list(layers.kernels)} with strides "
                    f"{list(layers.strides)}; give smaller ones (--mlp.kernels 3,3 --mlp.strides 1,1 --mlp.filters 16,32), "
                    "or treat it as numbers (--mlp.images flat)"
                )
            blocks += [convolution(channels, filters, kernel, stride, generator), nn.ReLU()]
            channels = filters
        self.layers = nn.Sequential(*blocks)
        self.size = layers.features
        self.dense = dense(channels * shape[0] * shape[1], layers.features, 2**0.5, generator)

    def forward(self, image: Tensor) -> Tensor:
        """[..., H, W(, C)] uint8 -> [..., size]."""
        leading = image.shape[: image.dim() - self.dims]
        x = image.reshape(-1, *image.shape[len(leading) :])
        x = x.unsqueeze(1) if self.dims == 2 else x.movedim(-1, 1) if self.last else x
        # Channels innermost: convolutions of many images take about three quarters of the time then, on a CPU.
        x = x.to(self.dense.weight.dtype, memory_format=torch.channels_last) / 255.0
        x = self.layers(x).flatten(1)
        features: Tensor = self.dense(x).relu()
        return features.view(*leading, self.size)


class MixedEncoder(nn.Module):
    """A tree with images -> one vector: the features of every image, then the flat vector of all other leaves."""

    def __init__(
        self, space: spaces.Space[Any], layers: Convolutions, normalize: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        found = leaf_spaces(space)
        self.paths = [path for path, leaf in found if is_image(leaf)]
        images: list[Any] = [leaf for _, leaf in found if is_image(leaf)]
        self.images = nn.ModuleList(ImageEncoder(leaf, layers, generator) for leaf in images)
        self.rest = [path for path, leaf in found if not is_image(leaf)]
        others = spaces.Tuple([leaf for _, leaf in found if not is_image(leaf)])
        self.vector = FlatEncoder(others, normalize) if self.rest else None
        self.size = layers.features * len(self.paths) + (0 if self.vector is None else self.vector.size)

    def others(self, observation: Tree) -> tuple[Tensor, ...]:
        """The leaves that are no images."""
        return tuple(follow(observation, path) for path in self.rest)

    def forward(self, observation: Tree) -> Tensor:
        """Observation tree [..., leaf] -> [..., size]."""
        parts = [image(follow(observation, path)) for image, path in zip(self.images, self.paths, strict=True)]
        if self.vector is not None:
            parts.append(self.vector(self.others(observation)))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def absorb(self, observation: Tree, weight: Tensor | None) -> None:
        """Update the moments of what is no image with observations [N, ...]."""
        if self.vector is not None:
            self.vector.absorb(self.others(observation), weight)


class Convolution(nn.Conv2d):
    """A convolution whose weights are whatever `convolution` gives it: torch's own start draws from its global generator."""

    def reset_parameters(self) -> None:
        """Leave them."""


def convolution(inputs: int, filters: int, kernel: int, stride: int, generator: torch.Generator) -> nn.Conv2d:
    """Orthogonal weights for a ReLU behind, zero bias."""
    layer = Convolution(inputs, filters, kernel, stride)
    assert layer.bias is not None
    with torch.no_grad():
        nn.init.orthogonal_(layer.weight, 2**0.5, generator=generator)
        layer.bias.zero_()
    return layer

"""Feature maps φ(s, a) of the linear softmax policy π(a|s) ∝ exp(θᵀ φ(s, a)).

Every map here has the form φ(s, a) = x(s) ⊗ e_a: features of the state, once per action. The preferences θᵀ φ(s, a)
of all actions are then x(s) θ with θ [F, A], and row f of θ says what feature f makes of every action. They differ in
x: `OneHot` marks the cell of a grid, `TileCoding` one cell in each of several shifted grids (it generalises to
neighbours and is as cheap to evaluate), `RadialBasis` is the smooth version of both, `Polynomial` is global.

All four read the state through `Coordinates`: chosen columns of the observation, each scaled to [0, 1] between its
bounds. None knows anything of rewards. Left out: learned features (that is an MLP policy), and observations that are
dicts.
"""

from __future__ import annotations

import inspect
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from pistar.coordinates import Coordinates, per_column
from pistar.errors import UnknownName, UnsupportedSpace, UsageError

LARGEST_SIZE = 2**26  # features of one map; beyond it a grid over all columns was hardly meant
ON_EDGE = 1e-4  # of a tile: what counts as lying on an edge, so that rounding cannot decide the tile


class FeatureMap(nn.Module, ABC):
    """x(s), F = ``size`` features of an observation, crossed with A = ``actions`` actions.

    Observations are [..., d] for a Box (d,) or MultiDiscrete space and [...] for a Discrete one.
    """

    size: int
    actions: int

    def __init__(self, size: int, action_space: spaces.Space[Any]) -> None:
        super().__init__()
        if not isinstance(action_space, spaces.Discrete):
            raise UnsupportedSpace(
                f"a linear softmax policy needs a Discrete action space, received {type(action_space).__name__}; "
                "use an MLP policy, or discretise the actions in the environment"
            )
        if size > LARGEST_SIZE:
            raise UsageError(
                f"{type(self).__name__} would have {size:,} features (at most {LARGEST_SIZE:,}); choose fewer columns "
                "or a coarser grid"
            )
        self.size, self.actions = size, int(action_space.n)

    @abstractmethod
    def features(self, observation: Tensor) -> Tensor:
        """x(s), dense: [..., F]."""

    def logits(self, observation: Tensor, theta: Tensor) -> Tensor:
        """θᵀ φ(s, a) for all actions, with θ [F, A]: [..., A]."""
        return self.features(observation).to(theta.dtype) @ theta

    def phi(self, observation: Tensor, action: Tensor) -> Tensor:
        """φ(s, a), ordered like ``theta.flatten()``; actions count from 0: [...] -> [..., F · A]."""
        chosen = functional.one_hot(action.long(), self.actions)
        features = self.features(observation)
        return (features.unsqueeze(-1) * chosen.to(features.dtype).unsqueeze(-2)).flatten(-2)

    def forward(self, observation: Tensor) -> Tensor:
        """x(s): [..., F]."""
        return self.features(observation)


class LinearOutputs(nn.Module):
    """``outputs`` linear functions of x(s), all 0 at first: a policy's preferences, or a value."""

    def __init__(self, features: FeatureMap, outputs: int) -> None:
        super().__init__()
        self.features = features
        self.theta = nn.Parameter(torch.zeros(features.size, outputs))

    def forward(self, observation: Tensor) -> Tensor:
        """x(s) θ: [..., outputs]."""
        return self.features.logits(observation, self.theta)


class OneHot(FeatureMap):
    """One feature per cell of a grid, 1 in the cell nearest to the observation.

    ``bins``: how many equally spaced values each column takes, the bounds included (one number, or one per column).
    May be left out for Discrete and MultiDiscrete observations, whose values are the grid.
    """

    stride: Tensor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        bins: int | Sequence[int] | None = None,
        columns: Sequence[int] | None = None,
        low: float | Sequence[float] | None = None,
        high: float | Sequence[float] | None = None,
    ) -> None:
        coordinates = Coordinates(observation_space, columns, low, high)
        if bins is None:
            if isinstance(observation_space, spaces.Box):
                raise UsageError("one-hot features of a Box observation need bins: how many grid values a column has")
            bins = [round(extent) + 1 for extent in coordinates.range]
        counts = _counts("bins", bins, len(coordinates))
        super().__init__(math.prod(counts), action_space)
        self.coordinates = coordinates
        self.register_buffer("steps", torch.tensor(counts) - 1, persistent=False)
        self.register_buffer("stride", _strides(counts), persistent=False)

    def active(self, observation: Tensor) -> Tensor:
        """The index of the cell: [...] int64."""
        position: Tensor = self.coordinates(observation) * self.steps
        return (position.round().long() * self.stride).sum(-1)

    def logits(self, observation: Tensor, theta: Tensor) -> Tensor:
        """The cell's row of θ: [..., A]."""
        return functional.embedding(self.active(observation), theta)

    def features(self, observation: Tensor) -> Tensor:
        """1 at the cell: [..., F]."""
        return _marked(self.active(observation).unsqueeze(-1), self.size, self.coordinates.low.dtype)


class TileCoding(FeatureMap):
    """``tilings`` grids over the same columns, shifted against each other; one tile of each is active.

    A tile is 1 / ``tiles`` of a column's range (one number, or one per column). Tiling k is shifted by k · (1, 3, 5,
    …) / ``tilings`` of a tile, modulo 1: different along each column, which avoids diagonal artefacts (Sutton & Barto
    2018, section 9.5.4); take a power of two, so that no column repeats a shift. A tile contains its lower edge, up
    to rounding.
    """

    shift: Tensor
    stride: Tensor
    start: Tensor
    last: Tensor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        tilings: int = 8,
        tiles: int | Sequence[int] = 8,
        columns: Sequence[int] | None = None,
        low: float | Sequence[float] | None = None,
        high: float | Sequence[float] | None = None,
    ) -> None:
        coordinates = Coordinates(observation_space, columns, low, high)
        (count,) = _counts("tilings", tilings, 1)
        counts = _counts("tiles", tiles, len(coordinates))
        rows = [tiles + (count > 1) for tiles in counts]  # a shifted grid needs one tile more to reach the upper bound
        super().__init__(count * math.prod(rows), action_space)
        self.coordinates, self.tilings = coordinates, count
        odd = 2 * torch.arange(len(counts)) + 1
        shift = (torch.arange(count).unsqueeze(-1) * odd % count) / count
        self.register_buffer("tiles", torch.tensor(counts), persistent=False)
        self.register_buffer("last", torch.tensor(rows) - 1, persistent=False)
        self.register_buffer("stride", _strides(rows), persistent=False)
        self.register_buffer("start", torch.arange(count) * math.prod(rows), persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def active(self, observation: Tensor) -> Tensor:
        """The index of every tiling's active tile: [..., tilings] int64."""
        position: Tensor = self.coordinates(observation) * self.tiles
        tile = (position.unsqueeze(-2) + self.shift + ON_EDGE).floor().long().minimum(self.last)
        return (tile * self.stride).sum(-1) + self.start

    def logits(self, observation: Tensor, theta: Tensor) -> Tensor:
        """The sum of the active tiles' rows of θ: [..., A]."""
        return functional.embedding(self.active(observation), theta).sum(-2)

    def features(self, observation: Tensor) -> Tensor:
        """1 at every active tile: [..., F]."""
        return _marked(self.active(observation), self.size, self.coordinates.low.dtype)


class RadialBasis(FeatureMap):
    """exp(−‖s − c‖² / 2σ²) for every centre c of a grid.

    ``centres`` per column are equally spaced, the bounds included (one number, or one per column); σ is ``width`` times
    their distance along each column.
    """

    centre: Tensor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        centres: int | Sequence[int] = 5,
        width: float = 1.0,
        columns: Sequence[int] | None = None,
        low: float | Sequence[float] | None = None,
        high: float | Sequence[float] | None = None,
    ) -> None:
        coordinates = Coordinates(observation_space, columns, low, high)
        counts = _counts("centres", centres, len(coordinates))
        if not (width > 0 and math.isfinite(width)):
            raise UsageError(f"width must be a positive number of centre distances, received {width!r}")
        super().__init__(math.prod(counts), action_space)
        self.coordinates, self.width = coordinates, width
        grid = torch.cartesian_prod(*(torch.arange(count, dtype=torch.float32) for count in counts))
        self.register_buffer("steps", torch.tensor([max(count - 1, 1) for count in counts]), persistent=False)
        self.register_buffer("centre", grid.view(self.size, len(counts)), persistent=False)

    def features(self, observation: Tensor) -> Tensor:
        """The value at every centre, in the order of the grid, last column fastest: [..., F]."""
        position: Tensor = self.coordinates(observation) * self.steps
        return (((position.unsqueeze(-2) - self.centre) / self.width).square().sum(-1) * -0.5).exp()


class Polynomial(FeatureMap):
    """All monomials up to total ``degree`` of the columns, scaled to [−1, 1]; the first is the constant 1."""

    exponent: Tensor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        degree: int = 2,
        columns: Sequence[int] | None = None,
        low: float | Sequence[float] | None = None,
        high: float | Sequence[float] | None = None,
    ) -> None:
        coordinates = Coordinates(observation_space, columns, low, high)
        dimensions = len(coordinates)
        (degree,) = _counts("degree", degree, 1)
        super().__init__(math.comb(dimensions + degree, degree), action_space)
        self.coordinates, self.degree = coordinates, degree
        choices = (
            choice
            for total in range(degree + 1)
            for choice in itertools.combinations_with_replacement(range(dimensions), total)
        )
        exponent = torch.tensor([[choice.count(d) for d in range(dimensions)] for choice in choices])
        self.register_buffer("exponent", exponent, persistent=False)

    def features(self, observation: Tensor) -> Tensor:
        """The monomials, by rising total degree: [..., F]."""
        x = 2 * self.coordinates(observation) - 1
        powers = torch.stack([x**degree for degree in range(self.degree + 1)], dim=-1)  # [..., d, degree + 1]
        return powers[..., torch.arange(x.shape[-1], device=x.device), self.exponent].prod(-1)


FEATURE_MAPS: dict[str, Callable[..., FeatureMap]] = {
    "one-hot": OneHot,
    "tile-coding": TileCoding,
    "radial-basis": RadialBasis,
    "polynomial": Polynomial,
}


def feature_map(
    name: str, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], **options: Any
) -> FeatureMap:
    """Build a feature map by name. Raises UnknownName for a name or an option that does not exist."""
    if name not in FEATURE_MAPS:
        raise UnknownName("feature map", name, FEATURE_MAPS)
    known = list(inspect.signature(FEATURE_MAPS[name]).parameters)[2:]
    for option in options:
        if option not in known:
            raise UnknownName(f"option of {name} features", option, known)
    return FEATURE_MAPS[name](observation_space, action_space, **options)


def _counts(name: str, value: int | Sequence[int], columns: int) -> list[int]:
    counts = per_column(name, value, columns)
    if any(not isinstance(count, int | np.integer) or count < 1 for count in counts):
        raise UsageError(f"{name} must be whole numbers >= 1, received {value!r}")
    return [int(count) for count in counts]


def _strides(counts: Sequence[int]) -> Tensor:
    """Index steps of a grid whose last column runs fastest: [d] int64."""
    return torch.tensor([math.prod(counts[d + 1 :]) for d in range(len(counts))])


def _marked(index: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """1 at the given indices, 0 elsewhere: [..., K] int64 -> [..., size]."""
    return torch.zeros(*index.shape[:-1], size, dtype=dtype, device=index.device).scatter_(-1, index, 1.0)

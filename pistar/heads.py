"""From a tower's outputs to a distribution over actions, and from an action to what the environment is given.

``action_head(space)`` chooses the head for an action space, once, when a policy is built; nothing asks for the type
of an action after that. A head says how many outputs it needs, makes the distribution from them, draws the noise that
the distribution's ``sample`` turns into actions, and converts between the policy's actions and the environment's. A
user's own space gets its head by ``@action_head.register``.

Box actions: the policy thinks in [−1, 1], which is mapped affinely to the bounds where both are finite and clipped
there on execution; the log-probability stays that of the unclipped action. A dimension with one finite bound is
clipped at it, an unbounded one is passed on.

Left out: networks (a head has no weights but a state-independent log σ) and action masks (whoever makes the outputs may
set logits of forbidden indices to −inf).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import singledispatch
from math import prod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from pistar.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    Joint,
    MultiCategorical,
    SquashedGaussian,
)
from pistar.errors import UnsupportedSpace, UsageError
from pistar.tree import Tree

LOWEST_LOG_STD, HIGHEST_LOG_STD = -5.0, 2.0
NO_BOUND = float(np.finfo(np.float32).max)  # environments write the largest float32 where they mean infinity


class Head(nn.Module, ABC):
    """Turns ``size`` outputs of a tower into a distribution over the actions of one space."""

    size: int

    @abstractmethod
    def forward(self, outputs: Tensor) -> Distribution:
        """[..., size] -> a distribution of batch shape [...]."""

    @abstractmethod
    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tree:
        """All the noise that sampling actions of batch shape ``shape`` takes, e.g. (T, B), in one draw."""

    @abstractmethod
    def to_environment(self, action: Tree) -> Tree:
        """The policy's action as an element of the space, batched: right dtype, shape and bounds."""

    @abstractmethod
    def from_environment(self, action: Tree) -> Tree:
        """The policy's action that ``to_environment`` maps to ``action``, for imitation; any of them if several do."""


class CategoricalHead(Head):
    """Logits of a ``Discrete`` space; the policy's actions count from 0, the environment's from ``start``."""

    def __init__(self, space: spaces.Discrete) -> None:
        super().__init__()
        self.size = int(space.n)
        self.start = int(space.start)
        self.action_dtype = _torch_dtype(space)

    def forward(self, outputs: Tensor) -> Categorical:
        """[..., n] -> Categorical."""
        return Categorical(outputs)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tensor:
        """Uniform on [0, 1): [*shape]."""
        return torch.rand(shape, generator=generator, dtype=dtype, device=device)

    def to_environment(self, action: Tensor) -> Tensor:
        """[...] -> [...]."""
        return (action + self.start).to(self.action_dtype)

    def from_environment(self, action: Tensor) -> Tensor:
        """[...] -> [...]."""
        return action.long() - self.start


class MultiCategoricalHead(Head):
    """Logits of all the indices of a ``MultiDiscrete`` space, side by side."""

    start: Tensor

    def __init__(self, space: spaces.MultiDiscrete) -> None:
        super().__init__()
        self.sizes = [int(n) for n in space.nvec.flat]
        self.size = sum(self.sizes)
        self.shape = space.shape
        self.action_dtype = _torch_dtype(space)
        start = np.asarray(space.start).astype(np.int64).reshape(-1)
        self.register_buffer("start", torch.from_numpy(start), persistent=False)

    def forward(self, outputs: Tensor) -> MultiCategorical:
        """[..., Σ n] -> MultiCategorical of k indices."""
        return MultiCategorical(
            Joint(tuple(Categorical(logits) for logits in torch.split(outputs, self.sizes, dim=-1)))
        )

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tensor:
        """Uniform on [0, 1): [*shape, k]."""
        return torch.rand((*shape, len(self.sizes)), generator=generator, dtype=dtype, device=device)

    def to_environment(self, action: Tensor) -> Tensor:
        """[..., k] -> [..., *space.shape]."""
        return (action + self.start).to(self.action_dtype).reshape((*action.shape[:-1], *self.shape))

    def from_environment(self, action: Tensor) -> Tensor:
        """[..., *space.shape] -> [..., k]."""
        return action.long().flatten(-len(self.shape)) - self.start


class BernoulliHead(Head):
    """Logits of the bits of a ``MultiBinary`` space."""

    def __init__(self, space: spaces.MultiBinary) -> None:
        super().__init__()
        self.shape = space.shape
        self.size = prod(self.shape)

    def forward(self, outputs: Tensor) -> Bernoulli:
        """[..., n] -> Bernoulli."""
        return Bernoulli(outputs)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tensor:
        """Uniform on [0, 1): [*shape, n]."""
        return torch.rand((*shape, self.size), generator=generator, dtype=dtype, device=device)

    def to_environment(self, action: Tensor) -> Tensor:
        """[..., n] -> int8 [..., *space.shape]."""
        return action.to(torch.int8).reshape((*action.shape[:-1], *self.shape))

    def from_environment(self, action: Tensor) -> Tensor:
        """[..., *space.shape] -> int8 [..., n]."""
        return action.to(torch.int8).flatten(-len(self.shape))


class GaussianHead(Head):
    """Means of a ``Box`` space of floats from the tower, log σ a parameter of its own that does not see the state.

    σ is kept within [exp(−5), exp(2)]; ``initial_log_std`` is where it starts. With ``squash`` the policy's action u is
    squashed to tanh(u) before it is mapped to the bounds, which must all be finite, and never needs clipping.
    """

    low: Tensor
    high: Tensor
    centre: Tensor
    half_range: Tensor

    def __init__(self, space: spaces.Box, initial_log_std: float = -0.5, squash: bool = False) -> None:
        super().__init__()
        if not LOWEST_LOG_STD <= initial_log_std <= HIGHEST_LOG_STD:
            raise UsageError(
                f"initial_log_std must lie in [{LOWEST_LOG_STD:g}, {HIGHEST_LOG_STD:g}], where log σ is bounded; "
                f"got {initial_log_std!r}"
            )
        self.shape = space.shape
        self.size = prod(space.shape)
        self.squash = squash
        self.action_dtype = _torch_dtype(space)
        self.log_std = nn.Parameter(torch.full((self.size,), initial_log_std))
        low, high = _bounds(space)
        bounded = np.isfinite(low) & np.isfinite(high)
        if squash and not bounded.all():
            raise UsageError(
                f"squash needs finite bounds to map actions between, but {int((~bounded).sum())} of the {self.size} "
                f"dimensions of {space} lack one; bound the space, or turn squash off"
            )
        lowest, highest = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)  # unbounded: the identity
        centre, half_range = lowest / 2 + highest / 2, highest / 2 - lowest / 2
        for name, value in {"low": low, "high": high, "centre": centre, "half_range": half_range}.items():
            self.register_buffer(name, torch.from_numpy(value.astype(np.float32)), persistent=False)

    def forward(self, outputs: Tensor) -> Gaussian | SquashedGaussian:
        """[..., A] -> Gaussian, or SquashedGaussian, of the actions flattened to [..., A]."""
        return (SquashedGaussian if self.squash else Gaussian)(outputs, self.bounded_log_std())

    def bounded_log_std(self) -> Tensor:
        """The log σ in use, within its bounds: [A]."""
        bounded: Tensor = _Bounded.apply(self.log_std, LOWEST_LOG_STD, HIGHEST_LOG_STD)  # type: ignore[no-untyped-call]
        return bounded

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: Any) -> Tensor:
        """Standard normal: [*shape, A]."""
        return torch.randn((*shape, self.size), generator=generator, dtype=dtype, device=device)

    def to_environment(self, action: Tensor) -> Tensor:
        """[..., A] -> [..., *space.shape], inside the bounds."""
        unit = action.tanh() if self.squash else action
        scaled = torch.addcmul(self.centre, self.half_range, unit).clamp(self.low, self.high)
        return scaled.to(self.action_dtype).reshape((*action.shape[:-1], *self.shape))

    def from_environment(self, action: Tensor) -> Tensor:
        """[..., *space.shape] -> [..., A]; with ``squash`` the bounds themselves map to large finite values."""
        flat = action.to(self.centre.dtype).reshape(*action.shape[: action.dim() - len(self.shape)], self.size)
        unit = torch.where(self.half_range > 0, (flat - self.centre) / self.half_range, 0.0)
        if not self.squash:
            return unit
        largest = 1 - torch.finfo(unit.dtype).eps
        return unit.clamp(-largest, largest).atanh()


class JointHead(Head):
    """Heads side by side, each given its own share of the outputs; actions are dicts or tuples."""

    def __init__(self, children: Mapping[str, Head] | tuple[Head, ...]) -> None:
        super().__init__()
        self.names = tuple(children) if isinstance(children, Mapping) else None  # None: a tuple
        self.parts = nn.ModuleList(children.values() if isinstance(children, Mapping) else children)
        self.sizes = [head.size for head in self._heads()]
        self.size = sum(self.sizes)

    def forward(self, outputs: Tensor) -> Joint:
        """[..., Σ sizes] -> Joint."""
        shares = torch.split(outputs, self.sizes, dim=-1)
        return Joint(self._assemble([head(share) for head, share in zip(self._heads(), shares, strict=True)]))

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


@singledispatch
def action_head(space: Any, **options: Any) -> Head:
    """The head for an action space; ``initial_log_std`` and ``squash`` reach the Gaussian heads, wherever nested.

    Raises UnsupportedSpace for a space that has none.
    """
    known = ", ".join(sorted(kind.__name__ for kind in action_head.registry if kind is not object))
    raise UnsupportedSpace(
        f"no action head for a {type(space).__name__} space (known: {known}); "
        "write one and register it with @action_head.register"
    )


@action_head.register
def _(space: spaces.Box, *, initial_log_std: float = -0.5, squash: bool = False) -> Head:
    if not np.issubdtype(space.dtype, np.floating):
        raise UnsupportedSpace(
            f"no action head for a Box of {space.dtype}: a Gaussian policy needs a Box of floats; "
            "use MultiDiscrete for integer actions, or round in the environment"
        )
    return GaussianHead(space, initial_log_std, squash)


@action_head.register
def _(space: spaces.Discrete, *, initial_log_std: float = -0.5, squash: bool = False) -> Head:
    return CategoricalHead(space)


@action_head.register
def _(space: spaces.MultiDiscrete, *, initial_log_std: float = -0.5, squash: bool = False) -> Head:
    return MultiCategoricalHead(space)


@action_head.register
def _(space: spaces.MultiBinary, *, initial_log_std: float = -0.5, squash: bool = False) -> Head:
    return BernoulliHead(space)


@action_head.register
def _(space: spaces.Dict, **options: Any) -> Head:
    return JointHead({key: action_head(child, **options) for key, child in space.spaces.items()})


@action_head.register(spaces.Tuple)  # given here: a dispatch cannot read the subscript of spaces.Tuple[Any]
def _(space: spaces.Tuple[Any], **options: Any) -> Head:
    return JointHead(tuple(action_head(child, **options) for child in space.spaces))


class _Bounded(torch.autograd.Function):
    """Clamp whose gradient is withheld only from values outside that descent would push further out.

    Inside the bounds it is the identity, bit for bit. A plain clamp gives no gradient outside either way, and a σ that
    once overshot would stay at its bound for good; this one comes back as soon as the loss asks for it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.low, ctx.high = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        (x,) = ctx.saved_tensors
        outward = ((x < ctx.low) & (gradient > 0)) | ((x > ctx.high) & (gradient < 0))
        return gradient.masked_fill(outward, 0.0), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        """Forwards it is the identity everywhere, as it is backwards for a value that comes back."""
        return tangents[0].clone()


def _bounds(space: spaces.Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Flat bounds, ±inf where there is none; rounded inwards to float32, so that no float32 policy leaves the space."""
    low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
    low = np.where(low <= -NO_BOUND, -np.inf, low)
    high = np.where(high >= NO_BOUND, np.inf, high)
    rounded_low, rounded_high = low.astype(np.float32), high.astype(np.float32)
    rounded_low = np.where(rounded_low < low, np.nextafter(rounded_low, np.float32(np.inf)), rounded_low)
    rounded_high = np.where(rounded_high > high, np.nextafter(rounded_high, np.float32(-np.inf)), rounded_high)
    return rounded_low.astype(np.float64), rounded_high.astype(np.float64)


def _torch_dtype(space: Any) -> torch.dtype:
    return torch.from_numpy(np.zeros(0, space.dtype)).dtype

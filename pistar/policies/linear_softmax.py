"""The linear softmax policy π_θ(a|s) = exp(θᵀ φ(s, a)) / Σ_a' exp(θᵀ φ(s, a')), with ∇ log π = φ(s, a) − E_π[φ(s, ·)].

φ comes from ``pistar.features``: features of the state, once per action, none of them derived from rewards. θ starts at
exactly 0, which is the uniformly random policy; nothing is drawn. It differs from ``MLP`` in that J's dependence on θ runs
through a π(a|s) that is log-concave in it, and that every weight can be read: row f of θ says what feature f makes of each action.

A critic is optional: ``linear`` in the state's own features, or an ``mlp`` on the flattened observation, which it does not
normalise. Left out: learned features, and actions that are not one Discrete choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pistar.errors import UsageError

if TYPE_CHECKING:
    import torch

    from pistar.envs.environment import Spaces
    from pistar.features import FeatureMap
    from pistar.policy import Policy

OPTIONS: dict[str, tuple[str, ...]] = {
    "one-hot": ("bins",),
    "tile-coding": ("tilings", "tiles"),
    "radial-basis": ("centres", "width"),
    "polynomial": ("degree",),
}  # what each map takes besides columns, low and high


@dataclass(frozen=True)
class LinearSoftmax:
    """Preferences linear in fixed features; options of a feature map that is not chosen are refused."""

    summary: ClassVar[str] = "preferences linear in fixed features of state and action, for one discrete choice"

    features: Literal["one-hot", "tile-coding", "radial-basis", "polynomial"] = "tile-coding"  # the map φ(s, a)
    columns: tuple[int, ...] | None = None  # entries of the observation that features see; none: all
    low: tuple[float, ...] | None = None  # lower bound per column, one for all if single; none: the space's
    high: tuple[float, ...] | None = None  # upper bound per column, one for all if single; none: the space's
    bins: tuple[int, ...] | None = None  # one-hot: grid values per column; none: every value of a discrete column
    tilings: int | None = None  # tile-coding: shifted grids, a power of two; none: 8
    tiles: tuple[int, ...] | None = None  # tile-coding: tiles per column; none: 8
    centres: tuple[int, ...] | None = None  # radial-basis: centres per column; none: 5
    width: float | None = None  # radial-basis: deviation in distances of centres; none: 1
    degree: int | None = None  # polynomial: largest total degree; none: 2
    critic: Literal["none", "linear", "mlp"] = "none"  # the value function: none, on the same features, or dense layers
    critic_hidden: tuple[int, ...] = (64, 64)  # units of the mlp critic's hidden layers

    def __post_init__(self) -> None:
        for name, options in OPTIONS.items():
            for option in options:
                if name != self.features and getattr(self, option) is not None:
                    raise UsageError(
                        f"{option} is an option of {name} features, but features is {self.features!r}; drop it, or choose {name!r}"
                    )

    def feature_map(self, spaces: Spaces) -> FeatureMap:
        """φ for these spaces. Raises UnsupportedSpace or UsageError where it cannot be had."""
        # Imported here so that listing policies and settings needs no torch.
        from pistar.features import feature_map

        chosen: dict[str, Any] = {}
        for option in ("columns", "low", "high", *OPTIONS[self.features]):
            value = getattr(self, option)
            if value is not None:
                alone = isinstance(value, tuple) and len(value) == 1 and option != "columns"
                chosen[option] = value[0] if alone else value
        return feature_map(self.features, spaces.observation, spaces.action, **chosen)

    def build(self, spaces: Spaces, generator: torch.Generator) -> Policy:
        """A policy for these spaces, θ = 0; ``generator`` is used by an mlp critic only."""
        from torch import nn

        from pistar.features import LinearOutputs
        from pistar.heads import action_head
        from pistar.networks import FlatEncoder, Tower
        from pistar.policy import ActorCritic

        features = self.feature_map(spaces)
        critic: nn.Module | None = None
        if self.critic == "linear":
            critic = LinearOutputs(features, 1)
        elif self.critic == "mlp":
            encoder = FlatEncoder(spaces.observation, normalize=False)
            critic = nn.Sequential(encoder, Tower((encoder.size, *self.critic_hidden, 1), "tanh", 1.0, generator))
        actor = LinearOutputs(features, features.actions)
        # Features read the observation itself, so that nothing is left for an encoder to do.
        return ActorCritic(spaces, self, nn.Identity(), actor, action_head(spaces.action), critic)

"""Dense actor and critic towers: the policy for vectors of numbers, whatever the action space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pistar import bounds
from pistar.errors import UnknownName, UsageError
from pistar.families import FAMILIES

if TYPE_CHECKING:
    import torch

    from pistar.envs.environment import Spaces
    from pistar.policy import Policy


@dataclass(frozen=True)
class MLP:
    """Separate dense towers for actor and critic over a flattened, normalised observation."""

    summary: ClassVar[str] = "dense actor and critic towers over a flattened, normalised observation"

    hidden: tuple[int, ...] = (64, 64)  # units of the actor's hidden layers
    critic_hidden: tuple[int, ...] | None = None  # units of the critic's hidden layers; none: as the actor
    critic: bool = True  # whether there is a value function
    activation: Literal["tanh", "relu", "elu", "silu"] = "tanh"  # between layers
    last_gain: float = 0.01  # scale of the actor's last layer at the start: small = almost uniform actions
    distribution: str = (
        "gaussian"  # of continuous actions: gaussian, squashed, state-gaussian, beta, gsde or module:Class
    )
    distributions: Mapping[str, str] = field(default_factory=dict)  # of single parts of a composed action, by name
    initial_log_std: float = -0.5  # logarithm of a Gaussian's deviation at the start
    squash: bool = False  # tanh-squashed Gaussian instead of a clipped one: another word for distribution squashed
    redraw: int = 8  # gsde: steps until the exploration matrix is drawn anew; 0: once a rollout
    mask: str | None = (
        None  # entry of a dict observation that is 0 where a discrete choice is forbidden; none: no masks
    )
    normalize: bool = True  # normalise observations by running moments, frozen during a rollout

    def __post_init__(self) -> None:
        bounds.at_least(1, self, "hidden", "critic_hidden")
        bounds.at_least(0, self, "redraw")
        for name in (self.distribution, *self.distributions.values()):
            if name not in FAMILIES.names() and ":" not in name:
                raise UnknownName("distribution", name, FAMILIES.names(), "One of your own is given as module:Class")
        if self.squash and self.distribution not in ("gaussian", "squashed"):
            raise UsageError(
                f"squash is for a Gaussian, but the distribution is {self.distribution!r}; leave squash out"
            )

    def build(self, spaces: Spaces, generator: torch.Generator) -> Policy:
        """A policy for these spaces with weights drawn from ``generator``."""
        # Imported here so that listing policies and settings needs no torch.
        from pistar.heads import action_head, without_mask
        from pistar.networks import FlatEncoder, Tower
        from pistar.policy import ActorCritic

        head = action_head(
            spaces.action,
            distribution=self.distribution,
            parts=self.distributions,
            initial_log_std=self.initial_log_std,
            squash=self.squash,
            redraw=self.redraw,
        )
        encoder = FlatEncoder(without_mask(spaces.observation, self.mask, head), self.normalize)
        sizes = (encoder.size, *self.hidden, head.size)
        actor = Tower(sizes, self.activation, self.last_gain, generator)
        last: Any = actor.layers[-1]
        head.rescale(last.weight, self.last_gain)
        critic = None
        if self.critic:
            hidden = self.hidden if self.critic_hidden is None else self.critic_hidden
            critic = Tower((encoder.size, *hidden, 1), self.activation, 1.0, generator)
        return ActorCritic(spaces, self, encoder, actor, head, critic, self.mask)

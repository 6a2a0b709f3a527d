"""Dense actor and critic towers: the policy for vectors of numbers, whatever the action space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pistar import bounds
from pistar.ranges import searched

if TYPE_CHECKING:
    import torch

    from pistar.envs.environment import Spaces
    from pistar.policy import Policy


@dataclass(frozen=True)
class MLP:
    """Separate dense towers for actor and critic over a flattened, normalised observation."""

    summary: ClassVar[str] = "dense actor and critic towers over a flattened, normalised observation"

    hidden: tuple[int, ...] = searched(
        (64, 64), choices=((32, 32), (64, 64), (128, 128), (256, 256))
    )  # units of the actor's hidden layers
    critic_hidden: tuple[int, ...] | None = None  # units of the critic's hidden layers; none: as the actor
    critic: bool = True  # whether there is a value function
    activation: Literal["tanh", "relu", "elu", "silu"] = searched(
        "tanh", choices=("tanh", "relu", "elu", "silu")
    )  # between layers
    last_gain: float = searched(
        0.01, 0.001, 1.0, scale="log"
    )  # scale of the actor's last layer at the start: small = almost uniform actions
    initial_log_std: float = searched(-0.5, -2.0, 0.5)  # logarithm of a Gaussian's deviation at the start
    squash: bool = False  # tanh-squashed Gaussian instead of a clipped one
    normalize: bool = True  # normalise observations by running moments, frozen during a rollout
    auxiliary_value: bool = False  # a value on the actor's features too; ppg turns it on

    def __post_init__(self) -> None:
        bounds.at_least(1, self, "hidden", "critic_hidden")

    def build(self, spaces: Spaces, generator: torch.Generator) -> Policy:
        """A policy for these spaces with weights drawn from ``generator``."""
        # Imported here so that listing policies and settings needs no torch.
        from pistar.auxiliary import AuxiliaryHead
        from pistar.heads import action_head
        from pistar.networks import FlatEncoder, Tower
        from pistar.policy import ActorCritic

        encoder = FlatEncoder(spaces.observation, self.normalize)
        head = action_head(spaces.action, initial_log_std=self.initial_log_std, squash=self.squash)
        head = AuxiliaryHead(head) if self.auxiliary_value else head
        sizes = (encoder.size, *self.hidden, head.size)
        actor = Tower(sizes, self.activation, self.last_gain, generator)
        critic = None
        if self.critic:
            hidden = self.hidden if self.critic_hidden is None else self.critic_hidden
            critic = Tower((encoder.size, *hidden, 1), self.activation, 1.0, generator)
        return ActorCritic(spaces, self, encoder, actor, head, critic)

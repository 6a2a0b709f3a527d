"""Dense actor and critic towers, whatever the action space, and what may stand before them: the usual policy.

A vector of numbers goes straight into the towers, and native kernels may do the work. Images go through convolutions first,
a memory follows where one is asked for, and actor and critic may see different entries of a Dict observation
(`pistar.assembled`). Any part can be a torch module of your own, by ``module:Class``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pistar import bounds
from pistar.errors import UnknownName, UsageError
from pistar.families import FAMILIES
from pistar.memories import MEMORIES
from pistar.ranges import searched

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pistar.assembled import Trunk
    from pistar.envs.environment import Spaces
    from pistar.heads import Head
    from pistar.policy import Policy


@dataclass(frozen=True)
class MLP:
    """Separate dense towers for actor and critic over a normalised observation, its images and its past."""

    summary: ClassVar[str] = "dense actor and critic towers; convolutions for images, a memory where one is asked for"

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
    distribution: str = "gaussian"  # of Box actions: gaussian, squashed, state-gaussian, beta, gsde or module:Class
    distributions: Mapping[str, str] = field(default_factory=dict)  # of single parts of a composed action, by name
    initial_log_std: float = searched(-0.5, -2.0, 0.5)  # logarithm of a Gaussian's deviation at the start
    squash: bool = False  # tanh-squashed Gaussian instead of a clipped one: another word for distribution squashed
    redraw: int = 8  # gsde: steps until the exploration matrix is drawn anew; 0: once a rollout
    normalize: bool = True  # normalise observations by running moments, frozen during a rollout
    memory: str = "none"  # none, gru, lstm, or module:Class of your own
    memory_size: int = 64  # units of the memory
    segment: int = 16  # steps that a memory is learned over in one piece; the horizon is a multiple of it
    burn_in: int = 0  # steps before each segment that bring its memory up to date first, without gradient
    mask: str | None = None  # entry of the observation that is 0 where a discrete choice is forbidden
    actor_keys: tuple[str, ...] | None = None  # entries of the observation that the actor sees; none: all but the mask
    critic_keys: tuple[str, ...] | None = None  # entries that the critic sees; none: as the actor
    shared: bool | None = None  # whether actor and critic share encoder and memory; none: where they see the same
    images: Literal["convolutions", "flat"] = "convolutions"  # how uint8 boxes of 2 or 3 dimensions are read
    filters: tuple[int, ...] = (32, 64, 64)  # of each layer of convolutions
    kernels: tuple[int, ...] = (8, 4, 3)  # width of each layer's filters, pixels
    strides: tuple[int, ...] = (4, 2, 1)  # of each layer's filters, pixels
    image_features: int = 512  # units of the dense layer behind the convolutions
    encoder_module: str | None = None  # module:Class of your own in the place of the encoder
    actor_module: str | None = None  # module:Class in the place of the actor's tower
    critic_module: str | None = None  # module:Class in the place of the critic's tower
    auxiliary_value: bool = False  # a value on the actor's features too; ppg turns it on

    def __post_init__(self) -> None:
        bounds.at_least(1, self, "hidden", "critic_hidden", "memory_size", "segment", "filters", "kernels", "strides")
        bounds.at_least(1, self, "image_features")
        bounds.at_least(0, self, "burn_in", "redraw")
        for name in (self.distribution, *self.distributions.values()):
            if ":" not in name and name not in FAMILIES.names():
                raise UnknownName("distribution", name, FAMILIES.names(), "One of your own is given as module:Class")
        if self.squash and self.distribution not in ("gaussian", "squashed"):
            raise UsageError(
                f"squash is for a Gaussian, but the distribution is {self.distribution!r}; leave squash out"
            )
        if self.memory != "none" and ":" not in self.memory and self.memory not in MEMORIES.names():
            raise UnknownName(
                "memory", self.memory, ["none", *MEMORIES.names()], "One of your own is given as module:Class"
            )
        if len({len(self.filters), len(self.kernels), len(self.strides)}) > 1:
            raise UsageError(
                f"filters, kernels and strides have an entry for every layer, but there are {len(self.filters)}, "
                f"{len(self.kernels)} and {len(self.strides)} of them"
            )
        if self.shared and self.critic_keys not in (None, self.actor_keys):
            raise UsageError("shared is true, but critic_keys are not actor_keys: what is shared sees the same")

    def modules(self) -> list[str]:
        """Every ``module:Class`` that the settings name: code that a policy file may not import by itself."""
        named = (self.memory, self.encoder_module, self.actor_module, self.critic_module, self.distribution)
        every = dict.fromkeys((*named, *self.distributions.values()))  # each once
        return [name for name in every if name is not None and ":" in name]

    def build(self, spaces: Spaces, generator: torch.Generator) -> Policy:
        """A policy for these spaces with weights drawn from ``generator``."""
        # Imported here so that listing policies and settings needs no torch.
        from pistar.auxiliary import AuxiliaryHead
        from pistar.heads import action_head
        from pistar.images import holds_image
        from pistar.networks import FlatEncoder
        from pistar.policy import ActorCritic

        head = action_head(
            spaces.action,
            distribution=self.distribution,
            parts=self.distributions,
            initial_log_std=self.initial_log_std,
            squash=self.squash,
            redraw=self.redraw,
        )
        head = AuxiliaryHead(head) if self.auxiliary_value else head
        images = self.images == "convolutions" and holds_image(spaces.observation)
        chosen = (self.mask, self.actor_keys, self.critic_keys, self.encoder_module)
        if images or self.memory != "none" or any(each is not None for each in chosen):
            return self._assemble(spaces, head, generator)
        encoder = FlatEncoder(spaces.observation, self.normalize)
        actor, critic = self._towers(encoder.size, encoder.size, head, generator)
        return ActorCritic(spaces, self, encoder, actor, head, critic)

    def _assemble(self, spaces: Spaces, head: Head, generator: torch.Generator) -> Policy:
        from pistar.assembled import AssembledPolicy
        from pistar.heads import require_mask

        if self.mask is not None:
            require_mask(spaces.observation, self.mask, head)
        shared = self.critic_keys in (None, self.actor_keys) if self.shared is None else self.shared
        trunk, own = self._trunk(spaces, self.actor_keys, generator), None
        if self.critic and not shared:
            own = self._trunk(spaces, self.critic_keys or self.actor_keys, generator)
        actor, critic = self._towers(trunk.size, (own or trunk).size, head, generator)
        return AssembledPolicy(
            spaces, self, trunk, actor, head, critic, own, self.mask, segment=self.segment, burn_in=self.burn_in
        )

    def _trunk(self, spaces: Spaces, keys: tuple[str, ...] | None, generator: torch.Generator) -> Trunk:
        from pistar.assembled import Trunk, View
        from pistar.images import Convolutions, MixedEncoder, holds_image
        from pistar.networks import FlatEncoder
        from pistar.registry import load

        view = View(spaces.observation, keys, self.mask)
        encoder: nn.Module
        if self.encoder_module is not None:
            encoder = load(self.encoder_module, "encoder")(view.space, generator)
        elif self.images == "convolutions" and holds_image(view.space):
            layers = Convolutions(self.filters, self.kernels, self.strides, self.image_features)
            encoder = MixedEncoder(view.space, layers, self.normalize, generator)
        else:
            encoder = FlatEncoder(view.space, self.normalize)
        memory = None
        if self.memory != "none":
            memory = MEMORIES.get(self.memory)(encoder.size, self.memory_size, generator)
        return Trunk(view, encoder, memory)

    def _towers(
        self, inputs: int, critic_inputs: int, head: Head, generator: torch.Generator
    ) -> tuple[nn.Module, nn.Module | None]:
        from pistar.networks import Tower
        from pistar.registry import load

        actor: nn.Module
        critic: nn.Module | None = None
        if self.actor_module is not None:
            actor = load(self.actor_module, "actor")(inputs, head.size, generator)
        else:
            actor = Tower((inputs, *self.hidden, head.size), self.activation, self.last_gain, generator)
            last: Any = actor.layers[-1]
            head.rescale(last.weight, self.last_gain)
        if self.critic and self.critic_module is not None:
            critic = load(self.critic_module, "critic")(critic_inputs, 1, generator)
        elif self.critic:
            hidden = self.hidden if self.critic_hidden is None else self.critic_hidden
            critic = Tower((critic_inputs, *hidden, 1), self.activation, 1.0, generator)
        return actor, critic

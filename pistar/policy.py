"""Policies: from observations to distributions over actions, and to values.

Acting is the forward pass with one time step; learning is the same pass over a batch. A policy holds all that is needed
to act again elsewhere: networks, normalisation, and the post-processing from its own actions to the environment's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from pistar.distributions import Distribution
from pistar.envs.environment import Spaces
from pistar.errors import NumericalError, UsageError
from pistar.heads import Head
from pistar.segments import Segments
from pistar.tree import Tree, first_leaf, map_leaves


@dataclass
class Evaluation:
    """What learning asks of a policy for given actions: all [..., N], with gradients."""

    distribution: Distribution
    log_prob: Tensor
    entropy: Tensor
    value: Tensor | None

    def critic_value(self) -> Tensor:
        """V(s); raises UsageError where the policy has no critic."""
        if self.value is None:
            raise UsageError("this algorithm needs a value function; give the policy a critic (--mlp.critic true)")
        return self.value


class Policy(nn.Module, ABC):
    """The contract. ``kind`` is the frozen dataclass that built the policy and can build it again.

    A subclass gives ``parts`` (what the learner optimises, by name), ``outputs`` (the head's inputs), and ``value`` where
    it has a critic. ``memory`` is None for policies that see one observation at a time. A policy with a memory gives
    ``initial_memory`` and ``value_along`` too, and is given `pistar.segments.Segments` in the place of observations
    wherever more than one step is read.
    """

    kind: Any
    spaces: Spaces
    head: Head
    mask: str | None = None  # the entry of the observation that forbids choices, see `Head.forbid`
    segment: int = 1  # steps that are learned from in one piece: 1 without a memory
    burn_in: int = 0  # steps before a segment that bring its memory up to date

    @abstractmethod
    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Named groups of parameters; each parameter in exactly one. Those without gradient are tracked, not trained."""

    @abstractmethod
    def outputs(self, observation: Tree, memory: Tree = None, is_first: Tensor | None = None) -> tuple[Tensor, Tree]:
        """The head's inputs [..., head.size] and the memory after the step."""

    def value(self, observation: Tree) -> Tensor:
        """V(s) [...]; raises UsageError where there is no critic."""
        raise UsageError(f"a {type(self).__name__} policy has no value function, which this algorithm needs")

    def value_along(self, segments: Segments) -> tuple[Tensor, Tree]:
        """V(s) [L, N], and the memory after every step [L, N, ...] as ``value_along`` takes it; with a memory only."""
        raise UsageError(f"a {type(self).__name__} policy has no memory, so it has no values along segments")

    @abstractmethod
    def evaluate(self, observation: Tree, action: Tree) -> Evaluation:
        """Distribution, log-probability, entropy and value for a batch."""

    def absorb(self, observation: Tree, weight: Tensor | None = None) -> None:
        """Move the observation moments with observations [N, ...]; called between an update and the next rollout."""
        return

    def require_finite(self) -> None:
        """Raise NumericalError, naming the first, where a parameter is NaN or infinite: that is nothing to save."""
        for name, parameter in self.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise NumericalError(
                    f"the parameter {name} is not finite: an update was too large for its numbers. Nothing of it was saved "
                    "and the last checkpoint stands; lower the learning rate"
                )

    def constants(self) -> dict[str, Tensor]:
        """Buffers that are not part of its state, by name ("/" between parts): its kind and its spaces say all of them.

        A checkpoint from before one of them was added, or had another name, is whole without it.
        """
        state = self.state_dict()
        return {name.replace(".", "/"): buffer for name, buffer in self.named_buffers() if name not in state}

    def initial_memory(self, lanes: int) -> Tree:
        """The memory at the start of ``lanes`` episodes, [N, ...]; None for a policy without one."""
        return None

    def act(
        self,
        observation: Any,
        memory: Tree = None,
        *,
        deterministic: bool = True,
        generator: torch.Generator | None = None,
    ) -> tuple[Any, Tree]:
        """Choose an action for one observation, or for many along a leading dimension: NumPy in, NumPy out.

        Returns the action in the environment's own units, ready for ``step``, and the memory to pass next time (None for
        policies without one). ``deterministic`` takes the distribution's mode; otherwise a sample is drawn with
        ``generator`` (torch's default one where None).

        Raises UsageError for an observation of the wrong structure, shape or kind, or one that is not finite.
        """
        single, batch = as_batch(self.spaces.observation, observation)
        parameter = next(self.parameters())
        batch = map_leaves(
            lambda x: x.to(parameter.device, parameter.dtype if x.is_floating_point() else x.dtype), batch
        )
        with torch.no_grad():
            outputs, memory = self.outputs(batch, memory)
            distribution = self.head(outputs)
            if deterministic:
                action = distribution.mode()
            else:
                generator = generator or torch.default_generator
                noise = self.head.noise(outputs.shape[:-1], generator, outputs.dtype, outputs.device)
                action = distribution.sample(noise)
            action = self.head.to_environment(action)
        result = as_numpy(self.spaces.action, action)
        return (map_leaves(lambda x: x[0], result) if single else result), memory


class ActorCritic(Policy):
    """An encoder, an actor and an optional critic; actor and critic see the same encoded observation."""

    def __init__(
        self, spaces_: Spaces, kind: Any, encoder: nn.Module, actor: nn.Module, head: Head, critic: nn.Module | None
    ) -> None:
        super().__init__()
        self.spaces, self.kind = spaces_, kind
        self.encoder, self.actor, self.head, self.critic = encoder, actor, head, critic

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """The actor (with the head's own parameters) and, where there is one, the critic."""
        actor = [*self.actor.parameters(), *self.head.parameters()]
        return {"actor": actor} if self.critic is None else {"actor": actor, "critic": list(self.critic.parameters())}

    def outputs(self, observation: Tree, memory: Tree = None, is_first: Tensor | None = None) -> tuple[Tensor, Tree]:
        """Actor outputs [..., head.size]; no memory."""
        return self.actor(self.encoder(observation)), memory

    def value(self, observation: Tree) -> Tensor:
        """V(s) [...]."""
        if self.critic is None:
            return super().value(observation)
        value: Tensor = self.critic(self.encoder(observation))
        return value.squeeze(-1)

    def evaluate(self, observation: Tree, action: Tree) -> Evaluation:
        """One encoding, then both towers."""
        features = self.encoder(observation)
        distribution = self.head(self.actor(features))
        value = None if self.critic is None else self.critic(features).squeeze(-1)
        return Evaluation(distribution, distribution.log_prob(action), distribution.entropy(), value)

    def absorb(self, observation: Tree, weight: Tensor | None = None) -> None:
        """Move the encoder's moments, where it has any."""
        if hasattr(self.encoder, "absorb"):
            self.encoder.absorb(observation, weight)  # type: ignore[operator]


def as_batch(space: spaces.Space[Any], observation: Any) -> tuple[bool, Tree]:
    """A NumPy observation tree as tensors [N, ...]; True where it was a single one."""
    single = bool(first_leaf(_leaf_dims(space, observation, "observation")) == 0)
    return single, _tensors(space, observation, single, "observation")


def _leaf_dims(space: spaces.Space[Any], observation: Any, where: str) -> Tree:
    """How many leading dimensions every leaf has beyond its space."""
    if isinstance(space, spaces.Dict):
        if not isinstance(observation, dict) or set(observation) != set(space.spaces):
            got = sorted(observation) if isinstance(observation, dict) else type(observation).__name__
            raise UsageError(f"{where}: expected a dict with keys {sorted(space.spaces)}, received {got}")
        return {k: _leaf_dims(s, observation[k], f"{where}[{k!r}]") for k, s in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        if not isinstance(observation, tuple | list) or len(observation) != len(space.spaces):
            raise UsageError(f"{where}: expected a tuple of {len(space.spaces)}, received {type(observation).__name__}")
        return tuple(
            _leaf_dims(s, o, f"{where}[{i}]") for i, (s, o) in enumerate(zip(space.spaces, observation, strict=True))
        )
    return np.asarray(observation).ndim - len(space.shape or ())


def _tensors(space: spaces.Space[Any], observation: Any, single: bool, where: str) -> Tree:
    if isinstance(space, spaces.Dict):
        return {k: _tensors(s, observation[k], single, f"{where}[{k!r}]") for k, s in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        pairs = enumerate(zip(space.spaces, observation, strict=True))
        return tuple(_tensors(s, o, single, f"{where}[{i}]") for i, (s, o) in pairs)
    array = np.asarray(observation)
    shape = tuple(space.shape or ())
    received = array.shape if single else array.shape[1:]
    if array.ndim - len(shape) not in (0, 1) or received != shape:
        raise UsageError(
            f"{where}: expected shape {shape} for one or (N, {', '.join(map(str, shape))}) for many, received {array.shape}"
        )
    assert space.dtype is not None
    if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and space.dtype.kind != "f"):
        raise UsageError(f"{where}: expected numbers of kind {space.dtype}, received {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError(f"{where}: expected finite numbers, received NaN or infinity")
    if space.dtype.kind == "f":
        array = array.astype(np.float32 if array.dtype != np.float64 else np.float64)
    elif not isinstance(space, spaces.Box):
        array = array.astype(np.int64)
    return torch.as_tensor(array[None] if single else array)


def as_numpy(space: spaces.Space[Any], action: Tree) -> Any:
    """An action tree of tensors as NumPy arrays in the dtypes of the action space."""
    if isinstance(space, spaces.Dict):
        return {key: as_numpy(child, action[key]) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(as_numpy(child, part) for child, part in zip(space.spaces, action, strict=True))
    return action.cpu().numpy().astype(space.dtype)

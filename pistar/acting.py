"""How a policy acts through a rollout: outputs from observations, actions from noise, and what the environment is given.

The noise of a whole rollout is drawn at once, and the log-probabilities of all T × B actions are computed together
afterwards, from the very outputs that acting used. `of` chooses: any policy acts by its own forward pass, and one that the
native kernels know by one call a step, into memory that is the rollout's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from pistar import segments, turns
from pistar.assembled import AssembledPolicy
from pistar.envs.environment import Step, begins
from pistar.errors import UsageError
from pistar.kernels import network
from pistar.policy import Policy
from pistar.tree import Tree, map_leaves


class Acting(ABC):
    """One rollout at a time: `begin`, then `act` once a step, then `finish`."""

    policy: Policy

    def fits(self) -> bool:
        """Whether the policy, which may have changed since, still acts in this way."""
        return True

    @abstractmethod
    def begin(self, horizon: int, lanes: int, generator: torch.Generator) -> None:
        """Draw the noise; parameters and moments stand still until `finish`."""

    @abstractmethod
    def act(self, t: int, observation: Tree) -> Tree:
        """What the environment is given at step t for observations [B, ...]: [B, ...]."""

    @abstractmethod
    def finish(self) -> tuple[Tree, Tensor]:
        """The actions as sampled [T, B, ...] and their log-probabilities [T, B]."""


class PlainActing(Acting):
    """Any policy."""

    def __init__(self, policy: Policy, device: torch.device) -> None:
        self.policy, self.device = policy, device
        self.noise: Tree = None  # [T, B, ...] of the running rollout
        self._noise: list[Tree] = []
        self._outputs: list[Tensor] = []
        self._actions: list[Tree] = []

    def begin(self, horizon: int, lanes: int, generator: torch.Generator) -> None:
        """Draw the noise."""
        dtype = next(self.policy.parameters()).dtype
        noise = self.noise = self.policy.head.noise((horizon, lanes), generator, dtype, self.device)
        self._noise = [map_leaves(lambda x, t=t: x[t], noise) for t in range(horizon)]
        self._outputs, self._actions = [], []

    def act(self, t: int, observation: Tree) -> Tree:
        """By the policy's own forward pass."""
        outputs, _ = self.policy.outputs(observation)
        return self.take(t, outputs)

    def take(self, t: int, outputs: Tensor) -> Tree:
        """Sample from outputs, and record both."""
        head = self.policy.head
        action = head(outputs).sample(self._noise[t])
        self._outputs.append(outputs)
        self._actions.append(action)
        return head.to_environment(action)

    def took(self, outputs: Tensor, action: Tree) -> None:
        """All steps were taken elsewhere, with this noise: their outputs and actions, [T, B, ...]."""
        self._outputs = list(outputs)
        self._actions = [map_leaves(lambda x, t=t: x[t], action) for t in range(len(outputs))]

    def finish(self) -> tuple[Tree, Tensor]:
        """Stacked."""
        action = map_leaves(lambda *x: torch.stack(x), self._actions[0], *self._actions[1:])
        return action, self.policy.head(torch.stack(self._outputs)).log_prob(action)


class RememberingActing(Acting):
    """A policy with a memory, which goes on from rollout to rollout and is kept where segments begin."""

    def __init__(self, policy: Policy, device: torch.device) -> None:
        self.policy, self._plain = policy, PlainActing(policy, device)
        # What follows the memory may be what the kernels know.
        behind = policy.behind_memory() if type(policy) is AssembledPolicy and device.type == "cpu" else None
        made = None if behind is None or "outputs" in vars(policy) else network.of(behind)
        self._native = None if made is None else NativeActing(made)
        self.in_turn = False  # whether agents act in turn: then the memory waits, and is kept before every step
        self.memory: Tree = None  # [B, ...] after the last step; None: all lanes begin an episode
        self._before: Tree = None  # before it
        self._begins: Tensor | None = None  # [B] where the next step begins an episode; None: nowhere
        self._kept: dict[int, Tree] = {}  # step -> the memory before it
        self._starts: list[int] = []  # the steps before which it is kept, by segment

    def fits(self) -> bool:
        """Whether the native half, where there is one, still does what the policy does."""
        return self._native is None or (self._native.fits() and "outputs" not in vars(self.policy))

    def recall(self, memory: Tree, is_first: Tensor) -> None:
        """Go on from ``memory`` [B, ...] (None: that of starts), zeroed where ``is_first`` [B]; before `begin`."""
        self.memory = memory
        self.forget(is_first)

    def follow(self, step: Step) -> None:
        """What a step means to the memory: episodes begin, and the turns of others do not count."""
        if self.in_turn:
            self.memory = turns.held(step, self.memory, self._before)
            self.forget(turns.still_to_begin(step, self._begins))
        else:
            self.forget(begins(step))

    def forget(self, begins: Tensor) -> None:
        """The next step begins an episode on these lanes, [B] bool."""
        self._begins = begins if begins.device.type != "cpu" or bool(begins.any()) else None

    def begin(self, horizon: int, lanes: int, generator: torch.Generator) -> None:
        """Draw the noise; raises UsageError where the rollout does not hold whole segments."""
        length = self.policy.segment
        if horizon % length != 0 and not self.in_turn:
            raise UsageError(
                f"a horizon of {horizon} steps does not hold whole segments of {length}; expected a multiple, such as "
                f"{-(-horizon // length) * length}: change --horizon, or the policy's segment"
            )
        if self.memory is None:
            self.memory = self.policy.initial_memory(lanes)
        starts = range(horizon // length)
        self._starts = [segments.start_of(k, length, self.policy.burn_in) for k in starts]
        if self.in_turn:
            self._starts = list(range(horizon))
        self._kept = {}
        (self._native or self._plain).begin(horizon, lanes, generator)

    def act(self, t: int, observation: Tree) -> Tree:
        """By the policy's own forward pass of one step."""
        if self.in_turn or t in self._starts:
            self._kept[t] = self.memory
        self._before = self.memory
        if self._native is not None:
            assert isinstance(self.policy, AssembledPolicy)
            features, self.memory = self.policy.remember(observation, self.memory, self._begins)
            return self._native.act(t, features)
        outputs, self.memory = self.policy.outputs(observation, self.memory, self._begins)
        return self._plain.take(t, outputs)

    def finish(self) -> tuple[Tree, Tensor]:
        """Stacked."""
        return (self._native or self._plain).finish()

    def memories(self) -> Tree:
        """The memory where segments begin: [T/L, B, ...]; where agents act in turn, before every step: [T, B, ...]."""
        kept = [self._kept[t] for t in self._starts]
        return map_leaves(lambda *x: torch.stack(x), kept[0], *kept[1:])


class NativeActing(Acting):
    """A policy that the kernels know: every step is one call that writes its row of the rollout."""

    def __init__(self, made: network.Network) -> None:
        self.network, self.policy = made, made.policy
        self._act, self._handle = made.native.network_act, made.handle
        head: Any = made.policy.head
        self._start = 0 if made.gaussian else int(head.start)
        self._dtype: torch.dtype = head.action_dtype
        self._shape: tuple[int, ...] = tuple(made.policy.spaces.action.shape or ())

    def fits(self) -> bool:
        """See `network.fits`."""
        return network.fits(self.policy)

    def begin(self, horizon: int, lanes: int, generator: torch.Generator) -> None:
        """Draw the noise, and make room."""
        made = self.network
        made.take()
        self._noise = made.policy.head.noise((horizon, lanes), generator, torch.float32, torch.device("cpu"))
        self._outputs = torch.empty((horizon, lanes, made.outputs), dtype=torch.float32)
        if made.gaussian:
            self._action, executed = (
                torch.empty((horizon, lanes, made.outputs), dtype=torch.float32),
                torch.empty((horizon, lanes, made.outputs), dtype=torch.float32),
            )
        else:
            self._action = torch.empty((horizon, lanes), dtype=torch.int64)
            executed = self._action
        self._executed = executed.view(horizon, lanes, *self._shape).unbind(0)
        self._seen = (lanes, made.inputs)
        self._lanes, arrays = lanes, (self._noise, self._outputs, self._action, executed)
        self._places = [array.data_ptr() for array in arrays]
        self._strides = [array.stride(0) * array.element_size() for array in arrays]

    def act(self, t: int, observation: Tree) -> Tree:
        """One call."""
        if observation.dtype != torch.float32 or observation.shape != self._seen:
            raise UsageError(
                f"observations of shape {tuple(observation.shape)} and {observation.dtype}, expected float32 of shape "
                f"{self._seen}, as the policy's observation space says; correct the environment's space or its observations"
            )
        observation = observation.contiguous()  # named, so that it lives until the call has read it
        (noise, outputs, action, executed), (a, b, c, d) = self._places, self._strides
        self._act(
            self._handle,
            self._lanes,
            observation.data_ptr(),
            noise + a * t,
            outputs + b * t,
            action + c * t,
            executed + d * t,
        )
        result = self._executed[t]
        if self._start:
            result = result + self._start
        return result if result.dtype == self._dtype else result.to(self._dtype)

    def finish(self) -> tuple[Tree, Tensor]:
        """What the calls have written."""
        return self._action, self.policy.head(self._outputs).log_prob(self._action)


def of(policy: Policy, device: torch.device) -> Acting:
    """How this policy acts in an environment on that device."""
    if policy.initial_memory(1) is not None:
        return RememberingActing(policy, device)
    made = network.of(policy) if device.type == "cpu" else None
    return PlainActing(policy, device) if made is None else NativeActing(made)

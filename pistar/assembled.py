"""The actor-critic of chosen parts: for each tower the entries of the observation that it sees, their encoder, a memory.

It differs from `policy.ActorCritic`, which is two dense towers on one flat vector and all that the native kernels know, by
what may stand before the towers (`Trunk`) and by masks. Actor and critic share a trunk, or have one each: then they may see
different entries of the observation, as where a critic is told in training what an actor will not know.

Acting is one step with the memory before it; learning is the same over `pistar.segments`, with the memory zeroed where an
episode begins. A mask is an entry of the observation that no encoder sees: `Head.forbid` takes from the distribution what
it forbids, in acting and in learning alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from pistar.envs.environment import Spaces
from pistar.errors import UsageError
from pistar.heads import Head
from pistar.memories.memory import Memory, forget
from pistar.networks import FlatEncoder
from pistar.policy import ActorCritic, Evaluation, Policy
from pistar.segments import Segments, advanced
from pistar.tree import Tree, first_leaf, map_leaves


class Trunk(nn.Module):
    """Observation -> features: chosen entries, encoded, and remembered where there is a memory."""

    def __init__(self, view: View, encoder: nn.Module, memory: Memory | None) -> None:
        super().__init__()
        self.view, self.encoder, self.memory = view, encoder, memory
        self.size = int(encoder.size if memory is None else memory.size)  # type: ignore[arg-type]

    def forward(self, observation: Tree, state: Tree = None, is_first: Tensor | None = None) -> tuple[Tensor, Tree]:
        """One step [N, ...], or [..., leaf] without a memory: features, and the state after it."""
        x = self.encoder(self.view(observation))
        if self.memory is None:
            return x, None
        y, after = self.memory.step(x, state if is_first is None else forget(state, is_first))
        return y, after

    def along(self, segments: Segments, state: Tree) -> tuple[Tensor, Tree]:
        """Segments: features [L, N, size] and the state after every step [L, N, ...]."""
        assert self.memory is not None
        if segments.earlier is not None:
            state = self._brought_up_to_date(segments, state)
        x = self.encoder(self.view(segments.observation))
        late = segments.late
        if late is None:
            y, states = self.memory(x, state, segments.is_first)
            return y, states
        y, states = self.memory(advanced(x, late), state, advanced(segments.is_first, late))
        return advanced(y, late, back=True), map_leaves(lambda s: advanced(s, late, back=True), states)

    def _brought_up_to_date(self, segments: Segments, state: Tree) -> Tree:
        """The state after burn-in; a step that is not there changes nothing."""
        assert self.memory is not None
        assert segments.earlier_first is not None
        assert segments.earlier_real is not None
        with torch.no_grad():
            x = self.encoder(self.view(segments.earlier))
            for now, begins, real in zip(x, segments.earlier_first, segments.earlier_real, strict=True):
                after = self.memory.step(now, forget(state, begins & real))[1]
                state = map_leaves(
                    lambda new, old, real=real: torch.where(real.view(-1, *[1] * (new.dim() - 1)), new, old),
                    after,
                    state,
                )
        return state

    def absorb(self, observation: Tree, weight: Tensor | None) -> None:
        """Move the encoder's moments, where it has any."""
        if hasattr(self.encoder, "absorb"):
            self.encoder.absorb(self.view(observation), weight)  # type: ignore[operator]


class View:
    """The entries of a Dict observation that a tower sees; a single one stands for itself. All, where it is no Dict."""

    def __init__(self, space: spaces.Space[Any], keys: tuple[str, ...] | None, hidden: str | None) -> None:
        self.space, self.keys = space, keys
        if not isinstance(space, spaces.Dict):
            if keys is not None or hidden is not None:
                raise UsageError(
                    f"keys and masks choose entries of a Dict observation, but this one is a {type(space).__name__}; leave them out"
                )
            return
        known = list(space.spaces)
        for key in (*(keys or ()), *([] if hidden is None else [hidden])):
            if key not in known:
                raise UsageError(f"the observation has no entry {key!r} (it has {', '.join(known)}); name one of these")
        chosen = [key for key in known if key != hidden and (keys is None or key in keys)]
        if not chosen:
            raise UsageError("nothing is left of the observation to see; choose more keys")
        self.keys = tuple(chosen)
        self.space = space[chosen[0]] if len(chosen) == 1 else spaces.Dict({key: space[key] for key in chosen})

    def __call__(self, observation: Tree) -> Tree:
        """What is seen of an observation tree."""
        if self.keys is None:
            return observation
        if len(self.keys) == 1:
            return observation[self.keys[0]]
        return {key: observation[key] for key in self.keys}


class AssembledPolicy(Policy):
    """``critic_trunk`` is None where actor and critic share ``trunk``; ``mask`` names the observation's mask."""

    def __init__(
        self,
        spaces_: Spaces,
        kind: Any,
        trunk: Trunk,
        actor: nn.Module,
        head: Head,
        critic: nn.Module | None,
        critic_trunk: Trunk | None = None,
        mask: str | None = None,
        segment: int = 1,
        burn_in: int = 0,
    ) -> None:
        super().__init__()
        self.spaces, self.kind, self.mask = spaces_, kind, mask
        self.trunk, self.actor, self.head = trunk, actor, head
        self.critic, self.critic_trunk = critic, critic_trunk
        if trunk.memory is not None:
            self.segment, self.burn_in = segment, burn_in

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """The actor with all that acting takes, a shared trunk included; the critic with what serves values alone."""
        actor = [*self.trunk.parameters(), *self.actor.parameters(), *self.head.parameters()]
        if self.critic is None:
            return {"actor": actor}
        own = [] if self.critic_trunk is None else list(self.critic_trunk.parameters())
        return {"actor": actor, "critic": [*own, *self.critic.parameters()]}

    def initial_memory(self, lanes: int) -> Tree:
        """The trunks' own, by the tower that they serve; None without a memory."""
        if self.trunk.memory is None:
            return None
        made = {"actor": self.trunk.memory.initial(lanes)}
        if self.critic_trunk is not None and self.critic_trunk.memory is not None:
            made["critic"] = self.critic_trunk.memory.initial(lanes)
        return made

    def outputs(self, observation: Tree, memory: Tree = None, is_first: Tensor | None = None) -> tuple[Tensor, Tree]:
        """Actor outputs, forbidden choices taken out, and the memory after the step.

        One step [N, ...] with the memory before it (None: at the start of episodes), zeroed where ``is_first`` [N]; or
        `Segments`, which hold both: then [L, N, head.size], and no memory is returned.
        """
        if isinstance(observation, Segments):
            features, _ = self.trunk.along(observation, observation.start()["actor"])
            return self._allowed(self.actor(features), observation.observation), None
        if self.trunk.memory is None:
            features, _ = self.trunk(observation)
            return self._allowed(self.actor(features), observation), None
        features, after = self.remember(observation, memory, is_first)
        return self._allowed(self.actor(features), observation), after

    def remember(self, observation: Tree, memory: Tree, is_first: Tensor | None) -> tuple[Tensor, Tree]:
        """One step without the tower behind it: what the actor's tower sees [N, ...], and the memory after the step."""
        if memory is None:
            memory = self.initial_memory(first_leaf(observation).shape[0])
        features, after = self.trunk(observation, memory["actor"], is_first)
        made = {"actor": after}
        if "critic" in memory:  # the critic's goes along, so that it is right where segments begin
            assert self.critic_trunk is not None
            made["critic"] = self.critic_trunk(observation, memory["critic"], is_first)[1]
        return features, made

    def behind_memory(self) -> ActorCritic | None:
        """The dense towers as a policy of their own whose observations are the memory's features; None with a mask.

        It shares its modules with this one, so that acting may leave to it what follows `remember`.
        """
        if self.trunk.memory is None or self.mask is not None:
            return None
        space = spaces.Box(-np.inf, np.inf, (self.trunk.size,), np.float32)
        encoder = FlatEncoder(space, normalize=False)
        return ActorCritic(Spaces(space, self.spaces.action), None, encoder, self.actor, self.head, None)

    def _allowed(self, outputs: Tensor, observation: Tree) -> Tensor:
        return outputs if self.mask is None else self.head.forbid(outputs, observation[self.mask])

    def _features(self, observation: Tree, tower: str) -> tuple[Tensor, Tree]:
        """One tower's features, and the states after every step of segments."""
        trunk = self.critic_trunk if tower == "critic" and self.critic_trunk is not None else self.trunk
        if trunk.memory is None:
            features: Tensor = trunk(observation)[0]
            return features, None
        if not isinstance(observation, Segments):
            raise UsageError(
                "this policy has a memory and reads steps in their order; give it `batch.observation` or "
                "`rollout.sequence()`, not the bare observations"
            )
        return trunk.along(observation, observation.start()["actor" if trunk is self.trunk else "critic"])

    def value(self, observation: Tree) -> Tensor:
        """V(s): [...], or [L, N] for segments."""
        if self.critic is None:
            return super().value(observation)
        value: Tensor = self.critic(self._features(observation, "critic")[0])
        return value.squeeze(-1)

    def value_along(self, segments: Segments) -> tuple[Tensor, Tree]:
        """V(s) [L, N], and the memory after every step as `value_along` goes on from it: [L, N, ...]."""
        if self.critic is None:
            return super().value(segments), None
        features, states = self._features(segments, "critic")
        return self.critic(features).squeeze(-1), {"actor" if self.critic_trunk is None else "critic": states}

    def evaluate(self, observation: Tree, action: Tree) -> Evaluation:
        """Features once where they are shared, then both towers."""
        features, _ = self._features(observation, "actor")
        seen = observation.observation if isinstance(observation, Segments) else observation
        distribution = self.head(self._allowed(self.actor(features), seen))
        value = None
        if self.critic is not None:
            if self.critic_trunk is not None:
                features, _ = self._features(observation, "critic")
            value = self.critic(features).squeeze(-1)
        return Evaluation(distribution, distribution.log_prob(action), distribution.entropy(), value)

    def absorb(self, observation: Tree, weight: Tensor | None = None) -> None:
        """Move the moments of both trunks."""
        self.trunk.absorb(observation, weight)
        if self.critic_trunk is not None:
            self.critic_trunk.absorb(observation, weight)

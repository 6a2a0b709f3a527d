"""The record of experience: T steps of B lanes, time first, exactly as they were lived.

Observations are stored as the environment gave them; normalisation happens inside the policy, so that a rollout means the
same whatever the moments are. `Batch` is what a loss sees of it: single steps, or segments where the policy has a memory
(`pistar.segments`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pistar import segments
from pistar.tree import Tree, first_leaf, map_leaves

if TYPE_CHECKING:
    from pistar.distributions import Distribution
    from pistar.policy import Policy


@dataclass
class Rollout:
    """T × B steps. ``log_prob`` is what the acting path itself used, not a later re-evaluation."""

    observation: Tree  # [T, B, ...] what the action was chosen from
    action: Tree  # [T, B, ...] as sampled, before post-processing for the environment
    log_prob: Tensor  # [T, B] of the action under the policy that acted
    reward: Tensor  # [T, B] as learned from (scaled where rewards are normalised)
    terminated: Tensor  # [T, B] bool
    truncated: Tensor  # [T, B] bool
    is_first: Tensor  # [T, B] bool: the step begins an episode, memory starts anew
    weight: Tensor | None  # [T, B] 1, or 0 where the backend ignored the action; None: all count
    last_observation: Tree  # [B, ...] after the last step (after a reset where the lane ended)
    final_observation: Tree  # [K, ...] before the reset, of the K steps that ended an episode
    final_index: Tensor  # [K] int64 position t · B + b of those steps
    memory: Tree = None  # [T/L, B, ...] the policy's memory where segments of L steps begin; None: it has none
    burn_in: int = (
        0  # steps before each segment that memory is brought up to date with; ``memory`` is that before these
    )
    late: Tensor | None = (
        None  # [T/L, B] int64 rows of padding in front of a segment, which ``memory`` skips; None: none
    )
    version: Tensor | None = None  # [T, B] int64 updates behind the acting parameters; None: those that learn from it
    streams: dict[str, Tensor] = dataclasses.field(default_factory=dict)  # further rewards, name -> [T, B]

    @property
    def ended(self) -> Tensor:
        """[T, B] bool: the episode ended with this step, for whichever reason."""
        return self.terminated | self.truncated

    @property
    def shape(self) -> tuple[int, int]:
        """(T, B)."""
        return self.reward.shape[0], self.reward.shape[1]

    @property
    def segment(self) -> int:
        """Steps in a segment; 1 where the policy has no memory."""
        return 1 if self.memory is None else self.shape[0] // int(first_leaf(self.memory).shape[0])

    def sequence(self) -> Tree:
        """All steps as ``policy.evaluate`` and ``policy.value`` read them in their order: [T, B, ...], or one segment."""
        if self.memory is None:
            return self.observation
        start = map_leaves(lambda x: x[:1], self.memory)
        late = None if self.late is None else self.late.sum(0, keepdim=True)
        return segments.Segments(self.observation, self.is_first, start, late=late)

    def values(self, policy: Policy) -> tuple[Tensor, Tensor]:
        """V(s_t) and V(s_{t+1}), each [T, B], without gradient, in one pass of the critic.

        The successor of a step that ended an episode is its final observation, never the start of the next episode, and is
        read with the memory before the reset.
        """
        if self.memory is not None:
            return segments.values(self, policy)
        steps, lanes = self.shape
        flat = map_leaves(lambda x: x.flatten(0, 1), self.observation)
        everything = map_leaves(lambda *x: torch.cat(x), flat, self.last_observation, self.final_observation)
        with torch.no_grad():
            value = policy.value(everything)
        return self._here_and_after(value[: steps * lanes], value[steps * lanes :])

    def _here_and_after(self, value: Tensor, beyond: Tensor) -> tuple[Tensor, Tensor]:
        """V(s_t) and V(s_{t+1}), [T, B], from those of all steps [T · B] and of last and final observations [B + K]."""
        lanes = self.shape[1]
        after = torch.cat((value[lanes:], beyond[:lanes]))
        after[self.final_index] = beyond[lanes:]
        return value.view(self.shape), after.view(self.shape)

    def values_and_log_probs(self, policy: Policy) -> tuple[Tensor, Tensor, Tensor]:
        """What ``values`` and ``log_probs`` give, in one pass of what actor and critic share: three of [T, B].

        A policy without a critic raises UsageError.
        """
        if self.memory is not None:
            return *self.values(policy), self.log_probs(policy)
        steps = self.batch(self.reward, self.reward)  # as losses see them; what is estimated does not matter here
        beyond = map_leaves(lambda *x: torch.cat(x), self.last_observation, self.final_observation)
        with torch.no_grad():
            now, behind = policy.evaluate(steps.observation, steps.action), policy.value(beyond)
        return *self._here_and_after(now.critic_value(), behind), now.log_prob.view(self.shape)

    def log_probs(self, policy: Policy) -> Tensor:
        """Log π(a|s) under ``policy``, which need not be the one that acted: [T, B], without gradient."""
        steps = self.batch(self.reward, self.reward)  # as losses see them; what is estimated does not matter here
        with torch.no_grad():
            log_prob = policy.evaluate(steps.observation, steps.action).log_prob
        return (
            log_prob.view(self.shape) if self.memory is None else segments.joined(log_prob, self.segment, self.shape[1])
        )

    def batch(self, advantage: Tensor, target: Tensor, weight: Tensor | None = None) -> Batch:
        """All T × B steps with what was estimated for them, flattened to [T · B, ...], or as segments [L, T/L · B, ...]."""
        weight = self.weight if weight is None else weight
        if self.memory is not None:
            length = self.segment
            seen = segments.of_steps(self.observation, self.is_first, self.memory, length, self.burn_in, self.late)
            rest = Batch(None, self.action, self.log_prob, advantage, target, weight)
            made: Batch = map_leaves(lambda x: segments.cut(x, length), rest)
            made.observation = seen
            return made
        steps = Batch(self.observation, self.action, self.log_prob, advantage, target, weight)
        flat: Batch = map_leaves(lambda x: x.flatten(0, 1), steps)
        return flat

    def arranged(self, tree: Tree) -> Tree:
        """Anything of every step [T, B, ...] in the order of ``batch``: [T · B, ...], or [L, T/L · B, ...] as segments."""
        if self.memory is None:
            return map_leaves(lambda x: x.flatten(0, 1), tree)
        return map_leaves(lambda x: segments.cut(x, self.segment), tree)

    def unfinished(self) -> Rollout | None:
        """The last steps of the lanes whose episode still runs, or None where all have just ended.

        As long as the longest of them; earlier steps of the other lanes get weight 0.
        """
        steps = self.shape[0]
        running = (self.ended.flip(0).cumsum(0).flip(0) == 0) & (self.is_first.cumsum(0) > 0)  # [T, B]
        length = int(running.sum(0).max())
        if length == 0:
            return None
        length += -length % self.segment  # memory is known where segments begin
        cut = slice(steps - length, steps)
        weight = running[cut].to(self.reward.dtype)
        if self.weight is not None:
            weight = weight * self.weight[cut]

        def tail(x: Tensor) -> Tensor:
            return x[cut].clone()

        return Rollout(
            observation=map_leaves(tail, self.observation),
            action=map_leaves(tail, self.action),
            log_prob=tail(self.log_prob),
            reward=tail(self.reward),
            terminated=tail(self.terminated),
            truncated=tail(self.truncated),
            is_first=tail(self.is_first),
            weight=weight,
            last_observation=map_leaves(torch.clone, self.last_observation),
            final_observation=map_leaves(lambda x: x[:0].clone(), self.final_observation),
            final_index=self.final_index[:0].clone(),
            memory=map_leaves(lambda x: x[-(length // self.segment) :].clone(), self.memory),
            burn_in=self.burn_in,
            late=map_leaves(lambda x: x[-(length // self.segment) :].clone(), self.late),
            version=None if self.version is None else tail(self.version),
        )

    def after(self, earlier: Rollout) -> Rollout:
        """One rollout of the steps of ``earlier`` (an ``unfinished`` tail) followed by these."""

        def join(x: Tensor, y: Tensor) -> Tensor:
            return torch.cat((x, y))

        weights = [r.reward.new_ones(r.shape) if r.weight is None else r.weight for r in (earlier, self)]
        return Rollout(
            observation=map_leaves(join, earlier.observation, self.observation),
            action=map_leaves(join, earlier.action, self.action),
            log_prob=join(earlier.log_prob, self.log_prob),
            reward=join(earlier.reward, self.reward),
            terminated=join(earlier.terminated, self.terminated),
            truncated=join(earlier.truncated, self.truncated),
            is_first=join(earlier.is_first, self.is_first),
            weight=torch.cat(weights),
            last_observation=self.last_observation,
            final_observation=self.final_observation,
            final_index=self.final_index + earlier.reward.numel(),
            memory=map_leaves(join, earlier.memory, self.memory),
            burn_in=self.burn_in,
            late=map_leaves(join, earlier.late, self.late),
            version=None if self.version is None or earlier.version is None else join(earlier.version, self.version),
        )

    def to_state(self) -> dict[str, Any]:
        """The fields that are set, by name, as checkpoints hold them."""
        return _set_fields(self)

    @staticmethod
    def from_state(state: dict[str, Any]) -> Rollout:
        """The inverse of ``to_state``."""
        return Rollout(**{"weight": None, **state})

    def next_observation(self) -> Tree:
        """[T, B, ...] the successor of every step, final observations in their places."""

        def successor(observation: Tensor, last: Tensor, final: Tensor) -> Tensor:
            after = torch.cat((observation[1:], last.unsqueeze(0)))
            after.flatten(0, 1)[self.final_index] = final
            return after

        return map_leaves(successor, self.observation, self.last_observation, self.final_observation)


@dataclass
class Batch:
    """What a loss is computed on: N steps, or L × N for segments of L, with what was estimated for each."""

    observation: Tree  # [..., N, ...]
    action: Tree
    log_prob: Tensor  # of the acting policy
    advantage: Tensor
    target: Tensor  # of the value function
    weight: Tensor | None = None  # 0 silences a step; None: all count
    old: Distribution | None = None  # of the acting policy, where an algorithm keeps it; [..., N, n] in every leaf

    def minibatches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """One pass over all steps in random order, ``size`` at a time (the last one may be smaller).

        Of segments, as many whole ones as ``size`` steps hold, at least one.
        """
        if isinstance(self.observation, segments.Segments):
            yield from self._some_segments(size, generator)
            return
        count = self.advantage.shape[0]
        order = torch.randperm(count, generator=generator, device=generator.device)
        shuffled: Batch = map_leaves(lambda x: list(x.index_select(0, order).split(size)), self)
        for index in range(-(-count // size)):
            yield map_leaves(lambda parts, index=index: parts[index], shuffled)

    def _some_segments(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        length, count = self.advantage.shape
        order = torch.randperm(count, generator=generator, device=generator.device)
        for chosen in torch.split(order, max(1, size // length)):
            yield map_leaves(lambda x, chosen=chosen: x.index_select(1, chosen), self)

    def to_state(self) -> dict[str, Any]:
        """The fields that are set, by name, as checkpoints hold them; every step has its weight, 1 where all count."""
        weight = self.target.new_ones(self.target.shape) if self.weight is None else self.weight
        state = _set_fields(dataclasses.replace(self, weight=weight))
        if isinstance(self.observation, segments.Segments):
            state["segments"] = _set_fields(state.pop("observation"))
        return state

    @staticmethod
    def joined(states: Iterable[dict[str, Any]]) -> Batch:
        """One batch of all the steps, or of all the segments, of which ``to_state`` gave ``states``."""
        batches = []
        for state in states:
            fields = dict(state)
            if "segments" in fields:
                fields["observation"] = segments.Segments(**fields.pop("segments"))
            batches.append(Batch(**fields))
        along = 1 if isinstance(batches[0].observation, segments.Segments) else 0
        whole: Batch = map_leaves(lambda *x: torch.cat(x, along), *batches)
        return whole


def _set_fields(record: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not None, by name."""
    fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return {name: value for name, value in fields.items() if value is not None}

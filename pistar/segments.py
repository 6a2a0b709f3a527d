"""Stretches of consecutive steps, which a policy with a memory reads in order: what its batches hold as observations.

A batch of single steps has observations [N, ...]. A memory needs more: the order of steps, where episodes begin, and what
it knew before the first of them. `Segments` is all that in the place of the observations, so that
``policy.evaluate(batch.observation, batch.action)`` means the same with and without a memory, and no algorithm asks which
it is. Memory is stored where segments begin and carries no gradient: backpropagation through time ends there.

Burn-in (Kapturowski et al. 2019, section 3): the memory may be brought up to date from some steps before the segment, with
the parameters as they now are and without gradient, instead of being taken as it was when acting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pistar.tree import Tree, map_leaves

if TYPE_CHECKING:
    from pistar.policy import Policy
    from pistar.rollout import Rollout


@dataclass
class Segments:
    """N stretches of L steps. Every leaf has N as its second dimension, so that picking segments is one index."""

    observation: Tree  # [L, N, ...]
    is_first: Tensor  # [L, N] bool: memory starts anew before the step
    memory: Tree  # [1, N, ...] before the first step that is read: the first of ``earlier``, where there are such
    earlier: Tree = None  # [K, N, ...] the K observations before, for burn-in
    earlier_first: Tensor | None = None  # [K, N] bool
    earlier_real: Tensor | None = None  # [K, N] bool: False where the rollout began later than K steps before
    late: Tensor | None = None  # [1, N] int64 rows of padding in front, after which ``memory`` holds; None: nowhere

    def start(self) -> Tree:
        """The memory before the first step, as stored: [N, ...]."""
        return map_leaves(lambda x: x[0], self.memory)


def cut(x: Tensor, length: int) -> Tensor:
    """Steps [T, B, ...] as segments [L, T/L · B, ...]: lanes of the first L steps, then lanes of the next, and so on."""
    steps, lanes, *rest = x.shape
    return x.view(steps // length, length, lanes, *rest).transpose(0, 1).reshape(length, -1, *rest)


def of_steps(
    observation: Tree, is_first: Tensor, memory: Tree, length: int, burn_in: int, late: Tensor | None = None
) -> Segments:
    """Segments of T × B steps; ``memory`` [T/L, B, ...] is what `start_of` says of each, and ``late`` [T/L, B] their padding.

    T must be a multiple of ``length``.
    """
    made = Segments(
        map_leaves(lambda x: cut(x, length), observation),
        cut(is_first, length),
        map_leaves(lambda x: x.flatten(0, 1).unsqueeze(0), memory),
    )
    if late is not None:
        made.late = late.flatten().unsqueeze(0)
    if burn_in > 0:
        steps = is_first.shape[0]
        begins = torch.arange(0, steps, length, device=is_first.device)
        rows = begins.unsqueeze(0) + torch.arange(-burn_in, 0, device=is_first.device).unsqueeze(1)  # [K, T/L]

        def before(x: Tensor) -> Tensor:
            return x[rows.clamp(min=0)].flatten(1, 2)

        made.earlier = map_leaves(before, observation)
        made.earlier_first = before(is_first)
        made.earlier_real = (rows >= 0).unsqueeze(-1).expand(-1, -1, is_first.shape[1]).flatten(1, 2)
        if late is not None:
            padding = torch.arange(length, device=late.device).view(1, -1, 1) < late.unsqueeze(1)
            made.earlier_real = made.earlier_real & ~before(padding.flatten(0, 1))
    return made


def advanced(x: Tensor, late: Tensor, back: bool = False) -> Tensor:
    """[L, N, ...] with every segment's padding moved from its front to its end, where no memory minds it; or back."""
    steps = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    index = (steps - late if back else steps + late) % x.shape[0]
    return x.gather(0, index.view(*index.shape, *[1] * (x.dim() - 2)).expand_as(x))


def start_of(number: int, length: int, burn_in: int) -> int:
    """The step before which the memory of a rollout's segment is stored: its first, or the first of its burn-in."""
    return max(number * length - burn_in, 0)


def joined(x: Tensor, length: int, lanes: int) -> Tensor:
    """The inverse of `cut`: [L, T/L · B, ...] -> [T, B, ...]."""
    return x.view(length, -1, lanes, *x.shape[2:]).transpose(0, 1).reshape(-1, lanes, *x.shape[2:])


def values(rollout: Rollout, policy: Policy) -> tuple[Tensor, Tensor]:
    """V(s_t) and V(s_{t+1}) [T, B] as losses see them: segment by segment, each from the memory that is stored of it.

    So all segments are read at once. What follows the last step of the rollout or of an episode is read with the memory
    after that step; for an episode's final observation, that is the one before the reset.
    """
    (steps, lanes), length = rollout.shape, rollout.segment
    here = of_steps(rollout.observation, rollout.is_first, rollout.memory, length, rollout.burn_in, rollout.late)
    last = torch.arange((steps - 1) * lanes, steps * lanes, device=rollout.reward.device)
    index = torch.cat((last, rollout.final_index))
    begins = rollout.ended[-1] if rollout.weight is None else rollout.ended[-1] | (rollout.weight[-1] == 0)
    with torch.no_grad():
        value, after = policy.value_along(here)
        memory = map_leaves(lambda x: joined(x, length, lanes).flatten(0, 1)[index].unsqueeze(0), after)
        next_ones = map_leaves(
            lambda x, final: torch.cat((x, final)).unsqueeze(0), rollout.last_observation, rollout.final_observation
        )
        starts = torch.cat((begins, begins.new_zeros(len(rollout.final_index)))).unsqueeze(0)
        beyond = policy.value_along(Segments(next_ones, starts, memory))[0][0]
        value = joined(value, length, lanes)
    following = torch.cat((value[1:], beyond[:lanes].unsqueeze(0)))
    following.view(-1)[rollout.final_index] = beyond[lanes:]
    return value, following

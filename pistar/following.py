"""A policy along steps that it did not take: its outputs, and its memory as it would have been.

Recorded episodes, a student's steps as its teacher sees them, and steps seen in a mirror are all walked through in the same
way: one pass where there is no memory, and step by step, as in acting, where there is one. Nothing here carries a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pistar import segments
from pistar.tree import Tree, map_leaves

if TYPE_CHECKING:
    from pistar.policy import Policy


@dataclass
class Passage:
    """What a policy makes of T × B steps."""

    outputs: Tensor  # [T, B, head.size], forbidden choices taken out
    starts: Tree  # [T/L, B, ...] its memory where segments of L steps begin; None without one
    memory: Tree  # [B, ...] its memory after the last step; None without one


def follow(policy: Policy, observation: Tree, is_first: Tensor, memory: Tree = None) -> Passage:
    """Walk through observations [T, B, ...] from ``memory`` [B, ...] (None: that of starts), new where ``is_first`` [T, B].

    ``starts`` is kept for the policy's own segments, of which T must hold whole ones, as `Rollout.memory` is.
    """
    steps, lanes = is_first.shape
    with torch.no_grad():
        if policy.initial_memory(1) is None:
            flat = map_leaves(lambda x: x.flatten(0, 1), observation)
            return Passage(policy.outputs(flat)[0].view(steps, lanes, -1), None, None)
        if memory is None:
            memory = policy.initial_memory(lanes)
        length = policy.segment
        wanted = [segments.start_of(number, length, policy.burn_in) for number in range(steps // length)]
        made, kept = [], {}
        for t in range(steps):
            if t in wanted:
                kept[t] = memory
            seen = map_leaves(lambda x, t=t: x[t], observation)
            outputs, memory = policy.outputs(seen, memory, is_first[t])
            made.append(outputs)
        starts = map_leaves(lambda *x: torch.stack(x), *[kept[t] for t in wanted]) if wanted else None
        return Passage(torch.stack(made), starts, memory)

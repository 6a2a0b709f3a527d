"""What an environment did, as plain copies that can be compared bit for bit.

Two runs that must agree are recorded and laid side by side; every rule about seeds, lanes, cuts and restoring is such a
comparison. Entries that mean nothing (the final observation of a lane that did not end) are blanked first, so that a
difference is always a difference.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from pistar.envs.environment import Environment, Step
from pistar.seeding import derive
from pistar.tree import Tree, leaves, map_leaves


@dataclass
class Entry:
    """One step of B lanes, copied to the CPU; ``valid`` is filled in and meaningless rows are zero."""

    observation: Tree  # [B, ...]
    reward: Tensor  # [B]
    terminated: Tensor  # [B] bool
    truncated: Tensor  # [B] bool
    final_observation: Tree  # [B, ...]; zero where the lane did not end
    valid: Tensor  # [B] bool
    info: dict[str, Tensor] = field(default_factory=dict)
    streams: dict[str, Tensor] = field(default_factory=dict)

    @property
    def ended(self) -> Tensor:
        """[B] bool: the episode ended, for whichever reason."""
        return self.terminated | self.truncated

    @staticmethod
    def of(step: Step) -> Entry:
        """A step's outcome as a comparable copy."""
        ended = step.ended.cpu()

        def blank(leaf: Tensor) -> Tensor:
            kept = leaf.detach().cpu().clone()
            kept[~ended] = 0
            return kept

        final = step.observation if step.final_observation is None else step.final_observation
        return Entry(
            observation=copied(step.observation),
            reward=copied(step.reward),
            terminated=copied(step.terminated),
            truncated=copied(step.truncated),
            final_observation=map_leaves(blank, final),
            valid=torch.ones_like(ended) if step.valid is None else copied(step.valid),
            info=copied(dict(step.info)),
            streams=copied(dict(step.streams)),
        )


def copied(tree: Tree) -> Tree:
    """The same tree on the CPU, sharing no memory with the original."""
    return map_leaves(lambda leaf: leaf.detach().cpu().clone(), tree)


def scribble(tree: Tree) -> None:
    """Overwrite every tensor in place with values that no environment would produce."""
    for _, leaf in leaves(tree):
        if any(stride == 0 and size > 1 for stride, size in zip(leaf.stride(), leaf.shape, strict=True)):
            continue  # an expanded tensor shares its elements and refuses to be written
        if leaf.dtype == torch.bool:
            leaf.logical_not_()
        elif leaf.dtype.is_floating_point:
            leaf.detach().fill_(float("nan"))
        else:
            leaf.fill_(torch.iinfo(leaf.dtype).max)


def go_on(environment: Environment, actions: Sequence[Tree], *, careless: bool = False) -> list[Entry]:
    """Take the actions one after another.

    ``careless`` plays a consumer that keeps its actions in one reused buffer and overwrites every outcome before the
    next step. The last one is left as it is, for what `cut` and `save` return may be made of it.
    """
    entries = []
    buffer = map_leaves(torch.clone, actions[0]) if careless and actions else None
    for t, action in enumerate(actions):
        if buffer is not None:
            map_leaves(lambda kept, new: kept.copy_(new), buffer, action)
        step = environment.step(action if buffer is None else buffer)
        entries.append(Entry.of(step))
        if buffer is not None:
            scribble(buffer)
        if careless and t + 1 < len(actions):
            scribble((step.observation, step.reward, step.terminated, step.truncated, step.valid))
            scribble((step.final_observation, dict(step.info), dict(step.streams)))
    return entries


def random_actions(environment: Environment, steps: int, seed: int, *, other: Sequence[int] = ()) -> list[Tree]:
    """``steps`` trees [B, ...] drawn from the action space; lanes in ``other`` draw from a second stream."""
    columns = []
    for lane in range(environment.lanes):
        space = copy.deepcopy(environment.spaces.action)
        space.seed(derive(seed, "actions", lane, "other" if lane in other else "first") >> 32)
        columns.append([space.sample() for _ in range(steps)])
    space = environment.spaces.action
    return [batch(space, [column[t] for column in columns], environment.device) for t in range(steps)]


def batch(space: gymnasium.Space[Any], samples: Sequence[Any], device: torch.device) -> Tree:
    """Samples of a space, stacked to a tree [B, ...] of tensors; floating-point ones are float32."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {name: batch(part, [each[name] for each in samples], device) for name, part in space.spaces.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(batch(part, [each[i] for each in samples], device) for i, part in enumerate(space.spaces))
    stacked = torch.as_tensor(np.stack([np.asarray(sample) for sample in samples]), device=device)
    return stacked.float() if stacked.dtype.is_floating_point else stacked


def rows(tree: Tree, lanes: Tensor) -> Tree:
    """Only the lanes where ``lanes`` [B] bool is True."""
    return map_leaves(lambda leaf: leaf[lanes], tree)


def row(tree: Tree, lane: int) -> Tree:
    """One lane as a batch of one."""
    return map_leaves(lambda leaf: leaf[lane : lane + 1], tree)


def merged(lanes: Tensor, chosen: Tree, other: Tree) -> Tree:
    """``chosen`` where ``lanes`` [B] bool is True, ``other`` elsewhere."""

    def choose(mine: Tensor, theirs: Tensor) -> Tensor:
        return torch.where(lanes.to(mine.device).reshape(-1, *[1] * (mine.dim() - 1)), mine, theirs)

    return map_leaves(choose, chosen, other)


def difference(one: Tree, two: Tree, lanes: Tensor | None = None, *, tolerance: float = 0.0) -> str | None:
    """Where two trees [B, ...] are not equal (NaN equals NaN), in words; None where they are.

    Only ``lanes`` [B] bool are compared. A scalar that only one side reports in ``info`` counts as NaN on the other.
    """
    if isinstance(one, Entry) and isinstance(two, Entry):
        one, two = _with_equal_names(one, two)
    left, right = list(leaves(one)), list(leaves(two))
    if [path for path, _ in left] != [path for path, _ in right]:
        return f"entries {['/'.join(path) for path, _ in left]} against {['/'.join(path) for path, _ in right]}"
    for (path, mine), (_, theirs) in zip(left, right, strict=True):
        name = "/".join(path) or "value"
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            return f"{name} is {mine.dtype} {list(mine.shape)} against {theirs.dtype} {list(theirs.shape)}"
        unequal = mine != theirs
        if mine.dtype.is_floating_point:
            unequal &= ~((mine.isnan() & theirs.isnan()) | ((mine - theirs).abs() <= tolerance))
        if lanes is not None:
            unequal[~lanes] = False
        if bool(unequal.any()):
            lane, *entry = unequal.nonzero()[0].tolist()
            place = f"{name} of lane {lane}" if len(unequal) > 1 else name
            place += f", entry {entry}," if entry else ""
            return f"{place} is {mine[(lane, *entry)].item()!r} against {theirs[(lane, *entry)].item()!r}"
    return None


def _with_equal_names(one: Entry, two: Entry) -> tuple[Entry, Entry]:
    names = sorted(one.info | two.info)

    def completed(entry: Entry) -> Entry:
        silent = torch.full(entry.reward.shape, torch.nan)
        return replace(entry, info={name: entry.info[name].float() if name in entry.info else silent for name in names})

    return completed(one), completed(two)


def first_difference(one: Sequence[Entry], two: Sequence[Entry], lanes: Tensor | None = None) -> str | None:
    """The first step at which two recordings part, in words."""
    for t, (mine, theirs) in enumerate(zip(one, two, strict=True)):
        found = difference(mine, theirs, lanes)
        if found:
            return f"at step {t}, {found}"
    return None

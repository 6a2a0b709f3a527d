"""Turn-based worlds: a lane's time is folded to its agent's own turns.

Between two turns of an agent others act. The record of a collector has an entry for each of their moves too; here each of an
agent's actions becomes one entry, which has the sum of all that it earned until its own next turn, and its episode's end where
that came first. Its successor is its own next turn, so that γ applies once per own turn and no algorithm knows about it.

An action whose outcome is still open when the rollout ends waits for the next one (`Waiting`), with the log-probability of the
policy that chose it. Lanes have different numbers of turns, so shorter ones are padded with entries of weight 0: behind their
first end, where nothing can be carried over them, or in front where none ended.

A memory waits as its agent does: `held` keeps it through the turns of others, and each own turn is recorded with the memory
before it. A segment that begins with padding is read from the memory before its first turn (`pistar.segments`).

What this leaves out: an agent that never acts in an episode has learned nothing from it; its reward is counted only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pistar.envs.environment import Step
from pistar.rollout import Rollout
from pistar.segments import start_of
from pistar.storage import Storage
from pistar.tree import Tree, first_leaf, map_leaves

Array = NDArray[Any]


def held(step: Step, after: Tree, before: Tree) -> Tree:
    """The memory [B, ...] after a step in which only some acted: the others' is that ``before`` (None: of a start)."""
    acted = step.valid
    if acted is None:
        return after
    if before is None:
        before = map_leaves(torch.zeros_like, after)
    return map_leaves(lambda x, old: torch.where(acted.view(-1, *[1] * (x.dim() - 1)), x, old), after, before)


def still_to_begin(step: Step, before: Tensor | None) -> Tensor:
    """[B] bool: whose next own turn is the first of an episode, as it was ``before`` the step (None: nobody's)."""
    if step.valid is None or before is None:
        return step.ended
    return step.ended | (before & ~step.valid)


@dataclass
class Waiting:
    """Each lane's last action, where its outcome is open: what the next rollout begins with.

    Where none is, what the lane saw and did last: padding is made of it, and its action must be one that its mask allows.
    """

    open: Array  # [B] bool: there is one
    gain: Array  # [B] float64 earned since; before an episode's first turn: what will come with it
    fresh: Array  # [B] bool: the lane's next own turn is the first of its episode
    first: Array  # [B] bool: the open one was the first of its episode
    observation: Tree  # [B, ...]
    action: Tree  # [B, ...]
    log_prob: Tensor  # [B]
    version: Tensor  # [B] int64, as `Rollout.version` has it
    memory: Tree = None  # [B, ...] before it

    @staticmethod
    def nothing(observation: Tree, action: Tree, log_prob: Tensor, memory: Tree = None) -> Waiting:
        """No action is open; the trees, [B, ...], are of any step."""
        lanes = log_prob.shape[0]
        return Waiting(
            open=np.zeros(lanes, bool),
            gain=np.zeros(lanes),
            fresh=np.ones(lanes, bool),
            first=np.zeros(lanes, bool),
            observation=map_leaves(torch.clone, observation),
            action=map_leaves(torch.clone, action),
            log_prob=log_prob.clone(),
            version=torch.zeros_like(log_prob, dtype=torch.int64),
            memory=map_leaves(torch.clone, memory),
        )

    def to_state(self) -> dict[str, Any]:
        """As checkpoints hold it."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass
class Turns:
    """Which entries of the record become which: [N, B] each, N the most turns of a lane."""

    source: Array  # row of the action, counted from 1; 0: the one that was waiting
    gain: Array  # float64 reward
    end: Array  # row in which the episode ended, counted from 0; −1: it goes on
    first: Array  # bool: the turn begins an episode
    weight: Array  # 1 for a turn, 0 for padding


def schedule(
    valid: Array, ended: Array, reward: Array, waiting: Waiting, multiple: int = 1
) -> tuple[Turns, Array, Array]:
    """Fold [T, B] to turns, a ``multiple`` of rows; moves ``waiting``'s flags on.

    Beside them each lane's open row (counted from 1), and its rows of padding in front.
    """
    steps, lanes = valid.shape
    rows = steps + multiple
    turns = Turns(
        source=np.zeros((rows, lanes), np.int64),
        gain=np.zeros((rows, lanes)),
        end=np.full((rows, lanes), -1, np.int64),
        first=np.zeros((rows, lanes), bool),
        weight=np.zeros((rows, lanes), np.float32),
    )
    count, source = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)

    def close(chosen: Array, row: int) -> None:
        lane = np.flatnonzero(chosen)
        place = count[lane], lane
        turns.source[place], turns.gain[place], turns.end[place] = source[lane], waiting.gain[lane], row
        turns.first[place], turns.weight[place] = waiting.first[lane], 1.0
        count[lane] += 1
        waiting.gain[lane], waiting.open[lane] = 0.0, False

    for t in range(steps):
        close(valid[t] & waiting.open, -1)
        source[valid[t]] = t + 1
        waiting.first[valid[t]] = waiting.fresh[valid[t]]
        waiting.fresh[valid[t]] = False
        waiting.open |= valid[t]
        waiting.gain += reward[t]
        close(ended[t] & waiting.open, t)
        waiting.gain[ended[t]], waiting.fresh[ended[t]] = 0.0, True
    padded, late = _padded(turns, count, multiple)
    return padded, source, late


def _padded(turns: Turns, count: Array, multiple: int) -> tuple[Turns, Array]:
    """Cut to the most turns of a lane; shorter lanes' padding is moved to where it carries nothing, and counted in front."""
    length = max(1, -(-int(count.max()) // multiple)) * multiple
    order, late = np.empty((length, len(count)), np.int64), np.zeros(len(count), np.int64)
    for lane, number in enumerate(count.tolist()):
        ends = np.flatnonzero(turns.end[:number, lane] >= 0)
        before = int(ends[0]) + 1 if len(ends) else 0
        late[lane] = 0 if before else length - number
        order[:before, lane] = np.arange(before)
        order[before : before + length - number, lane] = np.arange(number, length)  # what no turn filled
        order[before + length - number :, lane] = np.arange(before, number)
    lanes = np.arange(len(count))
    return Turns(*(field[order, lanes] for field in vars(turns).values())), late


def positions(turns: Turns, steps: int) -> Array:
    """[T, B] the row among the turns of each step that ended an episode; −1 where no turn did."""
    found = np.full((steps, turns.end.shape[1]), -1, np.int64)
    row, lane = np.nonzero(turns.end >= 0)
    found[turns.end[row, lane], lane] = row
    return found


def fold(
    storage: Storage,
    action: Tree,
    log_prob: Tensor,
    finals: list[tuple[Tensor, Tree]],
    observation: Tree,
    waiting: Waiting,
    *,
    memory: Tree = None,
    segment: int = 1,
    burn_in: int = 0,
    version: int | None = None,
) -> tuple[Rollout, Waiting]:
    """The rollout of own turns [N, B] of a record [T, B], rewards as they were, and what is left open.

    ``finals``: (flat position t · B + b, rows) of last observations; ``observation`` [B, ...]: what is seen after the record.
    ``memory`` [T, B, ...]: that before each step, of a policy that learns from whole segments; ``version``: as
    `Rollout.version`, of the parameters that acted.
    """
    steps, lanes = storage.reward.shape
    ended = (storage.terminated | storage.truncated).cpu().numpy()
    reward = storage.reward.double().cpu().numpy()
    found, source, late = schedule(storage.valid.cpu().numpy(), ended, reward, waiting, segment)
    device, lane = storage.reward.device, torch.arange(lanes, device=storage.reward.device)
    taken, now_open = torch.from_numpy(found.source).to(device), torch.from_numpy(waiting.open.copy()).to(device)
    last = torch.from_numpy(source).to(device)

    def turn(old: Tensor, rows: Tensor) -> Tensor:
        return torch.cat((old.unsqueeze(0), rows))[taken, lane]

    def left(old: Tensor, rows: Tensor, otherwise: Tensor) -> Tensor:
        kept = torch.cat((old.unsqueeze(0), rows))[last, lane]
        return kept.where(now_open.view(-1, *[1] * (kept.dim() - 1)), otherwise)

    end = torch.from_numpy(found.end).to(device)
    here = end >= 0
    final_index, final = _final_rows(finals, torch.from_numpy(positions(found, steps)).to(device), observation)
    last_observation = map_leaves(left, waiting.observation, storage.observation, observation)
    terminated = storage.terminated[end.clamp(min=0), lane] & here
    rollout = Rollout(
        observation=map_leaves(turn, waiting.observation, storage.observation),
        action=map_leaves(turn, waiting.action, action),
        log_prob=turn(waiting.log_prob, log_prob),
        reward=torch.from_numpy(found.gain).to(device, storage.reward.dtype),
        terminated=terminated,
        truncated=storage.truncated[end.clamp(min=0), lane] & here & ~terminated,
        is_first=torch.from_numpy(found.first).to(device),
        weight=None if found.weight.all() else torch.from_numpy(found.weight).to(device),
        last_observation=last_observation,
        final_observation=final,
        final_index=final_index,
    )
    versions = torch.full_like(storage.valid, version or 0, dtype=torch.int64)
    if version is not None:
        rollout.version = turn(waiting.version, versions)
    if memory is not None:
        rollout.burn_in = burn_in
        own = map_leaves(turn, waiting.memory, memory)
        rollout.memory, rollout.late = _starts(own, torch.from_numpy(late).to(device), segment, burn_in)
    still = Waiting(
        open=waiting.open,
        gain=waiting.gain,
        fresh=waiting.fresh,
        first=waiting.first,
        observation=map_leaves(lambda old, rows: left(old, rows, old), waiting.observation, storage.observation),
        action=map_leaves(lambda old, rows: left(old, rows, old), waiting.action, action),
        log_prob=left(waiting.log_prob, log_prob, waiting.log_prob),
        version=left(waiting.version, versions, waiting.version),
        memory=map_leaves(lambda old, rows: left(old, rows, old), waiting.memory, memory),
    )
    return rollout, still


def _starts(memory: Tree, late: Tensor, segment: int, burn_in: int) -> tuple[Tree, Tensor]:
    """Where segments begin, or their first turn is, of the memory [N, B, ...] before each turn; their padding in front."""
    steps, lanes = int(first_leaf(memory).shape[0]), late.shape[0]
    begins = torch.arange(0, steps, segment, device=late.device).unsqueeze(1)  # [N/L, 1]
    read = torch.tensor([start_of(k, segment, burn_in) for k in range(steps // segment)], device=late.device)
    rows = torch.maximum(read.unsqueeze(1), late).clamp(max=steps - 1)
    lane = torch.arange(lanes, device=late.device)
    return map_leaves(lambda x: x[rows, lane], memory), (late - begins).clamp(0, segment)


def _final_rows(finals: list[tuple[Tensor, Tree]], row: Tensor, like: Tree) -> tuple[Tensor, Tree]:
    """(flat positions among the turns, last observations) of the ends that belong to a turn; ``row`` is `positions`."""
    if not finals:
        return torch.zeros(0, dtype=torch.int64, device=row.device), map_leaves(lambda x: x[:0].clone(), like)
    flat = torch.cat([index for index, _ in finals])
    rows = map_leaves(lambda *x: torch.cat(x), *[each for _, each in finals])
    lanes = row.shape[1]
    chosen = row.flatten()[flat] >= 0
    kept = flat[chosen]
    return row.flatten()[kept] * lanes + kept % lanes, map_leaves(lambda x: x[chosen], rows)

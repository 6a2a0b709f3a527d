"""The contract between a world and everything that learns in it.

A *lane* is one agent's unbroken stream of experience; an environment steps B lanes at once. Multi-agent, self-play and
vectorised worlds are all "more lanes", so no algorithm knows about them.

What a step means
-----------------
``terminated``: the task ended, nothing follows. ``truncated``: the episode was cut and would have gone on, so its return
is bootstrapped from V(final_observation). Where both are set, terminated wins. A lane that ends is reset within the same
step: ``observation`` is the first one of the next episode and ``final_observation`` the last one of the old.

A backend that resets on the *next* step (Gymnasium's ``AutoresetMode.NEXT_STEP``, EnvPool) cannot do that. It gives the
last observation as ``observation`` too, and marks the following entry, whose action it ignores, with ``valid = False``.
Such entries weigh 0 in losses, moments, episode statistics and step counts.

Several agents
--------------
``agents`` consecutive lanes share a world: lanes w · agents to (w + 1) · agents − 1 are the agents of world w. They begin
together, and ``cut`` takes whole worlds. An agent that ends before its world does waits: its entries are invalid, and show
its last observation, until the world begins anew.

Where ``turn_based``, one agent of a world acts in each step. Entries of the others are invalid, since their actions are
ignored, but count: what an agent earns and how it ends come in the step that leads to its own next turn or to its end,
valid or not, and belong to its last valid entry. `pistar.turns` folds a lane to its own turns, so that γ applies once to each.

Agents whose spaces differ form ``groups``: each has a name and the numbers of its agents within a world. Lanes are counted as
ever, but observations and actions are dicts by group, every entry [B, ...]: in a lane's rows only the entry of its own group
means anything, the others hold some element of their spaces and are ignored. `pistar.envs.groups` takes them apart.

Episodes and seeds
------------------
Episode k of lane b starts from ``seeding.episode_seed(seed, b, k)``, where ``seed`` is the argument of ``reset``; it never
depends on when other lanes ended. Where lanes share a world, b is the number of the world. Two policies evaluated with
the same seed therefore meet the same starts.

Restoring, in three declared tiers
----------------------------------
``state``
    ``save`` holds the whole simulation, random streams included; ``restore`` continues bit for bit.
``replay``
    ``save`` holds each lane's episode number and the actions since its start; ``restore`` replays them in a fresh instance
    and requires the stored observation bit for bit.
``boundary``
    Neither is possible. Training cuts all episodes (truncation, with bootstrap) at iteration numbers fixed in the
    configuration, in an interrupted and an uninterrupted run alike, and ``save`` is asked for right after a cut only.

What this leaves out: rendering beyond one RGB frame of one lane, and any notion of a policy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.spaces import Space
from torch import Tensor

Tree = Any  # a Tensor, or a dict / tuple / dataclass of Trees; see pistar.tree
State = dict[str, Any]  # str keys; values are Tensors, NumPy arrays, JSON scalars, lists or further States
Restoring = Literal["state", "replay", "boundary"]


@dataclass(frozen=True)
class Spaces:
    """What one lane sees and does (no batch dimension)."""

    observation: Space[Any]
    action: Space[Any]


class Scalars(Mapping[str, Tensor]):
    """An ``info`` whose entries are the rows of one tensor [K, B], which a rollout keeps in one assignment."""

    def __init__(self, names: Iterable[str], values: Tensor) -> None:
        self.stacked, self._rows = values, dict(zip(names, values.unbind(0), strict=True))

    def __getitem__(self, name: str) -> Tensor:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


@dataclass
class Step:
    """The outcome of one step of B lanes. Its tensors belong to the environment until its next call.

    ``reward`` is the stream that the task is about; ``streams`` may add named ones (intrinsic, costs), each learned with
    its own discount and value head. ``info`` holds the environment's own scalars (reward terms, success, ...), NaN where a
    lane reported none.
    """

    observation: Tree  # [B, ...] what the next action is chosen from: after a reset where the lane ended
    reward: Tensor  # [B] float32
    terminated: Tensor  # [B] bool
    truncated: Tensor  # [B] bool
    final_observation: Tree | None = (
        None  # [B, ...] before the reset; rows count only where a lane ended; None: none ended
    )
    valid: Tensor | None = None  # [B] bool; False where the backend ignored the action; None: all valid
    info: Mapping[str, Tensor] = field(default_factory=dict)  # name -> [B] float
    streams: Mapping[str, Tensor] = field(default_factory=dict)  # name -> [B] float32

    @property
    def ended(self) -> Tensor:
        """[B] bool: the episode ended, for whichever reason."""
        return self.terminated | self.truncated


@dataclass(frozen=True)
class Carried:
    """What an environment carries from step to step within the episodes of one ``reset``."""

    tensors: dict[str, Tree]  # themselves, no copies
    steps: int  # taken so far


def begins(step: Step) -> Tensor:
    """[B] bool: ``observation`` is the first of an episode (or one whose action will be ignored)."""
    return step.ended if step.valid is None else step.ended | ~step.valid


class Environment(ABC):
    """B lanes of one task on one device."""

    name: str
    spaces: Spaces
    lanes: int
    restoring: Restoring
    device: torch.device = torch.device("cpu")
    cuts_single_lanes: bool = True  # whether `cut` can restart single worlds (False: only all of them at once)
    agents: int = 1  # consecutive lanes that share a world
    turn_based: bool = False  # one agent of a world acts in each step
    groups: Mapping[str, tuple[int, ...]] = MappingProxyType({})  # name -> its agents in a world, where spaces differ
    mask: str | dict[str, str] | None = None  # entry (by group) that tells which choices are allowed; None: all

    @abstractmethod
    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane and return the observation [B, ...]; forgets all that went before."""

    @abstractmethod
    def step(self, action: Tree) -> Step:
        """Advance every lane by one action [B, ...] of ``spaces.action``.

        Raises EnvironmentFailure with lane and step where the world raises, dies or returns what its spaces forbid.
        """

    @abstractmethod
    def cut(self, lanes: Tensor) -> Tree:
        """Abandon the running episode of the lanes where ``lanes`` [B] bool is True and start their next one.

        Returns the observation [B, ...]; the caller accounts for the truncation.
        """

    @abstractmethod
    def save(self) -> State:
        """What ``restore`` needs, as this environment's tier promises."""

    @abstractmethod
    def restore(self, state: State) -> Tree:
        """Continue from ``save``'s result in this or a fresh instance; returns the current observation [B, ...]."""

    def carried(self) -> Carried | None:
        """What all that follows depends on, where a step is a function of tensors alone; None: it is not.

        Such steps can be replayed as a CUDA graph: see `carry`.
        """
        return None

    def carry(self, carried: Carried) -> None:
        """Go on from there; its tensors become the environment's own."""

    def render(self, lane: int = 0) -> np.ndarray | None:
        """One RGB frame [height, width, 3] uint8 of a lane, or None where the world cannot be drawn."""
        return None

    def close(self) -> None:
        """Release processes, memory and windows; safe to call twice."""

"""Any Gymnasium environment as B lanes in this process, stepped in turn.

The simplest of the adapters and the fastest for cheap environments. ``workers`` runs the same lanes in other processes,
with the same results bit for bit; ``gym_vector`` uses an environment's own vectorised form.

Observations and their final versions live in arrays that are written once per step and shared with torch, never copied
again. Real numbers are cast to float32 as they are written, and ``spaces`` says so.

What this leaves out: observations whose size varies, and any wrapper; wrap the environment or the adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pistar import tree
from pistar.envs import replay, targets
from pistar.envs.batch import Batch
from pistar.envs.environment import Environment, Spaces, State, Step, Tree
from pistar.envs.lanes import Lanes, Plan
from pistar.envs.layout import Array, Layout, any_of, observed_space
from pistar.errors import UsageError


class BatchTensors:
    """The arrays of a ``Batch`` as torch tensors of the same memory, made once."""

    def __init__(self, batch: Batch, layout: Layout) -> None:
        self.observation: Tree = layout.tree([torch.from_numpy(array) for array in batch.observation])
        self.final_observation: Tree = layout.tree([torch.from_numpy(array) for array in batch.final_observation])
        self.reward = torch.from_numpy(batch.reward)
        self.terminated = torch.from_numpy(batch.terminated)
        self.truncated = torch.from_numpy(batch.truncated)
        self._flags = batch.terminated, batch.truncated

    def step(self, info: Mapping[str, Tensor], valid: Tensor | None = None) -> Step:
        """What the arrays hold now."""
        any_ended = any_of(self._flags[0]) or any_of(self._flags[1])
        return Step(
            observation=self.observation,
            reward=self.reward,
            terminated=self.terminated,
            truncated=self.truncated,
            final_observation=self.final_observation if any_ended else None,
            valid=valid,
            info=info,
        )


class GymnasiumLanes(Environment):
    """``lanes`` environments of ``target`` in this process.

    ``target`` is a registered id, ``module:Class``, ``module:function``, ``module:Id-v0`` (an id that the module
    registers) or a callable. ``options`` are keyword arguments of the environment's constructor, ``reset_options`` the
    ``options`` of each of its resets. Lane b counts as lane ``lane_offset + b`` in seeds and messages.

    Actions are values of ``spaces.action``: those of ``Discrete(n, start=s)`` run from s to s + n - 1. The environment
    gets ints for Discrete and arrays of the space's dtype, which it may keep, for everything else.

    ``restoring``: ``"replay"`` where an episode is determined by its seed and actions (``replays`` tells), else
    ``"boundary"``. ``render`` makes the environments draw frames.

    Raises UnknownName, MissingExtra, UnsupportedSpace or UsageError at construction.
    """

    def __init__(
        self,
        target: targets.Target,
        lanes: int,
        *,
        lane_offset: int = 0,
        options: dict[str, Any] | None = None,
        reset_options: dict[str, Any] | None = None,
        restoring: Literal["replay", "boundary"] = "replay",
        render: bool = False,
    ) -> None:
        plan = Plan(target, lanes, options, reset_options, restoring, render)
        self.name, self.lanes, self.restoring = targets.name_of(target), lanes, restoring
        self._lanes = Lanes(plan, lane_offset)
        environment = self._lanes.environments[0]
        self.spaces = Spaces(observed_space(environment.observation_space), environment.action_space)
        self._tensors = BatchTensors(self._lanes.batch, self._lanes.observations)
        self._info: dict[str, Tensor] = {}  # of every scalar reported so far

    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane; [B, ...]."""
        self._open().reset(seed)
        return self._tensors.observation

    def step(self, action: Tree) -> Step:
        """Advance every lane by one action [B, ...]; lanes that end are reset within the step."""
        lanes = self._open()
        lanes.step(lanes.actions.actions(as_arrays(action), self.lanes))
        for name, array in lanes.info.items():
            if name not in self._info:
                self._info[name] = torch.from_numpy(array)
        return self._tensors.step({name: self._info[name] for name in lanes.info})

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next episode of the chosen lanes; [B, ...]."""
        self._open().cut(lane_mask(lanes, self.lanes))
        return self._tensors.observation

    def save(self) -> State:
        """See ``replay.save``: independent of how lanes are split over processes."""
        return replay.save(self._open())

    def restore(self, state: State) -> Tree:
        """Continue from ``save``; raises EnvironmentFailure where the environment is not deterministic."""
        replay.restore(self._open(), state)
        return self._tensors.observation

    def render(self, lane: int = 0) -> np.ndarray | None:
        """One RGB frame of a lane; None unless constructed with ``render=True``."""
        return self._open().render(lane)

    def close(self) -> None:
        """Close the environments; safe to call twice."""
        self._lanes.close()

    def _open(self) -> Lanes:
        if not self._lanes.environments:
            raise UsageError(f"{self.name} is closed; make a new one")
        return self._lanes


def replays(target: targets.Target, steps: int = 50, *, options: dict[str, Any] | None = None, seed: int = 0) -> bool:
    """Whether ``target`` can be restored by replay; if not, configure ``restoring = "boundary"``.

    Steps two instances with the same seed and random actions, the second restored from the first in mid-episode, and
    compares observation, reward and flags bit for bit. Chance events rarer than one in ``steps`` can go unseen.
    """
    return replay.replays(Plan(target, 1, options), steps, seed)


def spaces_of(target: targets.Target, options: dict[str, Any] | None = None) -> Spaces:
    """What a lane of ``target`` sees and does, as ``GymnasiumLanes`` gives it; makes one environment and closes it.

    Raises what the construction of ``GymnasiumLanes`` raises.
    """
    lanes = GymnasiumLanes(target, 1, options=options)
    lanes.close()
    return lanes.spaces


def as_arrays(action: Tree) -> Tree:
    """A tree of tensors (on any device) or arrays as a tree of NumPy arrays."""

    def array(leaf: Any) -> Array:
        return leaf.numpy(force=True) if isinstance(leaf, Tensor) else np.asarray(leaf)

    return array(action) if isinstance(action, Tensor) else tree.map_leaves(array, action)


def lane_mask(lanes: Tensor, count: int) -> Array:
    """[B] bool tensor as an array; raises UsageError where it is something else."""
    mask: Array = as_arrays(lanes)
    if mask.dtype != np.bool_ or mask.shape != (count,):
        raise UsageError(f"cut expects a bool tensor of shape ({count},), received {mask.dtype} of shape {mask.shape}")
    return mask

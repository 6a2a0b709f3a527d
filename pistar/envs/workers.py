"""Any Gymnasium environment as B lanes in worker processes, for environments that cost more than a process switch.

The same lanes as ``gym_lanes``, with the same results bit for bit whatever the number of workers: seeds belong to lanes,
not to workers, and the worker of a lane is fixed (consecutive lanes, as even as possible). It pays from about 50
microseconds of simulation per worker and step; below that the process switches cost more than they save.

A worker that fails, dies or hangs ends the call with an EnvironmentFailure that names it; see ``worker_pool``.

What this leaves out: asynchronous stepping. Every step waits for the slowest lane.
"""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pistar import spaces as records
from pistar.envs import failures, replay, targets
from pistar.envs.environment import Environment, Spaces, State, Step, Tree
from pistar.envs.gym_lanes import BatchTensors, as_arrays, lane_mask
from pistar.envs.lanes import Plan
from pistar.envs.layout import Array, Layout, observed_space
from pistar.envs.worker_lives import StartMethod
from pistar.envs.worker_pool import Pool
from pistar.envs.worker_process import Shared
from pistar.errors import UsageError


class WorkerLanes(Environment):
    """``lanes`` environments of ``target``, shared by ``workers`` processes (at most one per lane).

    ``target``, ``options``, ``reset_options``, ``lane_offset``, ``restoring`` and ``render`` are those of
    ``GymnasiumLanes``. ``start_method``: ``"fork"``, or ``"spawn"`` for environments that a fork would break; then a
    callable target must be importable by name. ``timeout``: seconds without a sign of life of a worker, after which it is
    given up; None waits for ever.

    Raises what ``GymnasiumLanes`` raises, whichever worker meets it, and EnvironmentFailure where a worker dies or hangs.
    """

    def __init__(
        self,
        target: targets.Target,
        lanes: int,
        workers: int,
        *,
        start_method: StartMethod = "fork",
        lane_offset: int = 0,
        options: dict[str, Any] | None = None,
        reset_options: dict[str, Any] | None = None,
        restoring: Literal["replay", "boundary"] = "replay",
        render: bool = False,
        timeout: float | None = 300.0,
    ) -> None:
        self._plan = Plan(target, lanes, options, reset_options, restoring, render)
        self.name, self.lanes, self.restoring = targets.name_of(target), lanes, restoring
        if workers < 1:
            raise UsageError(f"workers is {workers}, expected at least 1; GymnasiumLanes steps lanes in this process")
        if start_method not in ("fork", "spawn"):
            raise UsageError(f"start_method is {start_method!r}, expected 'fork' or 'spawn'")
        if not hasattr(os, "fork"):
            raise UsageError("worker processes need a POSIX system (Linux, macOS); use workers = 0 here")
        targets.resolve(target)  # an unknown name is found before any process starts
        self._pool = Pool(self._plan, min(workers, lanes), start_method, timeout, lane_offset)
        try:
            self._share(self._common_spaces(self._pool.answers()))
        except BaseException:
            self._pool.close()
            raise

    def _common_spaces(self, told: list[Any]) -> Spaces:
        for member, spaces in zip(self._pool.members, told, strict=True):
            if spaces != told[0]:
                problem = "its spaces differ from those of the first lane; expected the same in every lane"
                raise failures.broke_contract(self.name, problem, member.post.start + member.post.lane_offset)
        observation, action = (records.decode(record) for record in told[0])
        return Spaces(observation, action)

    def _share(self, given: Spaces) -> None:
        """Make the shared memory and let the workers attach to it."""
        pool = self._pool
        self.spaces = Spaces(observed_space(given.observation), given.action)
        self._observations, self._actions = Layout(given.observation, "observation"), Layout(given.action, "action")
        memory = os.dup(pool.memory)
        self._shared = Shared.attach(memory, self._observations, self._actions, self.lanes, len(pool.members))
        self._shared.info.fill(np.nan)
        pool.progress = self._shared.batch.progress
        pool.call("attach", [[]] * len(pool.members))
        os.close(pool.memory)
        pool.memory = -1
        self._tensors = BatchTensors(self._shared.batch, self._observations)
        self._info: dict[str, Tensor] = {}
        self._info_key: tuple[int, bytes] | None = None  # what `_info` was made from
        self._gathered: dict[str, Array] = {}

    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane; [B, ...]."""
        pool = self._open()
        pool.steps = 0
        pool.call("reset", [[int(seed)]] * len(pool.members))
        return self._tensors.observation

    def step(self, action: Tree) -> Step:
        """Advance every lane by one action [B, ...]; lanes that end are reset within the step."""
        pool = self._open()
        for shared, array in zip(
            self._shared.actions, self._actions.actions(as_arrays(action), self.lanes), strict=True
        ):
            shared[:] = array
        pool.step()
        return self._tensors.step(self._scalars())

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next episode of the chosen lanes; [B, ...]."""
        pool, mask = self._open(), lane_mask(lanes, self.lanes)
        pool.call("cut", [[mask[member.post.start : member.post.stop]] for member in pool.members])
        return self._tensors.observation

    def save(self) -> State:
        """See ``replay.save``: independent of how lanes are split over processes."""
        pool = self._open()
        return replay.merge(pool.call("save", [[]] * len(pool.members)))

    def restore(self, state: State) -> Tree:
        """Continue from ``save``; raises EnvironmentFailure where the environment is not deterministic."""
        pool = self._open()
        replay.check(state, self._plan)
        pool.steps = int(state["steps"])
        slices = [slice(member.post.start, member.post.stop) for member in pool.members]
        pool.call("restore", [[part] for part in replay.split(state, slices)])
        return self._tensors.observation

    def render(self, lane: int = 0) -> np.ndarray | None:
        """One RGB frame of a lane; None unless constructed with ``render=True``."""
        pool = self._open()
        if not 0 <= lane < self.lanes:
            raise UsageError(f"lane is {lane}, expected 0 to {self.lanes - 1}")
        owner = next(member.post for member in pool.members if lane < member.post.stop)
        frame: np.ndarray | None = pool.call("render", [[lane - owner.start]], [owner.index])[0]
        return frame

    def close(self) -> None:
        """End the workers; safe to call twice."""
        self._pool.close()

    def _scalars(self) -> dict[str, Tensor]:
        """The scalars that any lane reported in the last step, by name: [B], NaN where a lane reported none."""
        names, shared = self._pool.names, self._shared
        known = max(map(len, names))
        if not known:
            return {}
        key = self._pool.news, shared.reported[:, :known].tobytes()
        longest = max(names, key=len)
        aligned = all(own == longest[: len(own)] for own in names)
        if aligned and key == self._info_key:
            return self._info
        self._info_key = key
        found = {own[row] for own, flags in zip(names, shared.reported, strict=True) for row in np.flatnonzero(flags)}
        if aligned:  # the usual case: every worker met the names in the same order
            rows = {name: shared.info[row] for row, name in enumerate(longest) if name in found}
        else:
            rows = {name: self._gather(name) for name in found}
        self._info = {name: torch.from_numpy(rows[name]) for name in sorted(rows)}
        return self._info

    def _gather(self, name: str) -> Array:
        """The scalar's values, which different workers keep in different rows."""
        values = self._gathered.setdefault(name, np.empty(self.lanes, np.float32))
        values.fill(np.nan)
        for own, member in zip(self._pool.names, self._pool.members, strict=True):
            if name in own:
                lanes = slice(member.post.start, member.post.stop)
                values[lanes] = self._shared.info[own.index(name), lanes]
        return values

    def _open(self) -> Pool:
        if not self._pool.members:
            raise UsageError(f"{self.name} is closed; make a new one")
        return self._pool

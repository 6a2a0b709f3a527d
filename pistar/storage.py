"""Preallocated rows of one rollout: what the policy saw and what the environment answered, [T, B, ...].

On a CPU every field is written through NumPy, whose assignment of a row costs a third of torch's.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pistar.envs.environment import Environment, Scalars, Step
from pistar.errors import EnvironmentFailure
from pistar.tree import Tree, leaves, map_leaves


class Storage:
    """The record of T steps of B lanes, but for what the policy itself adds."""

    def __init__(
        self, horizon: int, lanes: int, observation: Tree, device: torch.device, host: bool | None = None
    ) -> None:
        """``host``: whether rows are written through NumPy; None: on a CPU. Otherwise t may be a tensor [1]."""

        def rows(x: Tensor) -> Tensor:
            return torch.empty((horizon, *x.shape), dtype=x.dtype, device=x.device)

        shape = (horizon, lanes)
        self.observation = map_leaves(rows, observation)
        self.reward = torch.empty(shape, dtype=torch.float32, device=device)
        self.terminated, self.truncated = (torch.empty(shape, dtype=torch.bool, device=device) for _ in range(2))
        self.valid = torch.ones(shape, dtype=torch.bool, device=device)
        self.info: dict[str, Any] = {}  # [T, B] as written, NaN where nothing was reported
        self._stacked: Any = None  # [T, K, B] of a step whose scalars are one tensor
        self._host = device.type == "cpu" if host is None else host
        self._observations = [self._open(leaf) for _, leaf in leaves(self.observation)]
        fields = (self.reward, self.terminated, self.truncated, self.valid)
        self._reward, self._terminated, self._truncated, self._valid = map(self._open, fields)

    def _open(self, field: Tensor) -> Any:
        """What rows are written through."""
        return field.numpy() if self._host else field

    def copy(self) -> Storage:
        """The same rows in memory of their own, not to be written to."""
        taken = copy.copy(self)
        for name in ("observation", "reward", "terminated", "truncated", "valid", "info"):
            setattr(taken, name, map_leaves(torch.clone, getattr(self, name)))
        return taken

    def before(self, t: Any, observation: Tree) -> None:
        """What the policy saw."""
        if isinstance(observation, Tensor):
            self._observations[0][t] = observation.numpy() if self._host else observation
            return
        for field, (_, leaf) in zip(self._observations, leaves(observation), strict=True):
            field[t] = leaf.numpy() if self._host else leaf

    def after(self, t: Any, step: Step) -> None:
        """What the environment answered."""
        if not self._host:
            self._reward[t], self._terminated[t], self._truncated[t] = step.reward, step.terminated, step.truncated
            if step.valid is not None:
                self._valid[t] = step.valid
        else:
            self._reward[t] = step.reward.numpy()
            self._terminated[t], self._truncated[t] = step.terminated.numpy(), step.truncated.numpy()
            if step.valid is not None:
                self._valid[t] = step.valid.numpy()
        if type(step.info) is Scalars and (self._stacked is not None or not self.info):
            if self._stacked is None:
                stacked = step.info.stacked.new_full((len(self.reward), *step.info.stacked.shape), torch.nan)
                self._stacked = self._open(stacked)
                self.info = {name: self._open(stacked[:, k]) for k, name in enumerate(step.info)}
            self._stacked[t] = step.info.stacked.numpy() if self._host else step.info.stacked
            return
        for name, values in step.info.items():
            if name not in self.info:
                empty = torch.full_like(
                    self.reward, torch.nan, dtype=values.dtype if values.is_floating_point() else None
                )
                self.info[name] = self._open(empty)
            self.info[name][t] = values.numpy() if self._host else values

    def require_finite(self, environment: Environment, before: int) -> None:
        """Raise EnvironmentFailure with lane and step, counted from ``before``, where an observation or a reward is not finite."""
        seen = (("/".join(("observation", *path)), leaf) for path, leaf in leaves(self.observation))
        for what, tensor in (("reward", self.reward), *seen):
            if tensor.is_floating_point() and not math.isfinite(float(tensor.sum())):
                bad = ~torch.isfinite(tensor).flatten(2).all(-1) if tensor.dim() > 2 else ~torch.isfinite(tensor)
                if bool(bad.any()):
                    t, lane = (int(i) for i in bad.nonzero()[0])
                    raise EnvironmentFailure(
                        f"{environment.name}: {what} of lane {lane} is not finite at step {before + t} "
                        f"({tensor[t, lane].tolist()}); expected finite numbers. Nothing was learned from this rollout and the "
                        "last checkpoint stands; `pistar doctor` examines the environment",
                        lane,
                        before + t,
                    )

    def means(self) -> dict[str, float]:
        """The mean of everything that the environment reported, over the entries that hold a number."""
        found = {}
        for name, values in self.info.items():
            numbers = values[~np.isnan(values)] if self._host else values[~values.isnan()]
            found[name] = float(numbers.mean()) if len(numbers) else float("nan")
        return found

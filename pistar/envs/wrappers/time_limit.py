"""Episodes cut short."""

from __future__ import annotations

import torch
from torch import Tensor

from pistar.envs.environment import Environment, State, Step, Tree, begins
from pistar.envs.wrappers.wrapper import Wrapper, rows
from pistar.errors import UsageError
from pistar.tree import map_leaves


class TimeLimit(Wrapper):
    """Truncates an episode after ``steps`` steps, unless it has ended by then."""

    def __init__(self, environment: Environment, steps: int) -> None:
        super().__init__(environment)
        if steps < 1:
            raise UsageError(f"the time limit is {steps} steps, expected at least 1")
        if not environment.cuts_single_lanes:
            raise UsageError(f"{self.name} restarts all lanes or none, so that single episodes cannot be cut short")
        if environment.agents > 1:
            raise UsageError(
                f"{environment.agents} agents share a world of {self.name}, and a time limit would cut single ones; give the "
                "world its own (--pettingzoo.options.max_cycles N, where it has one)"
            )
        self.steps = steps
        self._elapsed = torch.zeros(self.lanes, dtype=torch.int64, device=self.device)

    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane; [B, ...]."""
        self._elapsed.zero_()
        return self.environment.reset(seed)

    def step(self, action: Tree) -> Step:
        """One step; lanes that reach the limit begin their next episode."""
        step = self.environment.step(action)
        self._elapsed = (self._elapsed + 1).masked_fill(begins(step), 0)
        late = self._elapsed >= self.steps
        if not bool(late.any()):
            return step
        last = map_leaves(torch.clone, step.observation)
        final = last
        if step.final_observation is not None:
            final = map_leaves(lambda new, old: rows(late, new, old), last, step.final_observation)
        kept = {name: getattr(step, name) for name in ("reward", "terminated", "valid")}
        truncated = step.truncated | late
        kept = {name: None if value is None else value.clone() for name, value in kept.items()}
        info, streams = (
            {name: value.clone() for name, value in scalars.items()} for scalars in (step.info, step.streams)
        )
        self._elapsed = self._elapsed.masked_fill(late, 0)
        observation = self.environment.cut(late)  # from here on the step's own tensors are not ours any more
        return Step(
            observation=observation,
            truncated=truncated,
            final_observation=final if final is last else map_leaves(torch.clone, final),
            info=info,
            streams=streams,
            **kept,
        )

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next episode of the chosen lanes."""
        self._elapsed = self._elapsed.masked_fill(lanes.to(self.device), 0)
        return self.environment.cut(lanes)

    def own_state(self) -> State:
        """Steps of the running episodes."""
        return {"elapsed": self._elapsed.clone()}

    def restore_own(self, state: State, observation: Tree) -> Tree:
        """Take them over."""
        self._elapsed = state["elapsed"].clone().to(self.device)
        return observation

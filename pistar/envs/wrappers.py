"""Wrappers change what an environment shows or takes, and are environments themselves: they stack in any order.

    TimeLimit          cuts episodes short (truncated, with the observation before the cut)
    ActionDelay        executes what was chosen some steps ago, as slow actuators and networks do
    ObservationNoise   adds Gaussian noise, as sensors do
    FrameStack         shows the last observations side by side, so that velocities can be seen

Each keeps the tier of restoring of what it wraps, and its own state is part of ``save``. Where an episode begins, nothing of
the one before is left: the stack holds its first observation only, and delayed actions are neutral (zero, or as near to
it as the space allows). Noise is a function of (seed, lane, episode, step), so that lanes stay independent.

Left out: rewards and anything learned; that is the algorithm's side.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from pistar import seeding
from pistar.envs import counter_random
from pistar.envs.environment import Environment, Spaces, State, Step, Tree
from pistar.errors import UnsupportedSpace, UsageError
from pistar.tree import leaves, map_leaves

Space = spaces.Space[Any]
LONGEST = 2**32  # steps of an episode, for the numbering of noise


class Wrapper(Environment):
    """Passes everything through; a subclass changes what it is about."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.name, self.spaces, self.lanes = environment.name, environment.spaces, environment.lanes
        self.restoring, self.device = environment.restoring, environment.device
        self.cuts_single_lanes, self.mask = environment.cuts_single_lanes, environment.mask

    def reset(self, seed: int) -> Tree:
        """As the contract says."""
        return self.environment.reset(seed)

    def step(self, action: Tree) -> Step:
        """As the contract says."""
        return self.environment.step(action)

    def cut(self, lanes: Tensor) -> Tree:
        """As the contract says."""
        return self.environment.cut(lanes)

    def own_state(self) -> State:
        """What the wrapper itself must keep."""
        return {}

    def restore_own(self, state: State, observation: Tree) -> Tree:
        """Take over ``own_state``'s result; from the wrapped environment's observation to the wrapper's."""
        return observation

    def save(self) -> State:
        """The state of the wrapped environment and of the wrapper."""
        return {"restoring": self.restoring, "wrapped": self.environment.save(), type(self).__name__: self.own_state()}

    def restore(self, state: State) -> Tree:
        """As the contract says."""
        own = type(self).__name__
        if own not in state or "wrapped" not in state:
            raise UsageError(f"the state was not saved by {own} around {self.name}; use the wrappers it was saved with")
        return self.restore_own(state[own], self.environment.restore(state["wrapped"]))

    def render(self, lane: int = 0) -> np.ndarray | None:
        """One RGB frame of a lane."""
        return self.environment.render(lane)

    def close(self) -> None:
        """Release what the wrapped environment holds."""
        self.environment.close()


def begins(step: Step) -> Tensor:
    """[B] bool: ``observation`` is the first of an episode (or one whose action will be ignored)."""
    return step.ended if step.valid is None else step.ended | ~step.valid


def _choose(lanes: Tensor, then: Tensor, otherwise: Tensor) -> Tensor:
    """Rows of ``then`` where ``lanes`` [B] is True, else of ``otherwise``."""
    return torch.where(lanes.view(-1, *[1] * (then.dim() - 1)), then, otherwise)


class TimeLimit(Wrapper):
    """Truncates an episode after ``steps`` steps, unless it has ended by then."""

    def __init__(self, environment: Environment, steps: int) -> None:
        super().__init__(environment)
        if steps < 1:
            raise UsageError(f"the time limit is {steps} steps, expected at least 1")
        if not environment.cuts_single_lanes:
            raise UsageError(f"{self.name} restarts all lanes or none, so that single episodes cannot be cut short")
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
            final = map_leaves(lambda new, old: _choose(late, new, old), last, step.final_observation)
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


class ActionDelay(Wrapper):
    """Executes the action that was chosen ``steps`` steps ago; the first ones of an episode are neutral."""

    def __init__(self, environment: Environment, steps: int) -> None:
        super().__init__(environment)
        if steps < 0:
            raise UsageError(f"actions are delayed by {steps} steps, expected at least 0")
        neutral = neutral_action(self.spaces.action)
        self._neutral = map_leaves(lambda x: x.expand(self.lanes, *x.shape).to(self.device), neutral)
        self.steps = steps
        self._waiting: list[Tree] = [self._neutral] * steps  # the oldest first

    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane; [B, ...]."""
        self._waiting = [self._neutral] * self.steps
        return self.environment.reset(seed)

    def step(self, action: Tree) -> Step:
        """Queue the action and execute the oldest."""
        mine = map_leaves(lambda x, like: x.to(like.dtype, copy=True), action, self._neutral)
        due, *self._waiting = [*self._waiting, mine]
        step = self.environment.step(due)
        self._forget(begins(step))
        return step

    def _forget(self, lanes: Tensor) -> None:
        if bool(lanes.any()):
            self._waiting = [
                map_leaves(lambda neutral, old: _choose(lanes, neutral, old), self._neutral, each)
                for each in self._waiting
            ]

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next episode of the chosen lanes."""
        self._forget(lanes.to(self.device))
        return self.environment.cut(lanes)

    def own_state(self) -> State:
        """The actions that wait."""
        return {
            str(age): {"/".join(path): leaf.clone() for path, leaf in leaves(each)}
            for age, each in enumerate(self._waiting)
        }

    def restore_own(self, state: State, observation: Tree) -> Tree:
        """Take them over."""
        if len(state) != self.steps:
            raise UsageError(f"the state delays actions by {len(state)} steps, this wrapper by {self.steps}")
        self._waiting = []
        for age in range(self.steps):
            saved = iter(state[str(age)][path].clone().to(self.device) for path in map("/".join, _paths(self._neutral)))
            self._waiting.append(map_leaves(lambda _, rows=saved: next(rows), self._neutral))
        return observation


def _paths(tree: Tree) -> list[tuple[str, ...]]:
    return [path for path, _ in leaves(tree)]


def neutral_action(space: Space) -> Tree:
    """The action that does least: zero, or the bound next to it; the first choice of a discrete space. No batch."""
    if isinstance(space, spaces.Dict):
        return {name: neutral_action(part) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(neutral_action(part) for part in space.spaces)
    if isinstance(space, spaces.Box):
        return torch.as_tensor(np.clip(np.zeros(space.shape, space.dtype), space.low, space.high))
    if isinstance(space, spaces.Discrete):
        return torch.tensor(int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        return torch.as_tensor(np.asarray(space.start, np.int64))
    if isinstance(space, spaces.MultiBinary):
        return torch.zeros(space.shape, dtype=torch.int8)
    raise UnsupportedSpace(f"no neutral action is known for {space}; delay the actions in the environment itself")


class ObservationNoise(Wrapper):
    """Adds normal noise of ``deviation``, in the observation's own units, to every number of every Box."""

    def __init__(self, environment: Environment, deviation: float) -> None:
        super().__init__(environment)
        if not (deviation >= 0 and math.isfinite(deviation)):
            raise UsageError(f"the noise's deviation is {deviation}, expected a finite number that is not negative")
        self.deviation = deviation
        self.spaces = Spaces(_unbounded(self.spaces.observation), self.spaces.action)
        self._seed = 0
        self._lane = torch.arange(self.lanes, device=self.device)
        self._episode, self._elapsed = torch.zeros_like(self._lane), torch.zeros_like(self._lane)

    def _noisy(self, observation: Tree, episode: Tensor, elapsed: Tensor) -> Tree:
        numbers = [leaf[0].numel() for _, leaf in leaves(observation)]
        drawn = counter_random.normal(self._seed, self._lane, episode * LONGEST + elapsed, sum(numbers))
        parts = iter(torch.split(drawn * self.deviation, numbers, -1))
        return map_leaves(lambda x: x + next(parts).view_as(x).to(x.dtype), observation)

    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane; [B, ...]."""
        self._seed = seeding.derive(seed, "observation noise")
        self._episode, self._elapsed = torch.zeros_like(self._lane), torch.zeros_like(self._lane)
        return self._noisy(self.environment.reset(seed), self._episode, self._elapsed)

    def step(self, action: Tree) -> Step:
        """One step, its observations made noisy."""
        step = self.environment.step(action)
        elapsed, starts = self._elapsed + 1, begins(step)
        if step.final_observation is not None:
            step.final_observation = self._noisy(step.final_observation, self._episode, elapsed)
        self._episode = self._episode + starts
        self._elapsed = elapsed.masked_fill(starts, 0)
        step.observation = self._noisy(step.observation, self._episode, self._elapsed)
        return step

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next episode of the chosen lanes."""
        lanes = lanes.to(self.device)
        observation = self.environment.cut(lanes)
        self._episode, self._elapsed = self._episode + lanes, self._elapsed.masked_fill(lanes, 0)
        return self._noisy(observation, self._episode, self._elapsed)

    def own_state(self) -> State:
        """Where every lane is in its stream of noise."""
        return {"seed": self._seed, "episode": self._episode.clone(), "elapsed": self._elapsed.clone()}

    def restore_own(self, state: State, observation: Tree) -> Tree:
        """Go on from there."""
        self._seed = int(state["seed"])
        self._episode, self._elapsed = (state[name].clone().to(self.device) for name in ("episode", "elapsed"))
        return self._noisy(observation, self._episode, self._elapsed)


def _unbounded(space: Space) -> Space:
    """The space of noisy observations."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: _unbounded(part) for name, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([_unbounded(part) for part in space.spaces])
    if isinstance(space, spaces.Box) and space.dtype.kind == "f":
        return spaces.Box(-np.inf, np.inf, space.shape, space.dtype.type)
    raise UnsupportedSpace(f"noise can be added to Box observations of floating-point numbers, received {space}")


class FrameStack(Wrapper):
    """Shows the last ``count`` observations of an episode along a new first axis, the newest last."""

    def __init__(self, environment: Environment, count: int) -> None:
        super().__init__(environment)
        if count < 1:
            raise UsageError(f"{count} observations are to be stacked, expected at least 1")
        self.count = count
        self.spaces = Spaces(_stacked(self.spaces.observation, count), self.spaces.action)
        self._stack: Tree = None  # [B, count, ...]

    def _filled(self, observation: Tree) -> Tree:
        return map_leaves(lambda x: x.unsqueeze(1).expand(x.shape[0], self.count, *x.shape[1:]).clone(), observation)

    def _pushed(self, observation: Tree) -> Tree:
        return map_leaves(lambda old, x: torch.cat((old[:, 1:], x.unsqueeze(1)), 1), self._stack, observation)

    def _shown(self) -> Tree:
        return map_leaves(torch.clone, self._stack)

    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane; [B, count, ...]."""
        self._stack = self._filled(self.environment.reset(seed))
        return self._shown()

    def step(self, action: Tree) -> Step:
        """One step; its observations are stacks."""
        step = self.environment.step(action)
        if step.final_observation is not None:
            step.final_observation = self._pushed(step.final_observation)
        self._advance(begins(step), step.observation)
        step.observation = self._shown()
        return step

    def _advance(self, starts: Tensor, observation: Tree) -> None:
        stack = self._pushed(observation)
        if bool(starts.any()):
            stack = map_leaves(lambda new, old: _choose(starts, new, old), self._filled(observation), stack)
        self._stack = stack

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next episode of the chosen lanes."""
        lanes = lanes.to(self.device)
        fresh = self._filled(self.environment.cut(lanes))
        self._stack = map_leaves(lambda new, old: _choose(lanes, new, old), fresh, self._stack)
        return self._shown()

    def own_state(self) -> State:
        """The stack, leaf by leaf."""
        return {"/".join(path) or "stack": leaf.clone() for path, leaf in leaves(self._stack)}

    def restore_own(self, state: State, observation: Tree) -> Tree:
        """Take it over."""
        rows = iter(state["/".join(path) or "stack"].clone().to(self.device) for path in _paths(observation))
        self._stack = map_leaves(lambda _: next(rows), observation)
        return self._shown()


def _stacked(space: Space, count: int) -> Space:
    """The space of ``count`` observations."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: _stacked(part, count) for name, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([_stacked(part, count) for part in space.spaces])
    if isinstance(space, spaces.Box):
        low, high = (np.repeat(bound[None], count, 0) for bound in (space.low, space.high))
        return spaces.Box(low, high, dtype=space.dtype.type)
    raise UnsupportedSpace(f"frames of Box observations can be stacked, received {space}")

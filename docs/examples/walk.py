"""An Environment written from the contract itself: B walkers on a line, each to find the nearer of two exits.

For a world that is neither a Gymnasium environment nor a batch of tensors: a simulator of your own, a device, a game
engine. Everything that the contract asks for stands here once, in its plainest form.

    pistar train walk:WalkTask --steps 20000
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from pistar import seeding
from pistar.envs.environment import Environment, Spaces, State, Step, Tree
from pistar.envs.wrappers import Wrapper
from pistar.errors import UsageError
from pistar.tasks import baselines
from pistar.tasks.task import Actions, Controller, Execution, Task

WIDTH, LONGEST = 8, 40  # an exit at ± WIDTH; steps after which a walk is cut


class Walk(Environment):
    """Left (0) or right (1), one place a step; −1 a step until an exit is reached."""

    name = "walk"
    restoring = "state"  # `save` holds everything, so that `restore` continues bit for bit

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.spaces = Spaces(Box(-1.0, 1.0, (1,), np.float32), Discrete(2))
        self._seed: int | None = None
        self._episode = np.zeros(lanes, np.int64)
        self._place = np.zeros(lanes, np.int64)
        self._elapsed = np.zeros(lanes, np.int64)

    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane."""
        self._seed = seed
        for lane in range(self.lanes):
            self._begin(lane, 0)
        return self._observe()

    def _begin(self, lane: int, episode: int) -> None:
        """Start an episode: a function of (seed, lane, episode), whatever the other lanes did."""
        assert self._seed is not None
        random = np.random.default_rng(seeding.episode_seed(self._seed, lane, episode))
        self._episode[lane], self._elapsed[lane] = episode, 0
        self._place[lane] = random.integers(1 - WIDTH, WIDTH)

    def step(self, action: Tree) -> Step:
        """Move; a lane that ends is reset within the step."""
        if self._seed is None:
            raise UsageError("call reset(seed) or restore(state) before step")
        self._place += 2 * action.cpu().numpy() - 1
        self._elapsed += 1
        terminated = np.abs(self._place) >= WIDTH  # an exit: nothing follows
        truncated = self._elapsed >= LONGEST  # cut: the walk would have gone on
        final = None
        if (terminated | truncated).any():
            final = self._observe()  # what the walkers saw last, before the reset
            for lane in np.flatnonzero(terminated | truncated):
                self._begin(int(lane), int(self._episode[lane]) + 1)
        reward = torch.full((self.lanes,), -1.0)
        return Step(self._observe(), reward, torch.from_numpy(terminated), torch.from_numpy(truncated), final)

    def _observe(self) -> Tensor:
        return torch.from_numpy((self._place / WIDTH).astype(np.float32)).unsqueeze(1)

    def cut(self, lanes: Tensor) -> Tree:
        """Abandon the running episodes of some lanes."""
        if self._seed is None:
            raise UsageError("call reset(seed) or restore(state) before cut")
        for lane in np.flatnonzero(lanes.numpy()):
            self._begin(int(lane), int(self._episode[lane]) + 1)
        return self._observe()

    def save(self) -> State:
        """All that the future depends on, as copies."""
        arrays = {"episode": self._episode, "place": self._place, "elapsed": self._elapsed}
        return {"seed": self._seed, **{name: array.copy() for name, array in arrays.items()}}

    def restore(self, state: State) -> Tree:
        """Continue from ``save``'s result, in this or a fresh instance."""
        if len(state["place"]) != self.lanes:
            raise UsageError(f"the state holds {len(state['place'])} lanes, but this environment has {self.lanes}")
        self._seed = state["seed"]
        self._episode, self._place, self._elapsed = (
            np.array(state[name], np.int64) for name in ("episode", "place", "elapsed")
        )
        return self._observe()


class Hurry(Wrapper):
    """A wrapper: a world whose rewards are multiplied. One with a memory also gives ``own_state`` and ``restore_own``."""

    def __init__(self, environment: Environment, factor: float) -> None:
        super().__init__(environment)
        self.factor = factor

    def step(self, action: Tree) -> Step:
        """The same step, the reward multiplied."""
        step = self.environment.step(action)
        return replace(step, reward=step.reward * self.factor)


@dataclass(frozen=True)
class WalkTask(Task):
    """Leave the corridor by the nearer exit; at most 40 steps."""

    summary: ClassVar[str] = "walkers on a line find the nearer exit"

    factor: float = 1.0  # that rewards are multiplied with

    @property
    def actions(self) -> Actions:
        """Left or right."""
        return "discrete"

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """All lanes in this process."""
        return Hurry(Walk(lanes), self.factor)

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random steps."""
        return {"random": baselines.random}

"""A world whose every step is known beforehand, for tests of what is made of steps."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.envs.environment import Environment, Spaces, State, Step, Tree

ENDS: tuple[tuple[tuple[int, str], ...], ...] = (  # per lane: length of each episode and how it ends, over and over
    ((3, "terminated"), (5, "truncated")),
    ((2, "truncated"), (4, "both"), (1, "terminated")),
    ((6, "both"),),
)


class Moment(NamedTuple):
    episode: int
    age: int
    reward: float
    terminated: bool
    truncated: bool


def moment(lane: int, episode: int, age: int) -> Moment:
    """One step of a lane."""
    length, end = ENDS[lane][episode % len(ENDS[lane])]
    last, reward = age + 1 == length, float(1 + age + 10 * lane) * (-1) ** episode
    return Moment(episode, age, reward, last and end != "truncated", last and end != "terminated")


def life(lane: int, steps: int) -> list[Moment]:
    """The first steps of a lane."""
    lengths = itertools.cycle(length for length, _ in ENDS[lane])
    ages = ((episode, age) for episode, length in enumerate(lengths) for age in range(length))
    return [moment(lane, episode, age) for episode, age in itertools.islice(ages, steps)]


class Timetable(Environment):
    """Lanes that live by ``ENDS``, whatever is done; they see (lane, episode, age)."""

    name, lanes, restoring = "timetable", len(ENDS), "boundary"
    spaces = Spaces(spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Discrete(2))

    def __init__(self) -> None:
        self.actions: list[Tensor] = []

    def reset(self, seed: int) -> Tree:
        self.episode, self.age = [0] * self.lanes, [0] * self.lanes
        return self._seen()

    def _seen(self) -> Tensor:
        return torch.tensor([[lane, self.episode[lane], self.age[lane]] for lane in range(self.lanes)]).float()

    def step(self, action: Tree) -> Step:
        self.actions.append(action.clone())
        now = [moment(lane, self.episode[lane], self.age[lane]) for lane in range(self.lanes)]
        self.age = [age + 1 for age in self.age]
        final = self._seen()
        for lane, each in enumerate(now):
            if each.terminated or each.truncated:
                self.episode[lane], self.age[lane] = self.episode[lane] + 1, 0
        terminated = torch.tensor([each.terminated for each in now])
        truncated = torch.tensor([each.truncated for each in now])
        reward = torch.tensor([each.reward for each in now])
        ended = bool((terminated | truncated).any())
        return Step(self._seen(), reward, terminated, truncated, final if ended else None)

    def cut(self, lanes: Tensor) -> Tree:
        for lane in lanes.nonzero().flatten().tolist():
            self.episode[lane], self.age[lane] = self.episode[lane] + 1, 0
        return self._seen()

    def save(self) -> State:
        raise NotImplementedError

    def restore(self, state: State) -> Tree:
        raise NotImplementedError

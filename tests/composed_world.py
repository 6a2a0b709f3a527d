"""A world of any spaces, masks and agents, for tests of what must work together; it can be saved and restored.

Lanes are environments × agents. The agents of an environment begin together and end together; the second of two dies early
and is silent (``valid`` False) until the next episode. Observations are noise around a number that the first observation of
an episode shows; a forbidden action raises.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.envs.environment import Environment, Spaces, State, Step, Tree
from pistar.tree import map_leaves

CHOICES = 3
BOX = spaces.Box(-50.0, 50.0, (3,), np.float32)
OBSERVATIONS: dict[str, dict[str, spaces.Space[Any]]] = {
    "box": {"seen": BOX},
    "dict": {"mode": spaces.Discrete(3), "position": BOX, "scale": spaces.Box(-50.0, 50.0, (), np.float32)},
    "image": {"seen": spaces.Box(0, 255, (7, 6, 2), np.uint8)},
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(CHOICES, start=1),
    "continuous": spaces.Box(np.array([-1.0, 0.2], np.float32), np.array([1.0, 0.4], np.float32)),
    "mixed": spaces.Dict({"gear": spaces.Discrete(CHOICES), "pedal": spaces.Box(-1.0, 1.0, (2,), np.float32)}),
}
ALLOWED = spaces.MultiBinary(CHOICES)


def spaces_of(observation: str, action: str, mask: bool) -> Spaces:
    """What a lane sees and does; a world with masks shows them as the entry "mask"."""
    entries = dict(OBSERVATIONS[observation])
    if mask:
        entries["mask"] = spaces.Dict({"gear": ALLOWED}) if action == "mixed" else ALLOWED
    alone = len(entries) == 1
    return Spaces(entries["seen"] if alone else spaces.Dict(entries), ACTIONS[action])


class ComposedWorld(Environment):
    """See above; ``lanes`` = ``environments`` × ``agents``."""

    name, restoring = "composed", "state"

    def __init__(self, spaces_: Spaces, environments: int, agents: int, dtype: torch.dtype = torch.float32) -> None:
        self.spaces, self.agents, self.lanes, self.dtype = spaces_, agents, environments * agents, dtype

    def reset(self, seed: int) -> Tree:
        self.generator = torch.Generator().manual_seed(seed % 2**31)
        self.age = torch.zeros(self.lanes, dtype=torch.int64)
        self.shown = self._look(self.spaces.observation)
        return self.shown

    def _look(self, space: spaces.Space[Any]) -> Tree:
        if isinstance(space, spaces.Dict):
            return {key: self._look(child) for key, child in space.spaces.items()}
        shape = (self.lanes, *(space.shape or ()))
        if isinstance(space, spaces.Discrete):
            return torch.randint(int(space.n), shape, generator=self.generator)
        if isinstance(space, spaces.MultiBinary):
            allowed = torch.rand(shape, generator=self.generator) < 0.5
            allowed[torch.arange(self.lanes), torch.randint(shape[1], (self.lanes,), generator=self.generator)] = True
            return allowed.to(torch.int8)
        if space.dtype == np.uint8:
            return torch.randint(256, shape, generator=self.generator, dtype=torch.uint8)
        x = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return (3.0 * x + 5.0 * (self.age == 0).double().view(-1, *[1] * (x.dim() - 1))).clamp(-50, 50).to(self.dtype)

    def _require_allowed(self, action: Tree) -> None:
        if not isinstance(self.shown, dict) or "mask" not in self.shown:
            return
        mask, choice = self.shown["mask"], action - 1 if isinstance(action, Tensor) else action["gear"]
        mask = mask["gear"] if isinstance(mask, dict) else mask
        if not bool(mask.gather(1, choice.unsqueeze(1)).all()):
            raise ValueError("a forbidden action was taken")

    def step(self, action: Tree) -> Step:
        self._require_allowed(action)
        lane = torch.arange(self.lanes)
        dead = (lane % self.agents == 1) & (self.age >= 2)
        self.age += 1
        ended = self.age >= 5 + 2 * (lane // self.agents)  # all agents of an environment together
        terminated = ended & (lane // self.agents % 2 == 0)
        final = self._look(self.spaces.observation)
        self.age[ended] = 0
        fresh = self._look(self.spaces.observation)

        def either(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(ended.view(-1, *[1] * (new.dim() - 1)), new, old)

        self.shown = map_leaves(either, fresh, final)
        reward = torch.randn(self.lanes, generator=self.generator)
        valid = None if self.agents == 1 else ~dead
        return Step(self.shown, reward, terminated, ended & ~terminated, final, valid)

    def cut(self, lanes: Tensor) -> Tree:
        self.age[lanes] = 0
        self.shown = self._look(self.spaces.observation)
        return self.shown

    def save(self) -> State:
        return {
            "age": self.age.clone(),
            "generator": self.generator.get_state(),
            "shown": map_leaves(torch.clone, self.shown),
        }

    def restore(self, state: State) -> Tree:
        self.generator = torch.Generator()
        self.generator.set_state(state["generator"])
        self.age, self.shown = state["age"].clone(), map_leaves(torch.clone, state["shown"])
        return self.shown

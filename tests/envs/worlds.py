"""Environments that the tests of the adapters step; no torch here, so that spawned workers start at once."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Signals(gymnasium.Env[Any, Any]):
    """Every kind of observation, action and scalar; noisy, chaotic, and with ends of every kind.

    Which scalars an episode reports, from when on and in which order depends on its seed.
    """

    def __init__(self, gain: float = 3.0, weights: Any = (1.0, 0.5), tail: float = np.inf) -> None:
        self.gain, self.weights, self.tail = gain, np.asarray(weights), tail
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (2, 2), np.uint8),
                "state": spaces.Box(-9, 9, (3,), np.float64),
                "pair": spaces.Tuple((spaces.Discrete(4, start=-1), spaces.MultiBinary(2))),
            }
        )
        self.action_space = spaces.Dict(
            {"gear": spaces.Discrete(3, start=1), "pedal": spaces.Box(-1, 1, (2,), np.float32)}
        )

    def observe(self) -> dict[str, Any]:
        level = int(100 * self.state[0] ** 2)
        return {
            "image": np.full((2, 2), level % 256, np.uint8),
            "state": self.state.copy(),
            "pair": (level % 4 - 1, np.array([level % 2, self.age % 2], np.int8)),
        }

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.kind = int(seed or 0) % 3
        self.state, self.age = self.np_random.uniform(-1, 1, 3), 0
        return self.observe(), {"height": -1.0, "of reset": 1.0}

    def step(self, action: Any) -> Any:
        assert type(action["gear"]) is int
        push = action["gear"] + float(action["pedal"] @ self.weights)
        self.state = np.sin(self.gain * self.state + push) + 0.1 * self.np_random.normal(size=3)
        self.age += 1
        terminated, truncated = bool(self.np_random.random() < 0.08), self.age == 12
        return self.observe(), float(self.state.sum() + push), terminated, truncated, self.scalars()

    def scalars(self) -> dict[str, Any]:
        height, late = {"height": self.state[0], "text": "up"}, {"late": np.float32(self.age)}
        nested = {"terms": {"speed": self.state[1], "alive": True, "vector": self.state}}
        found = [height, nested, late][:: 1 if self.kind else -1]
        shown = {key: value for part in found for key, value in part.items()}
        if self.age < 4 + self.kind:
            del shown["late"]
        if self.kind == 2 and self.age % 2:
            shown["odd"] = self.age
        return shown


class Victim(gymnasium.Env[Any, Any]):
    """A counter that goes wrong on the lane whose first seed is ``seed``, in that lane's step number ``at``."""

    observation_space: spaces.Space[Any] = spaces.Box(-1e9, 1e9, (2,), np.float64)
    action_space: spaces.Space[Any] = spaces.Discrete(2)

    def __init__(self, fault: str = "", seed: int = -1, at: int = 3, pause: float = 0.0) -> None:
        self.fault, self.seed, self.at, self.pause = fault, seed, at, pause
        self.first: int | None = None
        self.count = 0
        if fault == "constructor":
            raise ValueError("no such motor")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.first = seed if self.first is None else self.first
        self.age = 0
        if self.fault == "reset" and self.first == self.seed and self.count:
            raise ValueError("cannot go back")
        return np.zeros(2), {}

    def step(self, action: Any) -> Any:
        time.sleep(self.pause)
        self.count, self.age = self.count + 1, self.age + 1
        good = (np.full(2, float(self.count)), 1.0, False, self.age == 5, {"count": self.count})
        if self.first != self.seed or self.count != self.at + 1:
            return good
        return FAULTS[self.fault](*good)


def fall(*good: Any) -> Any:
    raise ValueError("the motor is stuck")


def hang(*good: Any) -> Any:
    time.sleep(600)


# fault -> what `step` does instead of returning observation, reward, terminated, truncated, info
FAULTS = {
    "": lambda *good: good,
    "reset": lambda o, r, te, tr, i: (o, r, True, tr, i),
    "raise": fall,
    "exit": lambda *good: exit(3),
    "kill": lambda *good: os.kill(os.getpid(), signal.SIGKILL),
    "leave": lambda *good: os._exit(7),
    "hang": hang,
    "nan observation": lambda o, *rest: (o * [1, np.nan], *rest),
    "final nan": lambda o, r, te, tr, i: (o * np.nan, r, True, tr, i),
    "overflow": lambda o, *rest: (o * 1e300, *rest),
    "nan reward": lambda o, r, *rest: (o, np.nan, *rest),
    "shape": lambda o, *rest: (o[:1], *rest),
    "dtype": lambda o, *rest: (o.astype(complex), *rest),
    "none": lambda o, *rest: (None, *rest),
    "reward vector": lambda o, r, *rest: (o, np.ones(1), *rest),
    "reward text": lambda o, r, *rest: (o, "1", *rest),
    "flag": lambda o, r, te, tr, i: (o, r, 0.0, tr, i),
    "info": lambda o, r, te, tr, i: (o, r, te, tr, [1]),
    "four": lambda *good: good[:4],
}


class Seeder(gymnasium.Env[Any, Any]):
    """The old habit: NumPy's global stream, seeded with what ``reset`` is given."""

    observation_space: spaces.Space[Any] = spaces.Box(0, 1, (1,), np.float32)
    action_space: spaces.Space[Any] = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        np.random.seed(seed)
        return np.random.rand(1).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 0.0, True, False, {}


class Keeper(gymnasium.Env[Any, Any]):
    """Keeps every action that it is given, and observes the first one ever since."""

    observation_space: spaces.Space[Any] = spaces.Box(-1, 1, (2,), np.float32)
    action_space: spaces.Space[Any] = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.kept.append(action)
        return self.kept[0], 0.0, False, False, {}


class Dice(gymnasium.Env[Any, Any]):
    """Not deterministic under its seed."""

    observation_space: spaces.Space[Any] = spaces.Box(0, 1, (1,), np.float32)
    action_space: spaces.Space[Any] = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.age = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.age += 1
        noise = int.from_bytes(os.urandom(3), "little") / 2**24
        return np.array([noise], np.float32), 0.0, self.age == 6, False, {}


class Options(gymnasium.Env[Any, Any]):
    """Shows the option ``level`` of its last reset; may fail to close."""

    observation_space: spaces.Space[Any] = spaces.Box(0, 9, (1,), np.float32)
    action_space: spaces.Space[Any] = spaces.Discrete(2)
    closed = 0

    def __init__(self, stubborn: bool = False) -> None:
        self.stubborn = stubborn

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        assert options is not None
        return np.array([options.pop("level")], np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 0.0, True, False, {}

    def render(self) -> Any:
        return np.full((4, 4, 3), 7, np.uint8)

    def close(self) -> None:
        Options.closed += 1
        if self.stubborn:
            raise OSError("the door is jammed")


def many_scalars() -> gymnasium.Env[Any, Any]:
    """Reports more different scalars than workers carry."""
    world = Victim()
    world.step = lambda action: (np.zeros(2), 0.0, False, False, {str(k): 1.0 for k in range(600)})  # type: ignore[method-assign]
    return world

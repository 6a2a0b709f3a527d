"""A Gymnasium environment of your own: a lever that must be pulled at the right moments.

    pistar doctor lever:Lever
    pistar train lever:Lever --steps 20000

The state is the angle of a wheel that turns by itself; pulling the lever pays 1 while the mark points up, and costs 1
otherwise. Nothing here knows pistar.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Lever(gymnasium.Env[np.ndarray, np.int64]):
    """Pull (1) while the mark of a turning wheel points up, else wait (0); 100 steps."""

    def __init__(self, turn: float = 0.3) -> None:
        self.observation_space = Box(-1.0, 1.0, (2,), np.float32)  # cosine and sine of the mark's angle from the top
        self.action_space = Discrete(2)
        self.turn = turn  # rad a step
        self.angle, self.elapsed = 0.0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The mark points anywhere."""
        super().reset(seed=seed)  # seeds self.np_random: all that is random must come from it
        self.angle, self.elapsed = float(self.np_random.uniform(-np.pi, np.pi)), 0
        return self._observe(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Pull or wait, then let the wheel turn."""
        up = np.cos(self.angle) > 0.8
        reward = (1.0 if up else -1.0) * float(action)
        self.angle += self.turn
        self.elapsed += 1
        # The wheel would turn on: the episode is cut (truncated), it has not come to an end (terminated).
        return self._observe(), reward, False, self.elapsed >= 100, {"up": float(up)}

    def _observe(self) -> np.ndarray:
        return np.array([np.cos(self.angle), np.sin(self.angle)], np.float32)

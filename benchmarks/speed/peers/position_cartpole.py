"""CartPole whose velocities are hidden: only a policy that remembers can tell where the pole is going."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

SEEN = [0, 2]  # position of the cart and angle of the pole


class PositionCartPole(gymnasium.ObservationWrapper):
    """CartPole-v1, positions alone."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(gymnasium.make("CartPole-v1", **settings))
        whole = self.env.observation_space
        assert isinstance(whole, Box)
        self.observation_space = Box(whole.low[SEEN], whole.high[SEEN], dtype=np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Position and angle."""
        return observation[SEEN]

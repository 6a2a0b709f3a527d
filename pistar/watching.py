"""A policy acting in its task, as frames: what ``pistar watch`` shows or records.

One lane, or all lanes of one world; one frame a step, with the return so far (of several agents: their mean) written on it.
An episode's last frame is held with its outcome, because the world has been reset by the time it could be drawn again.
Episodes start from seeds of their own, disjoint from those of training and evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from pistar import seeding
from pistar.envs.environment import Environment
from pistar.errors import UsageError
from pistar.evaluation import controller, require_fit
from pistar.policy import Policy
from pistar.report.video import caption
from pistar.tasks import TASKS
from pistar.tasks.task import Execution, Task

HOLD = 15  # frames for which an episode's outcome is shown


@dataclass
class Performance:
    """Whole episodes of ``policy`` in ``task``; ``outcomes`` fills with (return, steps) as episodes end."""

    policy: Policy
    task: Task
    seed: int = 0
    deterministic: bool = True
    outcomes: list[tuple[float, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the task is called."""
        return str(getattr(self.task, "id", "") or TASKS.kind_of(self.task))

    def frames(self, episodes: int = 3, steps: int = 10_000) -> Iterator[np.ndarray]:
        """[height, width, 3] uint8 frames of ``episodes`` whole episodes, of at most ``steps`` steps in all.

        Raises UsageError where the world cannot be drawn.
        """
        environment = self.task.make(self.task.agents, Execution(), training=False, drawn=True)
        try:
            require_fit(self.policy, environment)
            yield from self._play(environment, episodes, steps)
        finally:
            environment.close()

    def _play(self, environment: Environment, episodes: int, steps: int) -> Iterator[np.ndarray]:
        choose = controller(self.policy, self.deterministic, seeding.derive(self.seed, "watching actions"))
        observation = environment.reset(seeding.derive(self.seed, "watching"))
        total, length, playing = 0.0, 0, torch.ones(environment.lanes, dtype=torch.bool)
        while len(self.outcomes) < episodes and steps > 0:
            frame = self._draw(environment)
            yield caption(frame, [self._title(), f"step {length}  return {total:.4g}"])
            step = environment.step(choose(observation))
            choose.follow(step, environment.turn_based)
            observation, steps = step.observation, steps - 1
            if step.valid is None or bool(step.valid.any()):
                total, length = total + float(step.reward.mean()), length + 1
            playing &= ~step.ended.cpu()
            if not bool(playing.any()):
                last = caption(frame, [self._title(), f"ended after {length} steps  return {total:.4g}"])
                self.outcomes.append((total, length))
                total, length, playing = 0.0, 0, torch.ones_like(playing)
                for _ in range(HOLD):
                    yield last

    def _title(self) -> str:
        return f"{self.name}  episode {len(self.outcomes) + 1}"

    def _draw(self, environment: Environment) -> np.ndarray:
        frame = environment.render(0)
        if frame is None:
            raise UsageError(f"{self.name} cannot be drawn: its environment renders no frames")
        return frame

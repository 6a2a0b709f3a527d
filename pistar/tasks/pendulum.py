"""Swing a rod up and hold it upright: the dynamics of Gymnasium's Pendulum-v1, in torch."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pistar.tasks import baselines
from pistar.tasks.task import Actions, Controller, Execution, Task

if TYPE_CHECKING:
    from pistar.envs.environment import Environment
    from pistar.symmetry import Symmetry


@dataclass(frozen=True)
class Pendulum(Task):
    """A motor too weak to lift a rod at once swings it up and holds it; 200 steps of 0.05 s."""

    summary: ClassVar[str] = "swing a rod up with a weak motor (the dynamics of Pendulum-v1)"

    @property
    def actions(self) -> Actions:
        """One torque."""
        return "continuous"

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """One batch of tensors."""
        from pistar.envs.pendulum import Pendulum as World

        return World(lanes, execution.device, random_elapsed=training)

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """A fifth of the usual steps is plenty."""
        return {"training": {"steps": 200_000}}

    def symmetries(self) -> Sequence[Symmetry]:
        """Left is right in a mirror."""
        from pistar.symmetry import Signed, Symmetry

        world = {"angle": operator.neg, "turning": operator.neg}
        return (Symmetry("left and right", Signed((1, -1, -1)), Signed((-1,)), {"world": world}),)

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random torques and none."""
        return {"random": baselines.random, "zero action": baselines.zero}

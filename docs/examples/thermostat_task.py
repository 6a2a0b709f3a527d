"""A task of your own: a world, what success is, a recipe, and what a policy is compared with.

pistar train thermostat_task:Thermostat --out runs/room
pistar train thermostat_task:Thermostat --task.leak 0.1 --lanes 32
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pistar import bounds
from pistar.tasks import baselines
from pistar.tasks.task import Actions, Controller, Execution, Task

if TYPE_CHECKING:
    from pistar.envs.environment import Environment


@dataclass(frozen=True)
class Thermostat(Task):
    """Keep a room at the temperature that is wished for; 100 steps of a minute."""

    summary: ClassVar[str] = "keep a room at its temperature with a heater that answers late"
    success: ClassVar[str | None] = "comfortable"  # 1 in the last step's info where the episode succeeded

    leak: float = 0.05  # share of the difference to the outside that is lost in a minute

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds.between(0, 1, self, "leak")

    @property
    def actions(self) -> Actions:
        """One power."""
        return "continuous"

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """One batch of tensors."""
        # Imported here, as everything that imports torch, so that help and errors of usage answer at once.
        from thermostat import Room

        return Room(lanes, execution.device, random_elapsed=training, leak=self.leak)

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """Settings that suit this task; the user's own win over them."""
        return {"training": {"steps": 60_000, "learning_rate": {"from": 1e-3, "to": 0.0}}}

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random powers, none, and what an engineer would try first."""
        return {"random": baselines.random, "zero action": baselines.zero, "proportional": proportional}


def proportional(environment: Environment, seed: int) -> Controller:
    """Heat in proportion to what is missing."""

    def choose(observation: Any) -> Any:
        return (0.5 - 0.5 * observation[:, :1]).clamp(-1.0, 1.0)

    return choose

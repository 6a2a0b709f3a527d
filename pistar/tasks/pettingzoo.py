"""Any PettingZoo environment, by name or ``module:callable``, with no task file of its own."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pistar.errors import UsageError
from pistar.tasks import baselines
from pistar.tasks.gymnasium import has_box
from pistar.tasks.task import Actions, Controller, Execution, Task

if TYPE_CHECKING:
    from pistar.envs.environment import Environment

LANES = 16  # about so many, in whole worlds, where none are asked for


@dataclass(frozen=True)
class PettingZoo(Task):
    """``id`` and how its agents act. One policy acts for all of equal spaces; an agent's return is judged, their mean in each episode."""

    summary: ClassVar[str] = "any PettingZoo environment, several agents: pettingzoo:NAME in the place of the task"
    evaluation_lanes: ClassVar[int] = 10  # each is an environment object of its own

    id: str = ""  # PettingZoo's name, as in pettingzoo:pistonball_v6; a module, or module:callable
    api: Literal["auto", "parallel", "turns"] = "auto"  # agents act together, in turn, or together where they can
    restoring: Literal["replay", "boundary"] = (
        "replay"  # boundary: for worlds that are not deterministic under their seed
    )
    options: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the environment

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.id:
            raise UsageError(
                "the task pettingzoo needs a name; give it with the task: pistar train pettingzoo:pursuit_v5"
            )

    @property
    def actions(self) -> Actions:
        """By the kind of the agents' action space."""
        from gymnasium import spaces

        return "continuous" if has_box(self._told()[0].action, spaces.Box) else "discrete"

    @property
    def agents(self) -> int:
        """As many as the world says are possible."""
        return int(self._told()[1])

    def _told(self) -> Any:
        return told(self.id, self.api, json.dumps(self.options, sort_keys=True))

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """Worlds in this process."""
        from pistar.envs.pettingzoo import PettingZoo as Lanes

        if execution.workers > 0:
            raise UsageError(
                f"PettingZoo worlds are stepped in this process, but workers is {execution.workers}; use 0"
            )
        return Lanes(self.id, lanes, api=self.api, options=self.options, restoring=self.restoring, render=drawn)

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """Whole worlds; where they give action masks, the policy keeps to them."""
        table: dict[str, Any] = {"training": {"lanes": -(-LANES // self.agents) * self.agents}}
        mask = self._told()[2]
        if isinstance(mask, dict):  # by group; it is called the same in all that have one
            mask = next(iter(mask.values()))
        return table if mask is None else {**table, "policy": {"kind": "mlp", "mask": mask}}

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random actions."""
        return {"random": baselines.random}


@functools.lru_cache(maxsize=8)
def told(target: str, api: Any, options: str) -> Any:
    """(spaces of an agent, number of agents, entry that is its action mask): a world is made to tell, once."""
    from pistar.envs.pettingzoo import spaces_of

    return spaces_of(target, api, json.loads(options))

"""Any vectorised simulator that speaks torch tensors, by ``module:factory``, with no task file of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pistar import bounds
from pistar.errors import UsageError
from pistar.tasks import baselines
from pistar.tasks.task import Actions, Controller, Execution, Task

if TYPE_CHECKING:
    from pistar.envs.environment import Environment


@dataclass(frozen=True)
class Simulator(Task):
    """``id``: ``module:factory``, called with ``num_envs`` and ``options``; see pistar.envs.torch_vector for what it must give."""

    summary: ClassVar[str] = "a vectorised simulator in torch (rsl_rl, Isaac Lab, mjlab): simulator:module:factory"

    id: str = ""  # module:factory that makes the simulator, given num_envs
    entries: tuple[str, ...] = ()  # entries of a dict of observations that are shown; none: all
    action_limit: float | None = None  # actions lie within ± this; none: unbounded, passed on as they are
    options: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the factory

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds.above(0, self, "action_limit")
        if ":" not in self.id:
            raise UsageError(
                f"the task simulator needs module:factory, received {self.id!r}; give it with the task: "
                "pistar train simulator:my_module:make"
            )

    @property
    def actions(self) -> Actions:
        """One vector of real numbers."""
        return "continuous"

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """One simulator of all lanes."""
        from pistar.envs.torch_vector import TorchVector

        if execution.workers > 0:
            raise UsageError(
                f"a simulator steps all its lanes itself, but workers is {execution.workers}; use --workers 0"
            )
        return TorchVector(
            self.id,
            lanes,
            options=self.options,
            entries=self.entries,
            action_limit=self.action_limit,
            random_elapsed=training,
        )

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random actions, and none."""
        return {"random": baselines.random, "zero action": baselines.zero}

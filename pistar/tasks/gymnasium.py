"""Any Gymnasium environment, by id or ``module:Class``, with no task file of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pistar.errors import UsageError
from pistar.tasks import baselines
from pistar.tasks.task import Actions, Controller, Execution, Task

if TYPE_CHECKING:
    from pistar.envs.environment import Environment, Spaces

MUJOCO = ("Reacher-v5", "Pusher-v5", "HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5")  # batched by pistar itself


@dataclass(frozen=True)
class Gymnasium(Task):
    """``id`` and how its lanes are stepped."""

    summary: ClassVar[str] = "any Gymnasium environment: give its id or module:Class in the place of the task"
    evaluation_lanes: ClassVar[int] = 10  # each is an environment object of its own

    id: str = ""  # Gymnasium id, or module:Class
    # lanes: one by one; vector: the environment's own vectorised form, whose runs resume at iterations where all episodes
    # begin anew; envpool: EnvPool's threads in C++, likewise; mujoco: MuJoCo's batch; auto: mujoco where it knows the id,
    # envpool for envpool:ID, else lanes
    adapter: Literal["auto", "lanes", "vector", "envpool", "mujoco"] = "auto"
    restoring: Literal["replay", "boundary"] = (
        "replay"  # boundary: for environments that are not deterministic under their seed; vector and envpool always have it
    )
    options: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the environment

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.id:
            raise UsageError(
                "the task gymnasium needs an id; give it in the place of the task: pistar train CartPole-v1"
            )
        if self.adapter == "mujoco" and self.id not in MUJOCO:
            raise UsageError(
                f"the mujoco adapter knows {', '.join(MUJOCO)}; received {self.id!r}. Use --gymnasium.adapter lanes"
            )

    @property
    def batched(self) -> bool:
        """Whether MuJoCo's own batch steps the lanes."""
        return self.adapter == "mujoco" or (self.adapter == "auto" and self.id in MUJOCO and not self.options)

    @property
    def pooled(self) -> bool:
        """Whether EnvPool steps the lanes."""
        return self.adapter == "envpool" or (self.adapter == "auto" and self.id.startswith("envpool:"))

    @property
    def actions(self) -> Actions:
        """By the kind of the environment's action space."""
        if self.batched:
            return "continuous"
        from gymnasium import spaces

        return "continuous" if has_box(self._spaces().action, spaces.Box) else "discrete"

    def _spaces(self) -> Spaces:
        if self.pooled:
            from pistar.envs import envpool

            return envpool.spaces_of(self.id, self.options)
        from pistar.envs import gym_lanes, gym_vector

        spaces_of = gym_vector.spaces_of if self.adapter == "vector" else gym_lanes.spaces_of
        return spaces_of(self.id, self.options)

    def best_workers(self, lanes: int) -> tuple[int, str]:
        """By what a step of one environment costs here."""
        if self.batched or self.pooled or self.adapter == "vector":
            return super().best_workers(lanes)
        from pistar.envs import pace

        cores = pace.available_cores()
        try:
            cost = pace.measure(self.id, self.options) if min(cores, lanes) > 1 else 0.0
        except Exception as error:  # whatever it is, the run will meet it, with words for where
            return 0, f"no workers: a step could not be measured ({type(error).__name__}: {error})"
        return pace.best_workers(cost, lanes, cores)

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """Lanes in this process, in workers, in one vector environment, in EnvPool's, or in MuJoCo's batch."""
        if self.batched:
            from pistar.envs.mujoco import MujocoBatch

            return MujocoBatch(self.id, lanes, threads=execution.threads, random_elapsed=training)
        if self.pooled or self.adapter == "vector":
            return self._vector(lanes, execution, drawn)
        if execution.workers > 0:
            from pistar.envs.workers import WorkerLanes

            return WorkerLanes(
                self.id,
                lanes,
                execution.workers,
                start_method=execution.start_method,
                options=self.options,
                restoring=self.restoring,
            )
        from pistar.envs.gym_lanes import GymnasiumLanes

        return GymnasiumLanes(self.id, lanes, options=self.options, restoring=self.restoring, render=drawn)

    def _vector(self, lanes: int, execution: Execution, drawn: bool) -> Environment:
        if execution.workers > 0:
            raise UsageError(
                f"a vector environment steps all its lanes itself, but workers is {execution.workers}; use --workers 0, or "
                "--gymnasium.adapter lanes"
            )
        if self.pooled:
            from pistar.envs import envpool

            return envpool.lanes(self.id, lanes, execution.threads, self.options, render=drawn)
        from pistar.envs.gym_vector import GymnasiumVector

        return GymnasiumVector(self.id, lanes, options=self.options, render=drawn)

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random actions."""
        return {"random": baselines.random}


def has_box(space: Any, box: type) -> bool:
    """Whether any leaf of an action space is continuous."""
    children = getattr(space, "spaces", None)
    if children is None:
        return isinstance(space, box)
    return any(has_box(child, box) for child in (children.values() if hasattr(children, "values") else children))

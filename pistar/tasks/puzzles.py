"""Small tasks that only the right features of a policy solve, for one agent; `pistar.tasks.puzzles_agents` has those for several.

Each says what random actions, the best policy, and the best policy without a needed feature can earn. The numbers are exact:
`pistar.tasks.puzzles_exact` computes them. Its recipe has the features; ``Need.flags`` take one away.
They show whether features work together, and work at all: a run without one must stay below its bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pistar.tasks import baselines
from pistar.tasks.task import Actions, Controller, Execution, Need, Scores, Task

if TYPE_CHECKING:
    from pistar.envs.environment import Environment

NO_MEMORY = "--mlp.memory none"
NO_MASK = "--mlp.mask none --mlp.actor-keys"  # and the other entries: as an input, a mask could be learned from too
REMEMBERING = {"memory": "gru", "memory_size": 32, "segment": 16}


def recipe(steps: int, algorithm: str, policy: Mapping[str, Any], **training: Any) -> Mapping[str, Any]:
    """Many short episodes side by side; PPO explores a little longer than it does by default."""
    table = {"lanes": 64, "horizon": 32, "learning_rate": {"from": 2e-3, "to": 0.0}, "steps": steps, **training}
    tables: dict[str, Any] = {"policy": {"kind": "mlp", **policy}, "training": table}
    return {**tables, "algorithm": {"minibatch": 256, "entropy_weight": 0.01}} if algorithm == "ppo" else tables


@dataclass(frozen=True)
class RecallCorridor(Task):
    """Walk to the fork and take the way that a sign at the entrance showed; 1 for the right one."""

    summary: ClassVar[str] = "a fork at the end of a corridor; the sign was at its entrance: needs memory"
    success: ClassVar[str | None] = "success"
    scores: ClassVar[Scores | None] = Scores(0.2453774048, 1.0, (Need("memory", 0.5, NO_MEMORY),))

    @property
    def actions(self) -> Actions:
        """On, left, right."""
        return "discrete"

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """One batch of tensors."""
        from pistar.envs.puzzles.corridor import Corridor

        return Corridor(lanes, execution.device, random_elapsed=training)

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """A memory."""
        return recipe(120_000, algorithm, REMEMBERING)

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random ways."""
        return {"random": baselines.random}


@dataclass(frozen=True)
class MaskedGrid(Task):
    """Walk from corner to corner where ways open and close at random; into a closed one is a fall. 1 for arriving in 16 steps."""

    summary: ClassVar[str] = "a grid whose ways open and close at random; a closed one is a fall: needs the mask"
    success: ClassVar[str | None] = "success"
    scores: ClassVar[Scores | None] = Scores(
        0.0733335911,
        0.8664473814,
        (Need("mask", 0.0266051520, f"{NO_MASK} place"),),
    )

    @property
    def actions(self) -> Actions:
        """Four ways."""
        return "discrete"

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """One batch of tensors."""
        from pistar.envs.puzzles.grid import Grid

        return Grid(lanes, execution.device)

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """The mask."""
        return recipe(80_000, algorithm, {"mask": "mask"})

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random open ways."""
        return {"random": baselines.random}


@dataclass(frozen=True)
class RecallGrid(MaskedGrid):
    """As masked-grid, with two goals: which of them counts is shown before the first move. 1 for arriving there."""

    summary: ClassVar[str] = "masked-grid with two goals; which counts was shown before: needs memory and the mask"
    scores: ClassVar[Scores | None] = Scores(
        0.0873438852,
        0.8756148750,
        (
            Need("memory", 0.4678281955, NO_MEMORY),
            Need("mask", 0.0629697805, f"{NO_MASK} place"),
        ),
    )

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """One batch of tensors."""
        from pistar.envs.puzzles.grid import Grid

        return Grid(lanes, execution.device, recall=True)

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """The mask and a memory."""
        return recipe(150_000, algorithm, {"mask": "mask", **REMEMBERING})


@dataclass(frozen=True)
class DarkCatch(Task):
    """Catch a ball that is seen in the first of seven pictures only; 1 for a catch."""

    summary: ClassVar[str] = "catch a ball that is seen in the first picture only: needs images and memory"
    success: ClassVar[str | None] = "success"
    scores: ClassVar[Scores | None] = Scores(
        1 / 7, 1.0, (Need("memory", 3 / 7, NO_MEMORY), Need("image", 1 / 7, "--mlp.actor-keys paddle"))
    )

    @property
    def actions(self) -> Actions:
        """Left, stay, right."""
        return "discrete"

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """One batch of tensors."""
        from pistar.envs.puzzles.catch import DarkCatch as World

        return World(lanes, execution.device)

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """Small convolutions and a memory."""
        eye = {"filters": (8,), "kernels": (3,), "strides": (1,), "image_features": 32}
        return recipe(150_000, algorithm, {**eye, **REMEMBERING})

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random steps."""
        return {"random": baselines.random}


@dataclass(frozen=True)
class MixedGearbox(Task):
    """Choose a gear that the road asks for, among those that can be engaged, and press the pedal as the load asks; 10 steps."""

    summary: ClassVar[str] = "a gear to engage and a pedal to press at once: needs mixed actions and the mask"
    scores: ClassVar[Scores | None] = Scores(
        2 / 9,
        17 / 21,
        (
            Need("mask", 4 / 7, f"{NO_MASK} load,road"),
            Need("the pedal", 17 / 42, "--mixed-gearbox.controls gear"),
            Need("the gear", 8 / 21, "--mixed-gearbox.controls pedal"),
        ),
    )

    controls: Literal["both", "gear", "pedal"] = (
        "both"  # what the policy decides; a pedal left alone rests, a gear is the last
    )

    @property
    def actions(self) -> Actions:
        """A choice and a number."""
        return "discrete" if self.controls == "gear" else "continuous"

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """One batch of tensors."""
        from pistar.envs.puzzles.gearbox import Gearbox

        return Gearbox(lanes, execution.device, random_elapsed=training, controls=self.controls)

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """The mask."""
        return recipe(100_000, algorithm, {} if self.controls == "pedal" else {"mask": "mask"})

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random gears of those that can be engaged, random pedals."""
        return {"random": baselines.random}

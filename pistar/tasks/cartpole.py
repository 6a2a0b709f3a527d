"""Balance a pole on a cart: the dynamics of Gymnasium's CartPole-v1, in torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pistar.tasks import baselines
from pistar.tasks.task import Actions, Controller, Execution, Task

if TYPE_CHECKING:
    from pistar.envs.environment import Environment
    from pistar.symmetry import Symmetry


@dataclass(frozen=True)
class CartPole(Task):
    """A pole to keep upright by pushing its cart left or right; 1 a step, at most 500."""

    summary: ClassVar[str] = "balance a pole on a cart (the dynamics of CartPole-v1)"
    threshold: ClassVar[float | None] = 475.0

    @property
    def actions(self) -> Actions:
        """Two pushes."""
        return "discrete"

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """One batch of tensors."""
        from pistar.envs.cartpole import CartPole as World

        return World(lanes, execution.device, random_elapsed=training)

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """A fifth of the usual steps is plenty."""
        return {"training": {"steps": 200_000}}

    def symmetries(self) -> Sequence[Symmetry]:
        """Left is right in a mirror."""
        from pistar.symmetry import Indices, Signed, Symmetry

        turned = Signed((-1, -1, -1, -1))
        return (Symmetry("left and right", turned, Indices((1, 0)), {"world": {"state": turned}}),)

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random pushes."""
        return {"random": baselines.random}

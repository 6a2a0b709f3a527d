"""The worked example: an arm that moves joint by joint on a grid, with a linear softmax policy and its exact optimum.

π(a|s) ∝ exp(θᵀφ(s, a)), reward −‖δ‖² with δ the joint error after the move, γ = 0.9. ``arm-joint`` has a wall in its joint
space, so that taking the largest next reward leads into it, and credit must flow back over time; ``arm-joint-open`` has
none. Both are solved exactly: J* by value iteration, J of the stochastic policy and ∇J by linear solves
(``pistar.tasks.arm_joint_exact``); a run prints them beside its result.

The features, once per action, are the cell behind the wall, and the joint error seen through tiles where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pistar.errors import UsageError
from pistar.tasks import baselines
from pistar.tasks.task import Actions, Controller, Execution, Reference, Task

if TYPE_CHECKING:
    from torch import Tensor

    from pistar.envs.arm_joint import ArmJoint as World
    from pistar.envs.environment import Environment
    from pistar.policy import Policy
    from pistar.symmetry import Symmetry

LARGEST_SOLVED = 1_000  # cells of a joint space for which the dense exact solution is computed


@dataclass(frozen=True)
class ArmJoint(Task):
    """Bring every joint to its goal position into a box in the joint space, one position a step; 20 steps."""

    summary: ClassVar[str] = "an arm on a grid of joint positions finds the door of a box, beside the exact optimum"
    algorithm: ClassVar[str] = "reinforce"
    discount: ClassVar[float | None] = 0.9
    success: ClassVar[str | None] = "success"  # every joint is at its goal at the episode's end
    walled: ClassVar[bool] = True

    joints: int = 2  # joints of the arm; there are 3^joints actions
    positions: int = 21  # positions of each joint, equally spaced between its limits
    limit: float = 2.5  # joints turn within ± this, rad
    episode_steps: int = 20  # moves in an episode; what lies beyond weighs 0.9²⁰ = 12 %
    goal: Literal["fixed", "episode"] = "fixed"  # the same goal in all episodes, or a new one drawn for each

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.walled and (self.joints < 2 or self.positions < 7):
            raise UsageError(
                f"a box with a door needs 2 joints of 7 positions or more, received {self.joints} of {self.positions}; "
                "use more, or arm-joint-open"
            )

    @property
    def actions(self) -> Actions:
        """Every joint back, on, or not at all."""
        return "discrete"

    @property
    def goal_cell(self) -> tuple[int, ...]:
        """The fixed goal: every joint in the middle."""
        return (self.positions // 2,) * self.joints

    def forbidden(self) -> Tensor | None:
        """The wall, bool [P, ..., P]: a box around the middle of the first two joints, with a door near one corner.

        Among some thousand boxes it is one in which greed does badly (with 21 positions it gets 87 % of the way from random
        moves to the optimum) and the way around is worth learning.
        """
        import torch

        if not self.walled:
            return None
        size, middle = self.positions, self.positions // 2
        half = (size // 5, size // 3)
        (left, bottom), (right, top) = ((middle - half[0], middle - half[1]), (middle + half[0], middle + half[1]))
        wall = torch.zeros((size,) * self.joints, dtype=torch.bool)
        wall[left : right + 1, bottom : top + 1] = True
        wall[left + 1 : right, bottom + 1 : top] = False
        wall[right, bottom + 1 : bottom + 1 + size // 4] = False  # the door
        return wall

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """One batch of tensors; episodes start together, since each lane's must be whole to be learned from."""
        return self.world(lanes, execution.device)

    def world(self, lanes: int, device: str = "cpu") -> World:
        """The environment."""
        from pistar.envs.arm_joint import ArmJoint as World

        return World(
            lanes,
            device,
            joints=self.joints,
            positions=self.positions,
            limit=self.limit,
            goal=self.goal_cell if self.goal == "fixed" else None,
            forbidden=self.forbidden(),
            time_limit=self.episode_steps,
        )

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """A linear softmax policy; with a linear critic where the algorithm needs one."""
        policy: dict[str, Any] = {"kind": "linear-softmax", **self._features()}
        if algorithm != "reinforce":
            return {"policy": {**policy, "critic": "linear"}}
        return {
            "policy": policy,
            "algorithm": {"baseline": "mean"},
            "training": {
                "steps": 5_000_000 if self.walled else 500_000,
                "lanes": 100 if self.walled else 40,
                "horizon": self.episode_steps,
                "learning_rate": 0.05 if self.walled else 0.2,
                "normalize_rewards": False,
                "warm_up": 0,
            },
        }

    def _features(self) -> dict[str, Any]:
        """The joint error through tiles; behind a wall the cell, and where the goal varies, cell and goal through tiles."""
        n = self.joints
        if not self.walled:
            edge = 3 * self.limit / (self.positions - 1)  # 1.5 positions: a tile for none, one for each direction
            error = {"columns": tuple(range(2 * n, 3 * n)), "low": (-edge,), "high": (edge,)}
            return {"features": "tile-coding", "tilings": 1, "tiles": (3,), **error}
        if self.goal == "fixed":
            return {"features": "one-hot", "columns": tuple(range(n)), "bins": (self.positions,)}
        return {"features": "tile-coding", "tilings": 4, "tiles": (7,), "columns": tuple(range(2 * n))}

    def symmetries(self) -> Sequence[Symmetry]:
        """Every joint the other way, where there is no wall and a fixed goal lies in the middle."""
        from pistar.symmetry import Indices, Signed, Symmetry

        if self.walled or (self.goal == "fixed" and self.positions % 2 == 0):
            return ()
        moves = 3**self.joints  # in an order that ends with the opposite of what it begins with

        def opposite(cell: Any) -> Any:
            return self.positions - 1 - cell

        world = {"position": opposite, "goal": opposite}
        seen = Signed((-1,) * (3 * self.joints))
        return (Symmetry("the other way", seen, Indices(tuple(reversed(range(moves)))), {"world": world}),)

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random moves, and the move of largest next reward."""
        return {"random": baselines.random, "greedy on reward": greedy_on_reward}

    def reference(self, policy: Policy) -> Reference | None:
        """J of the policy, J* and J of random moves; None where the joint space is too large or a wrapper changes what is seen."""
        if self.positions**self.joints > LARGEST_SOLVED or policy.spaces != self.world(1).spaces:
            return None
        # Imported here so that listing tasks needs no torch.
        from pistar.tasks import arm_joint_exact

        return arm_joint_exact.reference(self, policy)


@dataclass(frozen=True)
class ArmJointOpen(ArmJoint):
    """Bring every joint to its goal position, one position a step, nothing in the way; 20 steps."""

    summary: ClassVar[str] = "an arm on a grid of joint positions goes to its goal, beside the exact optimum"
    walled: ClassVar[bool] = False


def greedy_on_reward(environment: Environment, seed: int) -> Controller:
    """The action of largest next reward, the first of equals; knows the world, not its future."""
    import torch

    world: Any = environment
    actions = torch.arange(len(world.moves), device=world.device)

    def choose(observation: Any) -> Any:
        n = world.joints
        position = torch.searchsorted(world.angles - 1e-4, observation[:, :n].contiguous(), right=True) - 1
        after = world.moved(position.unsqueeze(1), actions)  # [B, A, n]
        error = observation[:, None, n : 2 * n] - world.angles[after]
        return error.square().sum(-1).argmin(-1)

    return choose

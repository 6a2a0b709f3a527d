"""Any Atari game, by its name in the Arcade Learning Environment, with the standard preprocessing."""

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
class Atari(Task):
    """Images of 4 × 84 × 84 bytes; a policy is judged by the raw score of whole games."""

    summary: ClassVar[str] = "any Atari game with the standard preprocessing: ALE/Pong-v5 in the place of the task"
    evaluation_lanes: ClassVar[int] = 10

    id: str = ""  # ALE/Pong-v5, or pong
    sticky: float = 0.25  # probability that the last action is repeated instead of the chosen one
    noops: int = 0  # most idle actions at the start of a game; 30 with sticky 0 is the protocol of 2015
    frame_limit: int = 108_000  # frames after which a game is cut, 4 to a step; half an hour of play
    clip_rewards: bool = True  # in training only: rewards become −1, 0 or 1 where they are whole numbers
    lives_are_episodes: bool = False  # in training only: a lost life ends an episode, the game goes on
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of ale-py's AtariVectorEnv

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds.between(0.0, 1.0, self, "sticky")
        bounds.at_least(0, self, "noops")
        bounds.at_least(1, self, "frame_limit")
        if not self.id:
            raise UsageError("the task atari needs a game; give its name as the task: pistar train ALE/Pong-v5")

    @property
    def actions(self) -> Actions:
        """Joystick and button."""
        return "discrete"

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """All games in ale-py's own threads."""
        from pistar.envs.atari import Atari as Games

        if execution.workers > 0:
            raise UsageError(f"ale-py steps all games itself, but workers is {execution.workers}; use --threads")
        return Games(
            self.id,
            lanes,
            threads=execution.threads,
            sticky=self.sticky,
            noops=self.noops,
            frame_limit=self.frame_limit,
            options=self.options,
        )

    def for_learning(self, environment: Environment) -> Environment:
        """Clipped rewards, and lives as episodes."""
        from pistar.envs.atari import ForLearning

        return ForLearning(environment, clip_rewards=self.clip_rewards, lives_are_episodes=self.lives_are_episodes)

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """Near Schulman et al. 2017 (Proximal policy optimization algorithms), table 5, for PPO; the clip range stands still.

        The policy is the network of Mnih et al. 2015: convolutions, 512 units, and linear outputs.
        """
        training = {"lanes": 8, "horizon": 128, "normalize_rewards": False, "warm_up": 0}
        policy = {"kind": "mlp", "images": "convolutions", "hidden": []}
        if algorithm != "ppo":
            return {"training": training, "policy": policy}
        return {
            "policy": policy,
            "training": {**training, "steps": 10_000_000, "learning_rate": {"from": 2.5e-4, "to": 0.0}},
            "algorithm": {"clip": 0.1, "epochs": 3, "minibatch": 256, "entropy_weight": 0.01},
        }

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random actions."""
        return {"random": baselines.random}

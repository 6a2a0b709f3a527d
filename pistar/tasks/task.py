"""The contract of a task: a world, how a policy is judged in it, and what it is compared with.

A task is a frozen dataclass of its options; its module imports neither torch nor a simulator until one is built, so that
tasks can be listed at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pistar import bounds

if TYPE_CHECKING:
    from pistar.envs.environment import Environment
    from pistar.policy import Policy
    from pistar.symmetry import Symmetry

Actions = Literal["continuous", "discrete"]
Controller = Callable[[Any], Any]  # observation tree [B, ...] -> environment action tree [B, ...], torch tensors


@dataclass(frozen=True)
class Execution:
    """How an environment is run; it never changes what is learned, bit for bit."""

    threads: int = 1  # threads of a simulator that steps its lanes on several
    workers: int = 0  # processes that share the lanes; 0: all in this process
    device: str = "cpu"  # "cpu" or "cuda"; moves torch-native environments only
    start_method: Literal["fork", "spawn"] = "fork"  # how worker processes start


@dataclass(frozen=True)
class Reference:
    """Exact quantities of a task small enough to be solved: discounted objectives J of policies."""

    policy: float  # J of the stochastic policy as it stands
    optimum: float  # J* by value iteration
    random: float  # J of the uniformly random policy

    @property
    def fraction(self) -> float:
        """(J − J_random) / (J* − J_random)."""
        return (self.policy - self.random) / (self.optimum - self.random)


@dataclass(frozen=True)
class Need:
    """A feature that a task cannot be solved without."""

    feature: str  # of the policy or of training, in a word
    bound: float  # the best expected return without it, whatever else a policy may have
    flags: str  # of `pistar train` that take it away


@dataclass(frozen=True)
class Scores:
    """Exact expected returns, undiscounted, of a task that was solved beforehand."""

    random: float  # of uniformly random actions, among those that are allowed
    optimum: float  # of the best policy there is
    needs: tuple[Need, ...] = ()

    def fraction(self, mean: float) -> float:
        """(mean − random) / (optimum − random)."""
        return (mean - self.random) / (self.optimum - self.random)


@dataclass(frozen=True)
class Task(ABC):
    """One application. Subclasses add their options as fields and say how they are built, judged and compared."""

    summary: ClassVar[str]  # one line for `pistar tasks`
    algorithm: ClassVar[str] = "ppo"  # the kind of algorithm that is used where none is chosen
    discount: ClassVar[float | None] = None  # γ, where it belongs to the problem; none: the algorithm's default
    success: ClassVar[str | None] = None  # the `info` scalar that is 1 at an episode's end where it succeeded
    threshold: ClassVar[float | None] = None  # the return from which on the task counts as solved
    scores: ClassVar[Scores | None] = None  # what random, lacking and best policies earn, where that is known exactly
    evaluation_lanes: ClassVar[int] = 100  # most environments that an evaluation steps side by side

    frame_stack: int = field(default=1, kw_only=True)  # the last so many observations are seen side by side
    observation_noise: float = field(default=0.0, kw_only=True)  # deviation of the noise added to observations
    action_delay: int = field(default=0, kw_only=True)  # steps after which a chosen action is executed
    episode_limit: int | None = field(
        default=None, kw_only=True
    )  # steps after which episodes are cut; none: the task's

    def __post_init__(self) -> None:
        """Refuse impossible settings; a subclass with checks of its own calls this one too."""
        bounds.at_least(0, self, "observation_noise", "action_delay")
        bounds.at_least(1, self, "frame_stack", "episode_limit")

    @property
    @abstractmethod
    def actions(self) -> Actions:
        """Which set of defaults applies; answered without building the environment."""

    @property
    def agents(self) -> int:
        """How many lanes share a world (`pistar.envs.environment`); lanes come in multiples of it."""
        return 1

    @abstractmethod
    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """B lanes of the bare world. ``training``: elapsed times may start staggered; ``drawn``: frames will be asked for."""

    def best_workers(self, lanes: int) -> tuple[int, str]:
        """How many processes should step so many lanes here, and why; asked where the user leaves it open."""
        return 0, "no workers: the lanes are stepped as one batch"

    @property
    def bare(self) -> bool:
        """Whether no wrapper is asked for, so that what is known exactly of the world holds."""
        return (self.frame_stack, self.observation_noise, self.action_delay, self.episode_limit) == (1, 0.0, 0, None)

    def make(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """B lanes with the wrappers that the fields ask for: what a policy is trained and judged in."""
        environment = self.environment(lanes, execution, training=training, drawn=drawn)
        if self.bare:
            return environment
        # Imported here so that listing tasks needs no torch.
        from pistar.envs import wrappers

        if self.episode_limit is not None:
            environment = wrappers.TimeLimit(environment, self.episode_limit)
        if self.action_delay > 0:
            environment = wrappers.ActionDelay(environment, self.action_delay)
        if self.observation_noise > 0:
            environment = wrappers.ObservationNoise(environment, self.observation_noise)
        if self.frame_stack > 1:
            environment = wrappers.FrameStack(environment, self.frame_stack)
        return environment

    def for_learning(self, environment: Environment) -> Environment:
        """``environment``, changed by what holds in training only and never where a policy is judged; most change nothing."""
        return environment

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """Tables of settings for that kind of algorithm, between pistar's defaults and the user's own settings."""
        return {}

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Name -> (environment, seed) -> controller: what a policy is compared with, on the same episodes."""
        return {}

    def symmetries(self) -> Sequence[Symmetry]:
        """Transformations under which the world stays what it is (`pistar.symmetry`), for ``--symmetry task``."""
        return ()

    def reference(self, policy: Policy) -> Reference | None:
        """The exact objectives, where the task can be solved."""
        return None

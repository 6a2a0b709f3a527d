"""Small tasks that only several agents solve, beside their exact scores; see `pistar.tasks.puzzles`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pistar.tasks import baselines
from pistar.tasks.puzzles import NO_MEMORY, REMEMBERING, recipe
from pistar.tasks.task import Actions, Controller, Execution, Need, Scores, Task

if TYPE_CHECKING:
    from pistar.envs.environment import Environment


@dataclass(frozen=True)
class PairPursuit(Task):
    """Two hunters on a torus must both stand beside a prey that walks at random; 1 for each if they do within 12 steps."""

    summary: ClassVar[str] = "two hunters catch what one cannot: needs several agents"
    success: ClassVar[str | None] = "success"
    scores: ClassVar[Scores | None] = Scores(
        0.0861541032, 0.9914904869, (Need("partner", 0.4236646594, "--pair-pursuit.partner random"),)
    )

    partner: Literal["policy", "random"] = (
        "policy"  # who leads the second hunter; random: it strays, and one agent is left
    )

    @property
    def actions(self) -> Actions:
        """Four ways, or none."""
        return "discrete"

    @property
    def agents(self) -> int:
        """Hunters that the policy leads."""
        return 2 if self.partner == "policy" else 1

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """One batch of tensors."""
        from pistar.envs.native_agents import NativeAgents
        from pistar.envs.puzzles.pursuit import Pursuit

        world = Pursuit(lanes // self.agents, execution.device, partner=self.partner)
        return world if self.partner == "random" else NativeAgents(world)

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """One policy for both."""
        return recipe(150_000, algorithm, {})

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random steps of both."""
        return {"random": baselines.random}


@dataclass(frozen=True)
class WordSignals(Task):
    """A speaker sees a colour and says a word, a listener hears it and points at a colour; 1 for both if all are right."""

    summary: ClassVar[str] = "a speaker and a listener agree on words for colours: needs agents of different spaces"
    scores: ClassVar[Scores | None] = Scores(1 / 3, 1.0, (Need("speaker", 1 / 3, "--word-signals.speaker random"),))

    speaker: Literal["policy", "random"] = "policy"  # who speaks; random: words mean nothing, and one agent is left

    @property
    def actions(self) -> Actions:
        """Words and colours."""
        return "discrete"

    @property
    def agents(self) -> int:
        """Those that policies lead."""
        return 2 if self.speaker == "policy" else 1

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """One batch of tensors."""
        from pistar.envs.native_agents import NativeAgents
        from pistar.envs.puzzles.signals import Signals

        world = Signals(lanes // self.agents, execution.device, speaker=self.speaker)
        return world if self.speaker == "random" else NativeAgents(world)

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """A policy for each."""
        return recipe(120_000, algorithm, {})

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random words and colours."""
        return {"random": baselines.random}


@dataclass(frozen=True)
class RecallTurns(Task):
    """Two players in turn each name the card of their own turn before; 1 for both if all are right."""

    summary: ClassVar[str] = "in turn, name the card of one's own turn before: needs turns and memory"
    scores: ClassVar[Scores | None] = Scores(0.25, 1.0, (Need("memory", 0.25, NO_MEMORY),))

    @property
    def actions(self) -> Actions:
        """A card."""
        return "discrete"

    @property
    def agents(self) -> int:
        """Two players."""
        return 2

    def environment(self, lanes: int, execution: Execution, *, training: bool, drawn: bool = False) -> Environment:
        """One batch of tensors."""
        from pistar.envs.native_agents import NativeAgents
        from pistar.envs.puzzles.turns import Turns

        return NativeAgents(Turns(lanes // self.agents, execution.device))

    def recipe(self, algorithm: str) -> Mapping[str, Any]:
        """A memory."""
        return recipe(80_000, algorithm, REMEMBERING)

    def baselines(self) -> Mapping[str, Callable[[Environment, int], Controller]]:
        """Random cards."""
        return {"random": baselines.random}

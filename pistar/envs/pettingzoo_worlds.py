"""One PettingZoo world in one form, whether its agents act together (ParallelEnv) or in turn (AECEnv).

``begin`` and ``step`` give an `Outcome`: what each agent, by its number, now sees, earned, and how it ended. An agent that
has ended takes no further part until the world is over, which it is once no agent is left.

In turn, an agent's reward is what it earned since its own last turn, as PettingZoo's ``last()`` has it, and it is told in the
step that leads to its next turn or to its end. The reward that an agent earned before its first turn comes with that turn.

What this leaves out: agents that join a running world, and episodes that need more than their seed to begin.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pistar.envs import failures, pettingzoo_targets, targets

Call = Callable[[str, Callable[[], Any]], Any]  # (its name, the call) -> its result, errors in our words


@dataclass
class Outcome:
    """What a call did, by the agents' numbers; who is not named saw, earned or did nothing."""

    observation: dict[int, Any] = field(default_factory=dict)  # what the next action is chosen from
    final: dict[int, Any] = field(default_factory=dict)  # the last observation of those who ended
    reward: dict[int, float] = field(default_factory=dict)
    terminated: set[int] = field(default_factory=set)
    truncated: set[int] = field(default_factory=set)
    info: dict[int, Mapping[str, Any]] = field(default_factory=dict)


class World:
    """What both kinds share: the agents' names, and who of them acts next."""

    def __init__(self, name: str, environment: Any) -> None:
        self.name, self.environment = name, environment
        self.agents: list[Any] = list(environment.possible_agents)
        self.number = {agent: index for index, agent in enumerate(self.agents)}
        self.acting: list[int] = []  # whose actions the next step takes; empty once the world is over

    def broken(self, problem: str) -> Exception:
        """The world broke PettingZoo's interface."""
        return failures.broke_contract(self.name, problem)


class Together(World):
    """All agents that are left act in every step."""

    def begin(self, seed: int, options: dict[str, Any] | None, call: Call) -> Outcome:
        """Start an episode."""
        result = call("reset", lambda: self.environment.reset(seed=seed, options=options))
        if not isinstance(result, tuple) or len(result) != 2:
            raise self.broken(f"reset returned {result!r:.80}, expected (observations, infos)")
        observations, infos = result
        missing = [agent for agent in self.agents if agent not in observations]
        if missing:
            raise self.broken(f"reset gave no observation of {missing}; expected one of each of {self.agents}")
        self.acting = list(range(len(self.agents)))
        return Outcome(
            observation={index: observations[agent] for index, agent in enumerate(self.agents)},
            info={index: infos.get(agent) or {} for index, agent in enumerate(self.agents)},
        )

    def step(self, actions: list[Any], call: Call) -> Outcome:
        """One action of every agent that is left; ``actions`` holds one of each agent."""
        chosen = {self.agents[index]: actions[index] for index in self.acting}
        result = call("step", lambda: self.environment.step(chosen))
        if not isinstance(result, tuple) or len(result) != 5:
            raise self.broken(
                f"step returned {result!r:.80}, expected the 5 dicts (observations, rewards, terminations, truncations, infos)"
            )
        observations, rewards, terminations, truncations, infos = result
        outcome, left, following = Outcome(), set(self.environment.agents), []
        for index in self.acting:
            agent = self.agents[index]
            try:
                observation, reward = observations[agent], rewards[agent]
                terminated, truncated = bool(terminations[agent]), bool(truncations[agent])
            except KeyError as error:
                raise self.broken(f"step gave nothing of {agent!r}, which had not ended") from error
            outcome.reward[index], outcome.info[index] = reward, infos.get(agent) or {}
            if terminated:
                outcome.terminated.add(index)
            if truncated:
                outcome.truncated.add(index)
            if terminated or truncated:
                outcome.final[index] = observation
                continue
            if agent not in left:
                raise self.broken(f"{agent!r} left the agents without a termination or a truncation")
            outcome.observation[index] = observation
            following.append(index)
        self.acting = following
        return outcome


class InTurn(World):
    """One agent acts in every step: PettingZoo's ``agent_selection``."""

    def begin(self, seed: int, options: dict[str, Any] | None, call: Call) -> Outcome:
        """Start an episode; who is not to move sees what ``observe`` shows."""
        call("reset", lambda: self.environment.reset(seed=seed, options=options))
        absent = [agent for agent in self.agents if agent not in self.environment.agents]
        if absent:
            raise self.broken(f"{absent} are absent after reset; expected each of {self.agents}")
        outcome = Outcome()
        for index, agent in enumerate(self.agents):
            outcome.observation[index] = call("observe", functools.partial(self.environment.observe, agent))
            outcome.info[index] = self.environment.infos.get(agent) or {}
        self._seek(outcome, call)
        if not self.acting:
            raise self.broken("the world is over before its first turn")
        return outcome

    def step(self, actions: list[Any], call: Call) -> Outcome:
        """The action of the one whose turn it is; ``actions`` holds one of each agent."""
        action = actions[self.acting[0]]
        call("step", lambda: self.environment.step(action))
        outcome = Outcome()
        self._seek(outcome, call)
        return outcome

    def _seek(self, outcome: Outcome, call: Call) -> None:
        """Find whose turn it is, and take leave of those who have ended."""
        environment, self.acting = self.environment, []
        while environment.agents:
            agent = environment.agent_selection
            index = self.number[agent]
            observation, reward, terminated, truncated, info = call("last", environment.last)
            outcome.reward[index] = outcome.reward.get(index, 0.0) + float(reward)
            outcome.info[index] = info or {}
            if not (terminated or truncated):
                outcome.observation[index], self.acting = observation, [index]
                return
            if terminated:
                outcome.terminated.add(index)
            if truncated:
                outcome.truncated.add(index)
            outcome.final[index] = observation
            call("step", lambda: environment.step(None))


def make(
    target: targets.Target,
    api: pettingzoo_targets.Api,
    options: targets.Options | None,
    *,
    render: bool = False,
) -> Together | InTurn:
    """A new world of ``target``."""
    environment = pettingzoo_targets.make(target, api, options, render=render)
    kind = InTurn if pettingzoo_targets.takes_turns(environment) else Together
    return kind(targets.name_of(target), environment)

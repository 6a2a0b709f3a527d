"""Small PettingZoo worlds with known answers: agents that die at different times, and agents that act in turn."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import AECEnv, ParallelEnv


class Storm(ParallelEnv[str, Any, Any]):
    """Three sailors; each round costs a sailor as much as the wave that meets him, and who has had enough is gone.

    A sailor sees (his number, rounds so far, what he has left), earns his action + 0.1 · his number, and loses a random
    wave. The storm is cut after ``limit`` rounds. The info allows action 1 in even rounds only, where ``masked``.
    """

    metadata = {"name": "storm", "render_modes": ["rgb_array"]}

    def __init__(self, limit: int = 9, masked: bool = False, render_mode: str | None = None) -> None:
        self.possible_agents = [f"sailor_{i}" for i in range(3)]
        self.limit, self.masked, self.render_mode = limit, masked, render_mode

    def observation_space(self, agent: str) -> Box:
        return Box(-10.0, 100.0, (3,), np.float32)

    def action_space(self, agent: str) -> Discrete:
        return Discrete(2)

    def _see(self) -> dict[str, Any]:
        return {
            agent: np.array([self.possible_agents.index(agent), self.rounds, self.left[agent]], np.float32)
            for agent in self.agents
        }

    def _told(self) -> dict[str, Any]:
        mask = np.array([1, self.rounds % 2 == 0], np.int8)
        return {agent: {"action_mask": mask} if self.masked else {"left": self.left[agent]} for agent in self.agents}

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.random = np.random.default_rng(seed)
        self.agents, self.rounds = self.possible_agents[:], 0
        self.left = {agent: float(self.random.uniform(1, 4)) for agent in self.agents}
        return self._see(), self._told()

    def step(self, actions: dict[str, Any]) -> Any:
        assert set(actions) == set(self.agents), "the dead do not act"
        self.rounds += 1
        for agent in self.agents:
            self.left[agent] -= float(self.random.uniform(0, 1))
        reward = {a: float(actions[a]) + 0.1 * self.possible_agents.index(a) for a in self.agents}
        gone = {agent: self.left[agent] < 0 for agent in self.agents}
        late = dict.fromkeys(self.agents, self.rounds >= self.limit)
        result = self._see(), reward, gone, late, self._told()
        self.agents = [agent for agent in self.agents if not (gone[agent] or late[agent])]
        return result

    def render(self) -> Any:
        return np.full((40, 60, 3), self.rounds, np.uint8)


class Nim(AECEnv[str, Any, Any]):
    """Players in turn take 1 to 3 of a heap; each pays 0.1 of what is taken to all others; who takes the last wins 1.

    Two or three players. A player sees (heap, own number) and may not take more than there is. The third leaves the table
    (terminated) after its second turn.
    """

    metadata = {"name": "nim", "render_modes": []}

    def __init__(self, players: int = 3) -> None:
        super().__init__()
        self.possible_agents = [f"player_{i}" for i in range(players)]
        self.render_mode = None

    def observation_space(self, agent: str) -> Any:
        from gymnasium.spaces import Dict

        return Dict({"observation": Box(0, 99, (2,), np.float32), "action_mask": Box(0, 1, (3,), np.int8)})

    def action_space(self, agent: str) -> Discrete:
        return Discrete(3)

    def observe(self, agent: str) -> Any:
        mine = agent == self.agent_selection
        mask = np.array([mine and take <= self.heap for take in (1, 2, 3)], np.int8)
        see = np.array([self.heap, self.possible_agents.index(agent)], np.float32)
        return {"observation": see, "action_mask": mask}

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.heap = int(np.random.default_rng(seed).integers(8, 20))
        self.agents = self.possible_agents[:]
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations, self.truncations = dict.fromkeys(self.agents, False), dict.fromkeys(self.agents, False)
        self.infos: dict[str, Any] = {agent: {} for agent in self.agents}
        self.turns = dict.fromkeys(self.agents, 0)
        self.agent_selection = self.agents[0]

    def step(self, action: Any) -> None:
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        taken = min(int(action) + 1, self.heap)
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self.heap -= taken
        self.turns[agent] += 1
        others = [other for other in self.agents if other != agent]
        self.rewards[agent] -= 0.1 * taken * len(others)
        for other in others:
            self.rewards[other] += 0.1 * taken
        following = self.agents[(self.agents.index(agent) + 1) % len(self.agents)]
        if self.heap == 0:
            self.rewards[agent] += 1.0
            self.terminations = dict.fromkeys(self.agents, True)
        elif agent == "player_2" and self.turns[agent] == 2:
            self.terminations[agent] = True
        self.agent_selection = following
        self._accumulate_rewards()
        self._deads_step_first()


class Mixed(Storm):
    """Sailors, and a captain among them (the second) who sees the rounds twice and has a box to steer by.

    What the captain steers counts as the action of a sailor does.
    """

    metadata = {"name": "mixed", "render_modes": ["rgb_array"]}

    def __init__(self, limit: int = 9, masked: bool = False, render_mode: str | None = None) -> None:
        super().__init__(limit, masked, render_mode)
        self.possible_agents = ["sailor_0", "captain", "sailor_1"]

    def observation_space(self, agent: str) -> Box:
        return Box(-10.0, 100.0, (4 if agent == "captain" else 3,), np.float32)

    def action_space(self, agent: str) -> Any:
        return Box(0.5, 1.0, (1,), np.float32) if agent == "captain" else Discrete(2)

    def _see(self) -> dict[str, Any]:
        seen = super()._see()
        if "captain" in seen:
            seen["captain"] = np.append(seen["captain"], np.float32(self.rounds))
        return seen

    def _told(self) -> dict[str, Any]:
        told = super()._told()
        if self.masked and "captain" in told:
            told["captain"] = {}
        return told

    def step(self, actions: dict[str, Any]) -> Any:
        return super().step({agent: float(np.asarray(action).item()) for agent, action in actions.items()})


class MixedNim(Nim):
    """Nim whose first player sees the heap alone."""

    metadata = {"name": "mixed nim", "render_modes": []}

    def observation_space(self, agent: str) -> Any:
        from gymnasium.spaces import Dict

        size = 1 if agent == "player_0" else 2
        return Dict({"observation": Box(0, 99, (size,), np.float32), "action_mask": Box(0, 1, (3,), np.int8)})

    def observe(self, agent: str) -> Any:
        seen = super().observe(agent)
        return {**seen, "observation": seen["observation"][:1]} if agent == "player_0" else seen


class Echo(AECEnv[str, Any, Any]):
    """Two in turn see a bit each and should repeat it; whether one was right is paid once the *other* has moved. 10 turns."""

    metadata = {"name": "echo", "render_modes": []}

    def __init__(self) -> None:
        super().__init__()
        self.possible_agents = ["left", "right"]
        self.render_mode = None

    def observation_space(self, agent: str) -> Box:
        return Box(-1.0, 1.0, (1,), np.float32)

    def action_space(self, agent: str) -> Discrete:
        return Discrete(2)

    def observe(self, agent: str) -> Any:
        return np.array([2.0 * self.bit[agent] - 1], np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.random, self.agents, self.moves = np.random.default_rng(seed), self.possible_agents[:], 0
        self.bit = {agent: int(self.random.integers(2)) for agent in self.agents}
        self.owed = dict.fromkeys(self.agents, 0.0)
        self.rewards, self._cumulative_rewards = dict.fromkeys(self.agents, 0.0), dict.fromkeys(self.agents, 0.0)
        self.terminations, self.truncations = dict.fromkeys(self.agents, False), dict.fromkeys(self.agents, False)
        self.infos: dict[str, Any] = {agent: {} for agent in self.agents}
        self.agent_selection = self.agents[0]

    def step(self, action: Any) -> None:
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        other = self.possible_agents[self.possible_agents[0] == agent]
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self.rewards[other], self.owed[other] = self.owed[other], 0.0
        self.owed[agent] = float(int(action) == self.bit[agent])
        self.bit[agent] = int(self.random.integers(2))
        self.moves += 1
        if self.moves == 20:
            self.rewards[agent] = self.owed[agent]
            self.truncations = dict.fromkeys(self.agents, True)
        self.agent_selection = other
        self._accumulate_rewards()
        self._deads_step_first()


class Duet(ParallelEnv[str, Any, Any]):
    """A singer sees a bit and should repeat it; a dancer sees a place in [−1, 1] and should step there. 10 rounds, cut.

    Each is paid for what it did alone: 1 for the bit, 1 − the distance for the step. A forbidden song is an error: in every
    third round the singer may sing 1 only, which the mask says.
    """

    metadata = {"name": "duet", "render_modes": []}

    def __init__(self) -> None:
        self.possible_agents, self.render_mode = ["singer", "dancer"], None

    def observation_space(self, agent: str) -> Any:
        from gymnasium.spaces import Dict

        if agent == "dancer":
            return Box(-1.0, 1.0, (2,), np.float32)
        return Dict({"observation": Box(-1.0, 1.0, (1,), np.float32), "action_mask": Box(0, 1, (2,), np.int8)})

    def action_space(self, agent: str) -> Any:
        return Box(-1.0, 1.0, (1,), np.float32) if agent == "dancer" else Discrete(2)

    def _see(self) -> dict[str, Any]:
        self.bit, self.place = int(self.random.integers(2)), float(self.random.uniform(-1, 1))
        self.bit = 1 if self.rounds % 3 == 2 else self.bit
        mask = np.array([self.rounds % 3 != 2, 1], np.int8)
        return {
            "singer": {"observation": np.array([2.0 * self.bit - 1], np.float32), "action_mask": mask},
            "dancer": np.array([self.place, 1.0], np.float32),
        }

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.random, self.agents, self.rounds = np.random.default_rng(seed), self.possible_agents[:], 0
        return self._see(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        assert self.rounds % 3 != 2 or int(actions["singer"]) == 1, "a forbidden song"
        step = float(np.asarray(actions["dancer"]).item())
        reward = {"singer": float(int(actions["singer"]) == self.bit), "dancer": 1.0 - abs(step - self.place)}
        self.rounds += 1
        late = dict.fromkeys(self.agents, self.rounds == 10)
        result = self._see(), reward, dict.fromkeys(self.agents, False), late, {agent: {} for agent in self.agents}
        self.agents = [] if self.rounds == 10 else self.agents
        return result


class Recall(Echo):
    """As `Echo`, but what should be repeated is the bit that one saw at one's own turn before; paid at once, 10 turns each."""

    metadata = {"name": "recall", "render_modes": []}

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        super().reset(seed, options)
        self.before: dict[str, int | None] = dict.fromkeys(self.agents)

    def step(self, action: Any) -> None:
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self.rewards[agent] = float(self.before[agent] is not None and int(action) == self.before[agent])
        self.before[agent], self.bit[agent] = self.bit[agent], int(self.random.integers(2))
        self.moves += 1
        if self.moves == 20:
            self.truncations = dict.fromkeys(self.agents, True)
        self.agent_selection = self.possible_agents[self.possible_agents[0] == agent]
        self._accumulate_rewards()
        self._deads_step_first()

"""The agents of W worlds as lanes: their arrays, their action masks and what they did.

Lane w · n + i is agent i of n in world w. What one sees and does is its `Kind`; agents of different kinds form groups, and
`Several` shows each lane a dict by group (`pistar.envs.environment`).

An action mask that PettingZoo gives, as the entry ``"action_mask"`` of the observation or of the info, becomes the entry
``"action_mask"`` of the observation (MultiBinary), beside the entry ``"observation"`` where the observation itself is no dict.
Where a mask allows nothing, because it is not the agent's turn, it is shown as allowing all: what such an agent chooses is
ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from pistar.envs import failures
from pistar.envs.action_log import ActionLog
from pistar.envs.batch import Batch
from pistar.envs.environment import Spaces
from pistar.envs.groups import filler
from pistar.envs.gym_lanes import BatchTensors
from pistar.envs.lanes import scalars
from pistar.envs.layout import Array, Layout, SpaceMismatch, observed_space
from pistar.errors import EnvironmentFailure, UnsupportedSpace

MASK = "action_mask"


class Agents:
    """``agents`` to a world, all of one kind or of several."""

    def __init__(self, kind: Kind | Several, agents: int, worlds: int, world_name: str, replays: bool) -> None:
        self.kind, self.agents, self.world_name = kind, agents, world_name
        self.lanes = worlds * agents
        self.observations, self.actions = Layout(kind.shown, "observation"), Layout(kind.action, "action")
        self.spaces = Spaces(observed_space(kind.shown), kind.action)
        self.batch = Batch.allocate(self.observations, self.lanes)
        self.tensors = BatchTensors(self.batch, self.observations)
        # An agent that waits goes on showing what it saw, whatever a consumer wrote to what it was shown.
        self.seen = [array.copy() for array in self.batch.observation]
        self.valid = np.zeros(self.lanes, bool)  # whose action the last step took
        self.playing = np.zeros(self.lanes, bool)  # whose episode has not ended
        self.info: dict[str, Array] = {}  # name -> [B] float32 of the last step
        self.log = ActionLog(self.actions, self.lanes) if replays else None

    def lanes_of(self, world: int) -> slice:
        """The lanes of a world."""
        return slice(world * self.agents, (world + 1) * self.agents)

    def clear(self) -> None:
        """Nothing has happened yet."""
        self.batch.reward.fill(0.0)
        self.batch.terminated.fill(False)
        self.batch.truncated.fill(False)
        self.valid.fill(False)
        self.info = {}

    def show(self, lane: int, observation: Any, info: Mapping[str, Any], steps: int, *, final: bool = False) -> None:
        """Write what the lane sees; a ``final`` observation is also what it goes on showing while it waits."""
        try:
            value = self.kind.shown_value(observation, info, lane % self.agents)
            self.observations.write(value, self.seen, lane)
            if final:
                self.observations.write(value, self.batch.final_observation, lane)
        except SpaceMismatch as error:
            raise self.broken(f"an observation is outside its space: {error}", lane, steps) from error

    def stop(self, lane: int) -> None:
        """The world is over without a word about this lane: it ends, and what it saw last was its last observation."""
        self.batch.terminated[lane] = True
        for final, array in zip(self.batch.final_observation, self.seen, strict=True):
            final[lane] = array[lane]
        self.playing[lane] = False

    def note(self, lane: int, info: Mapping[str, Any]) -> None:
        """Take over an agent's scalars."""
        for name, value in scalars(info):
            if name not in self.info:
                self.info[name] = np.full(self.lanes, np.nan, np.float32)
            self.info[name][lane] = value

    def publish(self, steps: int, *, stepped: bool) -> None:
        """Give out what the lanes see; raises EnvironmentFailure where an observation or a reward is NaN or infinite."""
        for array, seen in zip(self.batch.observation, self.seen, strict=True):
            array[:] = seen
        fault = self.batch.first_fault(self.observations, self.lanes, stepped=stepped)
        if fault is not None:
            raise self.broken(f"{fault[1]} is {fault[2]} (as float32), expected a finite number", fault[0], steps)

    def broken(self, problem: str, lane: int, steps: int) -> EnvironmentFailure:
        """An agent's world broke PettingZoo's interface."""
        return failures.broke_contract(self.world_name, problem, lane, steps)


class Kind:
    """What an agent sees and does, and where its action mask comes from."""

    def __init__(self, observation: spaces.Space[Any], action: spaces.Space[Any], info: Mapping[str, Any]) -> None:
        self.action, self.nested = action, isinstance(observation, spaces.Dict)
        entries: dict[str, Any] = (
            dict(observation.spaces) if isinstance(observation, spaces.Dict) else {"observation": observation}
        )
        self.in_observation, self.in_info = MASK in entries and self.nested, MASK in info
        self.shown: spaces.Space[Any] = observation
        if self.in_observation or self.in_info:
            if not isinstance(action, spaces.Discrete):
                raise UnsupportedSpace(f"an action mask stands beside the action space {action}; expected Discrete")
            self.shown = spaces.Dict({**entries, MASK: spaces.MultiBinary(int(action.n))})

    @property
    def mask(self) -> str | None:
        """The entry of what is shown that is the action mask, where there is one."""
        return MASK if self.in_observation or self.in_info else None

    def own_action(self, action: Any, agent: int) -> Any:
        """What an agent's world is given."""
        return action

    def shown_value(self, observation: Any, info: Mapping[str, Any], agent: int) -> Any:
        """An agent's observation with its mask."""
        if not (self.in_observation or self.in_info):
            return observation
        if self.nested and not isinstance(observation, Mapping):
            raise SpaceMismatch(f"observation is {type(observation).__name__}, expected a dict")
        entries = dict(observation) if self.nested else {"observation": observation}
        mask = entries.get(MASK) if self.in_observation else info.get(MASK)
        if mask is None:
            mask = np.ones(int(self.action.n), np.int8)  # type: ignore[attr-defined] # looked at when made
        mask = np.asarray(mask)
        return {**entries, MASK: mask if mask.any() else np.ones_like(mask)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kind) and (self.shown, self.action) == (other.shown, other.action)

    __hash__ = None  # type: ignore[assignment]


class Several:
    """Agents of different kinds: dicts by group, in which only the entry of an agent's own group means anything."""

    def __init__(self, groups: Mapping[str, Sequence[int]], kinds: Sequence[Kind]) -> None:
        self._kinds, self._group = list(kinds), {agent: name for name, part in groups.items() for agent in part}
        firsts = {name: kinds[part[0]] for name, part in groups.items()}
        self.shown = spaces.Dict({name: kind.shown for name, kind in firsts.items()})
        self.action = spaces.Dict({name: kind.action for name, kind in firsts.items()})
        self.mask = {name: kind.mask for name, kind in firsts.items() if kind.mask is not None} or None
        self._others = {name: filler(kind.shown) for name, kind in firsts.items()}

    def own_action(self, action: Any, agent: int) -> Any:
        """What an agent's world is given."""
        return action[self._group[agent]]

    def shown_value(self, observation: Any, info: Mapping[str, Any], agent: int) -> Any:
        """An agent's observation with its mask, under its group's name; any element under the others'."""
        return {**self._others, self._group[agent]: self._kinds[agent].shown_value(observation, info, agent)}


def sorted_by_kind(agents: Sequence[Any], kinds: Sequence[Kind]) -> dict[str, list[int]]:
    """Group name -> numbers of its agents: those of equal spaces, called after what their names share."""
    parts: list[list[int]] = []
    for index, kind in enumerate(kinds):
        part = next((part for part in parts if kinds[part[0]] == kind), None)
        if part is None:
            parts.append([index])
        else:
            part.append(index)
    named: dict[str, list[int]] = {}
    for part in parts:
        names = [re.sub(r"[_\-\s]*\d*$", "", str(agents[index])) for index in part]
        name = names[0] if len(set(names)) == 1 and names[0] else "+".join(str(agents[index]) for index in part)
        named[name if name not in named else "+".join(str(agents[index]) for index in part)] = part
    # Names are keys of files and records, where these two lead deeper.
    return {re.sub(r"[/.]", "-", name): part for name, part in named.items()}

"""PettingZoo environments as lanes: B = worlds × agents, stepped in this process.

Agents of equal spaces are the lanes of one policy; where spaces differ they form groups. An agent that ends before its world
does waits, silenced by ``valid``, until the others have ended too. Where agents act in turn, ``environment`` says what a step
is, and a lane's reward is what the agent earned since its own last turn. Episode k of world w starts from
``episode_seed(seed, w, k)``.

It differs from ``gym_lanes`` in that lanes end at different times within one world. Restoring replays each world's actions,
or waits for boundaries where the world is not deterministic under its seed.

What this leaves out: worker processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pistar.envs import failures, pettingzoo_worlds, targets
from pistar.envs.environment import Environment, Spaces, State, Step, Tree
from pistar.envs.gym_lanes import as_arrays, lane_mask
from pistar.envs.pettingzoo_groups import Agents, Kind, Several, sorted_by_kind
from pistar.envs.pettingzoo_targets import Api
from pistar.errors import EnvironmentFailure, UsageError
from pistar.seeding import episode_seed


class PettingZoo(Environment):
    """``lanes`` agents in ``lanes`` / agents worlds of ``target``.

    ``target`` is a name of PettingZoo's, a module, ``module:callable`` or a callable (see ``pettingzoo_targets``); ``api`` says
    whether agents act together or in turn where the environment can do both. ``options`` are keyword arguments of its
    constructor, ``reset_options`` the ``options`` of each reset. ``restoring``: ``"replay"`` where an episode is determined by
    its seed and actions, else ``"boundary"``. ``render`` makes it draw frames.

    Raises UnknownName, MissingExtra, UnsupportedSpace or UsageError at construction.
    """

    def __init__(
        self,
        target: targets.Target,
        lanes: int,
        *,
        api: Api = "auto",
        options: dict[str, Any] | None = None,
        reset_options: dict[str, Any] | None = None,
        restoring: Literal["replay", "boundary"] = "replay",
        render: bool = False,
    ) -> None:
        self.name, self.lanes, self.restoring = targets.name_of(target), lanes, restoring
        self._reset_options, self._render = reset_options, render
        self._seed: int | None = None
        self._steps = 0  # since `reset`
        self._worlds = [pettingzoo_worlds.make(target, api, options, render=render)]
        try:
            self._agents = self._all_agents(restoring == "replay")
            while len(self._worlds) < lanes // self.agents:
                self._worlds.append(pettingzoo_worlds.make(target, api, options, render=render))
        except BaseException:
            self.close()
            raise
        self._episode, self._elapsed = [0] * len(self._worlds), [0] * len(self._worlds)
        self._info: dict[str, Tensor] = {}

    def _all_agents(self, replays: bool) -> Agents:
        """The lanes; looks at a first reset to see where the action masks are."""
        world = self._worlds[0]
        self.agents, self.turn_based = len(world.agents), isinstance(world, pettingzoo_worlds.InTurn)
        if self.lanes < 1 or self.lanes % self.agents:
            fitting = max(self.agents, self.lanes - self.lanes % self.agents)
            raise UsageError(
                f"lanes is {self.lanes}, but {self.agents} agents share a world of {self.name}; expected a multiple of "
                f"{self.agents}, such as {fitting}"
            )
        start = world.begin(0, self._reset_options, self._call)
        raw = world.environment
        kinds = [
            Kind(raw.observation_space(agent), raw.action_space(agent), start.info[index])
            for index, agent in enumerate(world.agents)
        ]
        groups = sorted_by_kind(world.agents, kinds)
        kind: Kind | Several = kinds[0]
        if len(groups) > 1:
            kind, self.groups = Several(groups, kinds), {name: tuple(part) for name, part in groups.items()}
        made = Agents(kind, self.agents, self.lanes // self.agents, self.name, replays)
        self.spaces: Spaces = made.spaces
        self.mask = kind.mask
        return made

    def reset(self, seed: int) -> Tree:
        """Start episode 0 in every world; [B, ...]."""
        self._open()
        self._seed, self._steps = seed, 0
        self._episode = [0] * len(self._worlds)
        self._agents.clear()
        for world in range(len(self._worlds)):
            self._begin(world)
        self._agents.publish(0, stepped=False)
        return self._agents.tensors.observation

    def step(self, action: Tree) -> Step:
        """Advance every world; ``valid`` marks the lanes whose action was taken."""
        self._open()
        if self._seed is None:
            raise UsageError("step was called before reset; call reset(seed) first")
        group = self._agents
        arrays = group.actions.actions(as_arrays(action), self.lanes)
        if group.log:
            group.log.append(arrays)
        rows = group.actions.rows(arrays)
        group.clear()
        for number, world in enumerate(self._worlds):
            self._step_world(number, rows[group.lanes_of(number)])
            if not world.acting:
                self._finish(number)
        group.publish(self._steps, stepped=True)
        self._steps += 1
        info = {name: torch.from_numpy(group.info[name]) for name in sorted(group.info)}
        valid = None if group.valid.all() else torch.from_numpy(group.valid.copy())
        return group.tensors.step(info, valid)

    def _step_world(self, number: int, actions: list[Any]) -> None:
        """One step of one world: ``actions`` of its agents."""
        world, group, first = self._worlds[number], self._agents, number * self.agents
        if self.groups:
            actions = [group.kind.own_action(action, index) for index, action in enumerate(actions)]
        group.valid[[first + index for index in world.acting]] = True
        outcome = world.step(actions, self._call)
        self._elapsed[number] += 1
        for index, observation in outcome.observation.items():
            group.show(first + index, observation, outcome.info.get(index, {}), self._steps)
        for index, observation in outcome.final.items():
            group.show(first + index, observation, outcome.info.get(index, {}), self._steps, final=True)
            group.playing[first + index] = False
        for index, reward in outcome.reward.items():
            if np.ndim(reward) or np.asarray(reward).dtype.kind not in "fiub":
                raise group.broken(
                    f"step gave the reward {reward!r}, expected one real number", first + index, self._steps
                )
            group.batch.reward[first + index] = reward
        group.batch.terminated[[first + index for index in outcome.terminated]] = True
        group.batch.truncated[[first + index for index in outcome.truncated]] = True
        for index, info in outcome.info.items():
            group.note(first + index, info)

    def _finish(self, number: int) -> None:
        """The world is over: its next episode begins within the same step."""
        group = self._agents
        for lane in range(*group.lanes_of(number).indices(self.lanes)):
            if group.playing[lane]:
                group.stop(lane)
        self._episode[number] += 1
        self._begin(number)

    def _begin(self, number: int) -> None:
        """Start episode ``self._episode[number]`` of a world."""
        assert self._seed is not None
        group, first = self._agents, number * self.agents
        seed = episode_seed(self._seed, number, self._episode[number])
        options = None if self._reset_options is None else dict(self._reset_options)
        outcome = self._worlds[number].begin(seed, options, self._call)
        for index, observation in outcome.observation.items():
            group.show(first + index, observation, outcome.info.get(index, {}), self._steps)
        group.playing[group.lanes_of(number)] = True
        self._elapsed[number] = 0
        for lane in range(first, first + self.agents):
            if group.log:
                group.log.begin(lane)

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next episode of the chosen worlds, all of whose lanes must be chosen; [B, ...]."""
        self._open()
        if self._seed is None:
            raise UsageError("cut was called before reset; call reset(seed) first")
        mask = lane_mask(lanes, self.lanes).reshape(-1, self.agents)
        if (mask.any(1) != mask.all(1)).any():
            raise UsageError(
                f"{self.agents} agents share a world of {self.name}: cut all lanes of a world or none of them"
            )
        for number in np.flatnonzero(mask.all(1)).tolist():
            self._episode[number] += 1
            self._begin(number)
        self._agents.publish(self._steps, stepped=False)
        return self._agents.tensors.observation

    def save(self) -> State:
        """Each world's episode number and, in the tier ``replay``, the actions since its start."""
        if self._seed is None:
            raise UsageError("save was called before reset; call reset(seed) first")
        group = self._agents
        state: State = {
            "restoring": self.restoring,
            "seed": self._seed,
            "steps": self._steps,
            "episode": np.array(self._episode, np.int64),
        }
        if group.log is None:
            if any(self._elapsed):
                raise UsageError(
                    f"{self.name} restores at episode boundaries only (restoring = 'boundary'), but a world is within an "
                    "episode; call save right after cut(all lanes)"
                )
            return state
        fields = group.observations.fields
        return state | {
            "elapsed": np.array(self._elapsed, np.int64),
            "actions": group.log.packed(),
            "observation": {
                field.key: array.copy() for field, array in zip(fields, group.batch.observation, strict=True)
            },
        }

    def restore(self, state: State) -> Tree:
        """Continue from ``save``; raises EnvironmentFailure where the world is not deterministic."""
        self._open()
        if state.get("restoring") != self.restoring or len(state.get("episode", ())) != len(self._worlds):
            raise UsageError(
                f"the state is of {len(state.get('episode', ()))} worlds and restoring = {state.get('restoring')!r}, but "
                f"this environment has {len(self._worlds)} and {self.restoring!r}"
            )
        group = self._agents
        self._seed, self._steps = int(state["seed"]), int(state["steps"])
        self._episode = np.asarray(state["episode"]).tolist()
        group.clear()
        for number in range(len(self._worlds)):
            self._begin(number)
        if group.log is not None:
            elapsed = np.asarray(state["elapsed"]).tolist()
            group.log.unpack(state["actions"], [each for each in elapsed for _ in range(self.agents)])
            for number in range(len(self._worlds)):
                self._replay(number, elapsed[number], state["observation"])
            group.clear()
        group.publish(self._steps, stepped=False)
        return group.tensors.observation

    def _replay(self, number: int, steps: int, stored: dict[str, Any]) -> None:
        """Play a world's logged actions again, and require the stored observation bit for bit."""
        group = self._agents
        assert group.log is not None
        lanes = range(*group.lanes_of(number).indices(self.lanes))
        columns = [group.actions.rows(group.log.of_lane(lane)) for lane in lanes]
        for t in range(steps):
            if not self._worlds[number].acting:
                raise self._not_deterministic(number, f"the episode ended at step {t}, which it did not do before")
            self._step_world(number, [column[t] for column in columns])
        for field, array in zip(group.observations.fields, group.seen, strict=True):
            if np.asarray(stored[field.key])[lanes].tobytes() != array[lanes].tobytes():
                raise self._not_deterministic(number, f"{field.label} is another one than before")

    def _not_deterministic(self, number: int, difference: str) -> EnvironmentFailure:
        problem = (
            f"the world is not deterministic under its seed: replaying episode {self._episode[number]} of world {number}, "
            f'{difference}. It cannot be restored by replay; configure restoring = "boundary"'
        )
        return failures.broke_contract(self.name, problem, number * self.agents, self._steps)

    def render(self, lane: int = 0) -> np.ndarray | None:
        """One RGB frame of a lane's world; None unless constructed with ``render=True``."""
        self._open()
        if not self._render:
            return None
        frame = self._call("render", self._worlds[lane // self.agents].environment.render)
        return None if frame is None else np.asarray(frame)

    def close(self) -> None:
        """Close the worlds; safe to call twice."""
        worlds, self._worlds = self._worlds, []
        for world in worlds:
            try:
                world.environment.close()
            except Exception as error:
                print(f"{self.name}: close raised {type(error).__name__}: {error}")

    def _open(self) -> None:
        if not self._worlds:
            raise UsageError(f"{self.name} is closed; make a new one")

    def _call(self, call: str, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except (Exception, SystemExit) as error:
            raise failures.raised(self.name, call, error, None, self._steps) from error


def spaces_of(
    target: targets.Target, api: Api = "auto", options: dict[str, Any] | None = None
) -> tuple[Spaces, int, str | dict[str, str] | None]:
    """What an agent of ``target`` sees and does, how many share a world, and which entry is their mask, by group."""
    world = pettingzoo_worlds.make(target, api, options)
    agents = len(world.agents)
    world.environment.close()
    made = PettingZoo(target, agents, api=api, options=options)
    made.close()
    return made.spaces, agents, made.mask

"""B single Gymnasium environments stepped in turn, their results written into arrays [B, ...]: NumPy only, no torch.

The core of both adapters: ``gym_lanes`` runs it in the learning process, ``worker_process`` runs one on a slice of the
lanes in each worker, over arrays in shared memory. Whichever it is, the same numbers result, because episode k of lane
b is always seeded by ``episode_seed(seed, b, k)`` with b counted over all workers.

A lane that ends is reset within the same step. Its ``info`` is that of the step which ended it; the information that a
reset returns is dropped, since it belongs to no transition.

What this leaves out: vectorised environments that step themselves (``gym_vector``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium.error import DependencyNotInstalled

from pistar.envs import failures, targets
from pistar.envs.action_log import ActionLog
from pistar.envs.batch import Batch
from pistar.envs.layout import Array, Layout, SpaceMismatch
from pistar.errors import EnvironmentFailure, UsageError
from pistar.seeding import episode_seed

Tier = Literal["replay", "boundary"]


@dataclass(frozen=True)
class Plan:
    """What to make and how to run it, the same in every process."""

    target: targets.Target
    lanes: int
    options: dict[str, Any] | None = None  # keyword arguments of the environment's constructor
    reset_options: dict[str, Any] | None = None  # `options` of every `reset`
    restoring: Tier = "replay"
    render: bool = False

    def __post_init__(self) -> None:
        if self.lanes < 1:
            raise UsageError(f"lanes is {self.lanes}, expected at least 1")
        if self.restoring not in ("replay", "boundary"):
            raise UsageError(
                f"restoring is {self.restoring!r}, expected 'replay', or 'boundary' where episodes cannot be replayed"
            )


class Lanes:
    """The environments of lanes ``offset`` to ``offset + lanes - 1``."""

    def __init__(
        self,
        plan: Plan,
        offset: int = 0,
        batch: Callable[[Layout, Layout], Batch] | None = None,  # of the observation and the action layout
        info_array: Callable[[str], Array] | None = None,  # [B] float32 for a scalar reported for the first time
    ) -> None:
        self.plan, self.offset, self.name = plan, offset, targets.name_of(plan.target)
        self.environments: list[Any] = []
        try:
            self.environments.extend(self._make() for _ in range(plan.lanes))
            self.observations = Layout(self.environments[0].observation_space, "observation")
            self.actions = Layout(self.environments[0].action_space, "action")
        except BaseException:
            self.close()
            raise
        self.batch = batch(self.observations, self.actions) if batch else Batch.allocate(self.observations, plan.lanes)
        self.progress = self.batch.progress[0]
        self.info: dict[str, Array] = {}  # name -> [B] float32 of the last step, NaN where a lane reported none
        self.log = ActionLog(self.actions, plan.lanes) if plan.restoring == "replay" else None
        self.seed: int | None = None
        self.steps = 0  # since `reset`
        self.episode = [0] * plan.lanes
        self.elapsed = [0] * plan.lanes  # steps since the lane's episode began
        self._new_info_array = info_array or (lambda name: np.zeros(plan.lanes, np.float32))
        self._info_arrays: dict[str, Array] = {}
        self._reported: set[str] = set()

    def _make(self) -> Any:
        environment = targets.make(self.plan.target, self.plan.options, render=self.plan.render)
        if self.environments and (
            environment.observation_space != self.environments[0].observation_space
            or environment.action_space != self.environments[0].action_space
        ):
            raise failures.broke_contract(
                self.name, "its spaces differ from those of the first lane; expected the same in every lane"
            )
        return environment

    def reset(self, seed: int) -> None:
        """Start episode 0 on every lane."""
        self.seed, self.steps, self.episode = seed, 0, [0] * self.plan.lanes
        self.batch.terminated.fill(False)
        self.batch.truncated.fill(False)
        self.info = {}
        self.begin(range(self.plan.lanes))

    def step(self, actions: list[Array]) -> None:
        """Advance every lane by one action, given as arrays [B, ...] that the environments may keep."""
        if self.seed is None:
            raise UsageError("step was called before reset; call reset(seed) first")
        for name in self._reported:
            self._info_arrays[name].fill(np.nan)
        self._reported.clear()
        if self.log:
            self.log.append(actions)
        lane = 0
        try:
            for lane, action in enumerate(self.actions.rows(actions)):
                self._step_lane(lane, action)
        except EnvironmentFailure:
            self._check_finite(lane, stepped=True)  # a lower lane's fault comes first, however the lanes are split
            raise
        self.progress[0] = -1
        self._check_finite(self.plan.lanes, stepped=True)
        self.info = {name: self._info_arrays[name] for name in sorted(self._reported)}
        self.steps += 1

    def cut(self, lanes: Array) -> None:
        """Start the next episode of the lanes where ``lanes`` [B] is True."""
        chosen = np.flatnonzero(lanes).tolist()
        for lane in chosen:
            self.episode[lane] += 1
        self.begin(chosen)

    def render(self, lane: int) -> Array | None:
        """One RGB frame [height, width, 3] of a lane; None where it was not asked for at construction."""
        if not self.plan.render:
            return None
        try:
            frame = self.environments[lane].render()
        except DependencyNotInstalled as error:
            raise targets.missing_dependency(f"rendering {self.name}", error) from error
        except (Exception, SystemExit) as error:
            raise failures.raised(self.name, "render", error, lane + self.offset, self.steps) from error
        return None if frame is None else np.asarray(frame)

    def close(self) -> None:
        """Close every environment; an error in one does not keep the others open."""
        environments, self.environments = self.environments, []
        for environment in environments:
            try:
                environment.close()
            except Exception as error:
                print(f"{self.name}: close raised {type(error).__name__}: {error}")

    def begin(self, lanes: Iterable[int]) -> None:
        """Start episode ``self.episode[lane]`` of each of the lanes."""
        lane = 0
        try:
            for lane in lanes:
                self._reset_lane(lane)
        except EnvironmentFailure:
            self._check_finite(lane, stepped=False)
            raise
        self.progress[0] = -1
        self._check_finite(self.plan.lanes, stepped=False)

    def _reset_lane(self, lane: int) -> None:
        """Start the lane's episode number ``self.episode[lane]``."""
        assert self.seed is not None
        arguments: dict[str, Any] = {"seed": episode_seed(self.seed, lane + self.offset, self.episode[lane])}
        if self.plan.reset_options is not None:
            arguments["options"] = dict(self.plan.reset_options)
        self._announce(lane)
        try:
            outcome = self.environments[lane].reset(**arguments)
        except (Exception, SystemExit) as error:
            raise failures.raised(self.name, "reset", error, lane + self.offset, self.steps) from error
        if type(outcome) is not tuple or len(outcome) != 2:
            raise self._broken(f"reset returned {_shape_of(outcome)}, expected (observation, info)", lane)
        self.write("reset", outcome[0], self.batch.observation, lane)
        self.elapsed[lane] = 0
        if self.log:
            self.log.begin(lane)

    def _step_lane(self, lane: int, action: Any) -> None:
        batch = self.batch
        observation, reward, terminated, truncated, info = self.call_step(lane, action)
        if type(terminated) is not bool or type(truncated) is not bool:
            terminated, truncated = self._flag("terminated", terminated, lane), self._flag("truncated", truncated, lane)
        if not isinstance(reward, float):  # NumPy's float64 is one too
            self._check_reward(reward, lane)
        batch.reward[lane], batch.terminated[lane], batch.truncated[lane] = reward, terminated, truncated
        if info:
            self._note(info, lane)
        self.elapsed[lane] += 1
        if not (terminated or truncated):
            self.write("step", observation, batch.observation, lane)
            return
        self.write("step", observation, batch.final_observation, lane)
        self.episode[lane] += 1
        self._reset_lane(lane)

    def call_step(self, lane: int, action: Any) -> Any:
        """The five values that the lane's environment returns for an action; raises EnvironmentFailure."""
        self._announce(lane)
        try:
            outcome = self.environments[lane].step(action)
        except (Exception, SystemExit) as error:
            raise failures.raised(self.name, "step", error, lane + self.offset, self.steps) from error
        if type(outcome) is not tuple or len(outcome) != 5:
            expected = "the 5 values (observation, reward, terminated, truncated, info)"
            raise self._broken(f"step returned {_shape_of(outcome)}, expected {expected}", lane)
        return outcome

    def _announce(self, lane: int) -> None:
        """Leave word of the lane at work, for the case that the environment never returns."""
        progress = self.progress
        progress[0] = lane + self.offset
        progress[1] += 1

    def write(self, call: str, observation: Any, arrays: list[Array], lane: int) -> None:
        """Copy the lane's observation, which ``call`` returned, into its row; raises EnvironmentFailure."""
        try:
            self.observations.write(observation, arrays, lane)
        except SpaceMismatch as error:
            raise self._broken(f"{call} gave an observation outside its space: {error}", lane) from error

    def _flag(self, word: str, value: Any, lane: int) -> bool:
        if np.ndim(value) or np.asarray(value).dtype.kind not in "biu":
            raise self._broken(f"step gave {word}={value!r}, expected True or False", lane)
        return bool(value)

    def _check_reward(self, reward: Any, lane: int) -> None:
        if np.ndim(reward) or np.asarray(reward).dtype.kind not in "fiub":
            raise self._broken(f"step gave the reward {reward!r}, expected one real number", lane)

    def _note(self, info: Any, lane: int) -> None:
        if not isinstance(info, Mapping):
            raise self._broken(f"step gave the info {info!r}, expected a dict", lane)
        for name, value in scalars(info):
            array = self._info_arrays.get(name)
            if array is None:
                array = self._info_arrays[name] = self._new_info_array(name)
                array.fill(np.nan)
            array[lane] = value
            self._reported.add(name)

    def _check_finite(self, lanes: int, *, stepped: bool) -> None:
        """Raise for the lowest of the first ``lanes`` lanes whose observation or reward is NaN or infinite."""
        fault = self.batch.first_fault(self.observations, lanes, stepped=stepped)
        if fault is not None:
            raise self._broken(f"{fault[1]} is {fault[2]} (as float32), expected a finite number", fault[0])

    def _broken(self, problem: str, lane: int) -> EnvironmentFailure:
        return failures.broke_contract(self.name, problem, lane + self.offset, self.steps)


def scalars(info: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of an ``info`` dict; those of nested dicts are called ``outer/inner``."""
    for key, value in info.items():
        if isinstance(value, Mapping):
            yield from scalars(value, f"{prefix}{key}/")
        elif isinstance(value, float | int | np.generic | np.ndarray):
            array = np.asarray(value)
            if array.ndim == 0 and array.dtype.kind in "fiub":
                yield f"{prefix}{key}", float(value)


def _shape_of(outcome: Any) -> str:
    return f"{len(outcome)} values" if isinstance(outcome, tuple | list) else f"a {type(outcome).__name__}"

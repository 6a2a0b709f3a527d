"""An environment's own vectorised form as B lanes: one call steps all of them.

By far the fastest where an environment offers it (CartPole's costs a few microseconds for any number of lanes), and the
way to simulators that are vector environments by nature. What differs from ``gym_lanes``, which steps them one by one:

- Ends are handled in whichever of Gymnasium's three ways the environment has. ``NEXT_STEP`` gives entries whose action is
  ignored (``valid = False``); ``SAME_STEP`` and ``DISABLED`` look like any other environment.
- Where ``reset`` takes a seed per lane (``SyncVectorEnv``, ``AsyncVectorEnv``), this module starts every episode, with the
  seeds that ``environment`` prescribes and no ignored action, whatever the mode; in ``SAME_STEP``, that is a second reset.
- Elsewhere only the reset of all lanes can be seeded: restart k with one seed, derived from the run's and k. The lanes
  then draw from one stream, so an episode's start depends on how many lanes there are and on when the others ended.
- Restoring is possible right after all lanes were restarted only (tier ``boundary``).

What this leaves out: vector environments that resume within an episode, and EnvPool's older, incompatible interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.error import DependencyNotInstalled
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from pistar.envs import failures, targets, vector_info
from pistar.envs.autoreset import mode_of, takes_seeds
from pistar.envs.batch import Batch
from pistar.envs.environment import Environment, Spaces, State, Step, Tree
from pistar.envs.gym_lanes import BatchTensors, as_arrays, lane_mask
from pistar.envs.layout import Array, Layout, SpaceMismatch, any_of, observed_space
from pistar.errors import EnvironmentFailure, UsageError
from pistar.seeding import episode_seed, world_seed


class GymnasiumVector(Environment):
    """``lanes`` environments of ``target`` as one vector environment.

    ``target`` is a registered id with a vector entry point, ``module:Id-v0``, ``module:Class`` or a callable that takes
    ``num_envs``, or a vector environment itself. ``options`` are keyword arguments of its constructor, ``reset_options``
    the ``options`` of each reset. ``autoreset`` says how it treats ends where its metadata do not.

    Raises UnknownName, MissingExtra, UnsupportedSpace or UsageError at construction.
    """

    restoring = "boundary"

    def __init__(
        self,
        target: targets.Target | VectorEnv[Any, Any, Any],
        lanes: int,
        *,
        options: dict[str, Any] | None = None,
        reset_options: dict[str, Any] | None = None,
        autoreset: AutoresetMode | str | None = None,
        render: bool = False,
    ) -> None:
        if lanes < 1:
            raise UsageError(f"lanes is {lanes}, expected at least 1")
        self.name, self.lanes = targets.name_of(target), lanes
        self._environment: Any = targets.make_vector(target, lanes, options, render=render)
        try:
            self._examine(autoreset)
        except BaseException:
            self.close()
            raise
        self._reset_options, self._render = reset_options, render
        self._seed: int | None = None
        self._steps = 0  # since `reset`
        self._restarts = 0  # of all lanes together
        self._restarted = False  # whether nothing happened since the last of them
        self._episode = np.zeros(lanes, np.int64)
        self._everyone = np.ones(lanes, bool)
        self._owes = False  # whether any is
        self._owed = np.zeros(lanes, bool)  # lanes that the environment will reset at the next step (NEXT_STEP)

    def _examine(self, given: AutoresetMode | str | None) -> None:
        """Find out how the environment treats ends and seeds, and make the arrays for its results."""
        environment = self._environment
        if environment.num_envs != self.lanes:
            raise UsageError(f"{self.name} has {environment.num_envs} lanes (num_envs), expected {self.lanes}")
        self.autoreset = mode_of(self.name, environment, given)
        self._seeds_lanes = takes_seeds(environment)
        self.cuts_single_lanes = self._seeds_lanes or self.autoreset is AutoresetMode.DISABLED
        observation, action = environment.single_observation_space, environment.single_action_space
        self.spaces = Spaces(observed_space(observation), action)
        self._observations, self._actions = Layout(observation, "observation"), Layout(action, "action")
        self._batch = Batch.allocate(self._observations, self.lanes)
        self._tensors = BatchTensors(self._batch, self._observations)

    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane; [B, ...]."""
        self._seed, self._steps, self._restarts = seed, 0, 0
        self._episode.fill(0)
        return self._restart()

    def step(self, action: Tree) -> Step:
        """Advance every lane by one action [B, ...]; ``valid`` marks the lanes whose action was taken."""
        environment = self._open()
        if self._seed is None:
            raise UsageError("step was called before reset; call reset(seed) first")
        arrays = self._actions.actions(as_arrays(action), self.lanes)
        self._restarted = False
        outcome = self._call("step", lambda: environment.step(self._actions.tree(arrays)))
        if not isinstance(outcome, tuple) or len(outcome) != 5:
            raise self._broken(
                f"step returned {outcome!r:.80}, expected the 5 values (observation, reward, terminated, truncated, info)"
            )
        observation, reward, terminated, truncated, info = outcome
        batch, valid = self._batch, ~self._owed if self._owes else None
        batch.reward[:] = self._per_lane("reward", reward, "fiub")
        batch.terminated[:] = self._per_lane("terminated", terminated, "biu")
        batch.truncated[:] = self._per_lane("truncated", truncated, "biu")
        ended = batch.terminated | batch.truncated
        if valid is not None:
            batch.reward[~valid] = 0
            if (ended & ~valid).any():
                problem = "it ended an episode in the step that only resets it (AutoresetMode.NEXT_STEP)"
                raise self._broken(problem, int((ended & ~valid).argmax()))
        self._write("step", observation, batch.observation)
        scalars = self._handle_ends(ended, info)
        self._check_finite(stepped=True)
        self._steps += 1
        reported = vector_info.joined(scalars, self._everyone if valid is None else valid) if scalars else {}
        return self._tensors.step(
            {name: torch.from_numpy(values) for name, values in reported.items()},
            None if valid is None else torch.from_numpy(valid),
        )

    def _handle_ends(self, ended: Array, info: Mapping[str, Any]) -> list[vector_info.Scalar]:
        """Fill in final observations, let new episodes begin, and give the scalars of the step itself."""
        waits = self.autoreset is AutoresetMode.NEXT_STEP and not self.cuts_single_lanes
        if self._owes:
            self._episode += self._owed
            self._owed.fill(False)
            self._owes = False
        if not any_of(ended):
            return list(vector_info.scalars(info, ~ended)) if info else []
        self._owes = waits
        self._owed[:] = ended & waits
        self._episode += ended & ~self._owed
        if self.autoreset is AutoresetMode.SAME_STEP:
            self._write_final(info.get("final_obs"), ended)
            last = info.get("final_info", {})
            scalars = [*vector_info.scalars(info, ~ended), *vector_info.scalars(last, ended)]
        else:
            for final, array in zip(self._batch.final_observation, self._batch.observation, strict=True):
                final[ended] = array[ended]
            scalars = list(vector_info.scalars(info, self._everyone)) if info else []
        if self.cuts_single_lanes:
            self._begin(ended)
        return scalars

    def _write_final(self, final: Any, ended: Array) -> None:
        """Take over ``info["final_obs"]``: an object per lane, or one batch."""
        if final is None:
            raise self._broken(
                "a lane ended, but step's info has no 'final_obs'; expected the last observation of the episode, as "
                "AutoresetMode.SAME_STEP has it",
                int(ended.argmax()),
            )
        if not (isinstance(final, np.ndarray) and final.dtype == object):
            self._write("final_obs of step", final, self._batch.final_observation, ended)
            return
        for lane in np.flatnonzero(ended).tolist():
            try:
                self._observations.write(final[lane], self._batch.final_observation, lane)
            except SpaceMismatch as error:
                raise self._broken(f"step gave a final_obs outside its space: {error}", lane) from error

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next episode of the chosen lanes; [B, ...].

        Raises UsageError for some of the lanes where only all can be restarted (``cuts_single_lanes``).
        """
        self._open()
        mask = lane_mask(lanes, self.lanes)
        if self._seed is None:
            raise UsageError("cut was called before reset; call reset(seed) first")
        if mask.all():
            self._episode += 1
            self._restarts += 1
            return self._restart()
        if not self.cuts_single_lanes:
            raise UsageError(f"{self.name} restarts all lanes or none; received a cut of {int(mask.sum())}")
        if mask.any():
            self._episode += mask
            self._begin(mask)
            self._check_finite(stepped=False)
        return self._tensors.observation

    def _restart(self) -> Tree:
        """Start every lane's episode."""
        self._owed.fill(False)
        self._owes = False
        self._begin(self._everyone, restart=True)
        self._check_finite(stepped=False)
        self._restarted = True
        return self._tensors.observation

    def _begin(self, lanes: Array, *, restart: bool = False) -> None:
        """Reset the chosen lanes, with seeds where the environment takes them.

        ``restart`` tells a restart of all lanes from their ends in the same step, after which the environment's stream
        goes on: the same seed would begin the same episodes again.
        """
        environment = self._open()
        assert self._seed is not None
        self._restarted = False
        options = None if self._reset_options is None else dict(self._reset_options)
        seed: Any = None
        if self._seeds_lanes:
            seed = [episode_seed(self._seed, lane, int(self._episode[lane])) for lane in range(self.lanes)]
        elif restart:
            seed = world_seed(self._seed, "vector", self._restarts)
        if not lanes.all():
            options = (options or {}) | {"reset_mask": lanes.copy()}
        outcome = self._call("reset", lambda: environment.reset(seed=seed, options=options))
        if not isinstance(outcome, tuple) or len(outcome) != 2:
            raise self._broken(f"reset returned {outcome!r:.80}, expected (observation, info)")
        self._write("reset", outcome[0], self._batch.observation, lanes)

    def save(self) -> State:
        """What ``restore`` needs; raises UsageError unless all lanes were restarted just before."""
        if not self._restarted:
            raise UsageError(
                f"{self.name} restores at episode boundaries only (restoring = 'boundary'); call save right after "
                "reset or cut(all lanes)"
            )
        return {
            "restoring": "boundary",
            "seed": self._seed,
            "steps": self._steps,
            "restarts": self._restarts,
            "episode": self._episode.copy(),
        }

    def restore(self, state: State) -> Tree:
        """Begin the episodes before which ``save`` was called; [B, ...]."""
        if state.get("restoring") != "boundary" or "restarts" not in state:
            raise UsageError("the state was saved by another kind of environment; expected one of a vector environment")
        if len(state["episode"]) != self.lanes:
            raise UsageError(f"the state holds {len(state['episode'])} lanes, but this environment has {self.lanes}")
        self._seed, self._steps, self._restarts = int(state["seed"]), int(state["steps"]), int(state["restarts"])
        self._episode[:] = np.asarray(state["episode"])
        return self._restart()

    def render(self, lane: int = 0) -> np.ndarray | None:
        """One RGB frame of a lane; None unless constructed with ``render=True``."""
        environment = self._open()
        if not self._render:
            return None
        frames = self._call("render", environment.render)
        return None if frames is None else np.asarray(frames[lane])

    def close(self) -> None:
        """Close the environment; safe to call twice."""
        environment, self._environment = self._environment, None
        if environment is not None:
            environment.close()

    def _open(self) -> Any:
        if self._environment is None:
            raise UsageError(f"{self.name} is closed; make a new one")
        return self._environment

    def _call(self, call: str, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except DependencyNotInstalled as error:
            raise targets.missing_dependency(self.name, error) from error
        except (Exception, SystemExit) as error:
            raise failures.raised(self.name, call, error, None, self._steps) from error

    def _write(self, call: str, observation: Any, arrays: list[Array], lanes: Array | slice = slice(None)) -> None:
        """Copy the chosen lanes' rows of a batch of observations; raises EnvironmentFailure."""
        try:
            if not self._observations.nested and type(lanes) is slice:
                arrays[0][:] = self._observations.fields[0].fit_batch(observation, self.lanes)
                return
            leaves = self._observations.flatten(observation)
            for field, array, leaf in zip(self._observations.fields, arrays, leaves, strict=True):
                array[lanes] = field.fit_batch(leaf, self.lanes)[lanes]
        except SpaceMismatch as error:
            raise self._broken(f"{call} gave a batch of observations outside its space: {error}") from error

    def _per_lane(self, word: str, value: Any, kinds: str) -> Array:
        array: Array = np.asarray(value)
        if array.shape != (self.lanes,) or array.dtype.kind not in kinds:
            expected = "real numbers" if word == "reward" else "booleans"
            raise self._broken(
                f"step gave {word} of shape {array.shape} and dtype {array.dtype}, expected ({self.lanes},) {expected}"
            )
        return array

    def _check_finite(self, *, stepped: bool) -> None:
        fault = self._batch.first_fault(self._observations, self.lanes, stepped=stepped)
        if fault is not None:
            raise self._broken(f"{fault[1]} is {fault[2]} (as float32), expected a finite number", fault[0])

    def _broken(self, problem: str, lane: int | None = None) -> EnvironmentFailure:
        return failures.broke_contract(self.name, problem, lane, self._steps)


def spaces_of(target: targets.Target, options: dict[str, Any] | None = None) -> Spaces:
    """What a lane of ``target`` sees and does, as ``GymnasiumVector`` gives it; makes one environment and closes it.

    Raises what the construction of ``GymnasiumVector`` raises.
    """
    environment = GymnasiumVector(target, 1, options=options)
    environment.close()
    return environment.spaces

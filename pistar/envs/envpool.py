"""EnvPool's worlds, some 1,600 of them, as a vector environment: one call steps all lanes on threads in C++.

``gym_vector`` makes lanes of it; this module only gives EnvPool the interface that Gymnasium's vector environments have.
What differs from others of them:

- A pool takes seeds only when it is made, so that a seeded reset of all lanes makes a new one. Lane b draws from a stream of
  its own, seeded with ``episode_seed(seed, b, 0)``: what it sees depends neither on the other lanes nor on the threads.
- A lane that ended is reset by the next step, which ignores its action (``AutoresetMode.NEXT_STEP``).
- EnvPool counts an episode's steps itself (option ``max_episode_steps``). It never sets both flags: where the task ends in
  the very step in which the time is up, it says truncated only, while Gymnasium says terminated, too. The learner then
  bootstraps from a state that has no future; with a limit of n steps that concerns episodes of exactly n steps only.
- Its tasks are written anew in C++: rewards and observations follow the originals, not bit for bit.

What this leaves out: worlds of several players, stepping some of the lanes while others are computed, restoring within an
episode.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from pistar.envs.environment import Spaces
from pistar.envs.gym_vector import GymnasiumVector
from pistar.errors import MissingExtra, UnknownName, UnsupportedSpace, UsageError
from pistar.seeding import episode_seed

PREFIX = "envpool:"  # of an id that only EnvPool knows: "envpool:Pong-v5"
OURS = ("num_envs", "batch_size", "num_threads", "seed", "env_seed", "gym_reset_return_info", "max_num_players")
PIXELS = ("from_pixels", "render_width", "render_height", "render_camera_id")  # options that no task lists
BOOKKEEPING = ("env_id", "players", "elapsed_step")  # in `info`, and no quantities of the task


class EnvPool(VectorEnv[Any, Any, Any]):
    """``num_envs`` lanes of the task that EnvPool calls ``identifier``, stepped by ``num_threads`` threads.

    ``options`` are EnvPool's settings of the task. Threads start at the first reset.

    Raises MissingExtra, UnknownName for a task or an option, UnsupportedSpace for several players, or UsageError.
    """

    def __init__(
        self,
        identifier: str,
        num_envs: int,
        num_threads: int = 1,
        options: Mapping[str, Any] | None = None,
        *,
        render: bool = False,
    ) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": ["rgb_array"]}
        self.num_envs, self.render_mode = num_envs, "rgb_array" if render else None
        self._identifier = identifier.removeprefix(PREFIX)
        self._module = _import_envpool(self._identifier)
        self._settings = {
            **(options or {}),
            "num_envs": num_envs,
            "num_threads": min(num_threads, num_envs),
            **({"render_mode": "rgb_array"} if render else {}),
        }
        self._pool: Any = None
        observation, action = _spaces(self._module, self._identifier, options or {}, self._settings)
        self.single_observation_space, self.single_action_space = observation, action
        self.observation_space, self.action_space = batch_space(observation, num_envs), batch_space(action, num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode on every lane; with a seed (an int), in a new pool. Observation [B, ...] and no info."""
        if options:
            raise UsageError(f"EnvPool's resets take no options, received {options}")
        if seed is not None or self._pool is None:
            self._pool = None  # its threads end and its memory is free before the next one is made
            seeds = [episode_seed(int(seed or 0), lane, 0) for lane in range(self.num_envs)]
            self._pool = self._module.make_gymnasium(self._identifier, seed=seeds, **self._settings)
        with _quiet():
            observation, _ = self._pool.reset()
        return observation, {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One action [B, ...] for every lane; lanes that ended before begin anew instead."""
        observation, reward, terminated, truncated, info = self._pool.step(actions)
        scalars = {name: values for name, values in info.items() if name not in BOOKKEEPING}
        return observation, reward, terminated, truncated, scalars

    def render(self) -> Any:
        """A frame of each lane, [B, height, width, 3] uint8."""
        return self._pool.render(np.arange(self.num_envs, dtype=np.int32))

    def close_extras(self, **kwargs: Any) -> None:
        """End the pool's threads."""
        self._pool = None


def lanes(
    identifier: str,
    count: int,
    threads: int = 1,
    options: Mapping[str, Any] | None = None,
    *,
    render: bool = False,
) -> GymnasiumVector:
    """``count`` lanes of an EnvPool task, under pistar's contract; ``threads`` changes speed only."""
    if count < 1 or threads < 1:
        raise UsageError(f"{identifier} needs at least 1 lane and 1 thread, received {count} and {threads}")
    environment = GymnasiumVector(EnvPool(identifier, count, threads, options, render=render), count, render=render)
    environment.name = f"EnvPool's {identifier.removeprefix(PREFIX)}"
    return environment


def spaces_of(identifier: str, options: Mapping[str, Any] | None = None) -> Spaces:
    """What a lane sees and does; starts no thread. Raises what ``lanes`` raises."""
    return lanes(identifier, 1, options=options).spaces


def _import_envpool(identifier: str) -> Any:
    try:
        return importlib.import_module("envpool")
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "envpool", "envpool", f"EnvPool's {identifier}") from error


def _spaces(module: Any, identifier: str, options: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """The observation and action space of a lane; refuses what a run could not be made of."""
    known = module.list_all_envs()
    if identifier not in known:
        near = difflib.get_close_matches(identifier, known, n=8, cutoff=0.4)
        hint = (
            f"Those are the nearest of EnvPool's {len(known)}; it has not every id of Gymnasium's: --gymnasium.adapter "
            "lanes steps those"
        )
        raise UnknownName("EnvPool environment", identifier, near, hint)
    ours = sorted(set(options) & set(OURS))
    if ours:
        raise UsageError(
            f"the option {ours[0]!r} of EnvPool is set by pistar; expected options of the task only. Lanes, threads and "
            "seed are --lanes, --threads and --seed"
        )
    with _quiet():
        fields = _make_spec(module, identifier, {}).config._fields
        for name in options:
            if name not in (*fields, *PIXELS):
                raise UnknownName(
                    f"option of EnvPool's {identifier}", name, sorted({*fields, *PIXELS} - {*OURS, "base_path"})
                )
        spec = _make_spec(module, identifier, settings)
        if spec.config.max_num_players != 1:
            raise UnsupportedSpace(
                f"EnvPool's {identifier} has {spec.config.max_num_players} players, whose actions it takes as one list; "
                "expected a task of one player"
            )
        return spec.observation_space, spec.action_space


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Gymnasium's warnings about bounds whose precision EnvPool's dtype lowers; it makes its spaces when asked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _make_spec(module: Any, identifier: str, settings: Mapping[str, Any]) -> Any:
    """EnvPool's description of the task, its errors in our words: a missing library, an option of the wrong type."""
    try:
        return module.make_spec(identifier, **settings)
    except Exception as error:
        raise UsageError(
            f"EnvPool cannot make {identifier} with the options {dict(settings)}: {type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no reason given'}"
        ) from error

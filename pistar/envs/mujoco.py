"""Gymnasium's MuJoCo tasks, many lanes to a call, on ``mujoco.batch.Batch``.

The physics of all lanes runs in one C++ call, on a thread pool if asked; what remains is NumPy over [B, ...] arrays in
float64, cast to float32 once, on the way out. Given equal positions, velocities and (float64) actions, observations,
rewards, flags and info equal Gymnasium's bit for bit; an adapter around ``gymnasium.make`` would pay Python's price for
every lane instead. The tasks themselves are in ``mujoco_tasks``, the picture without OpenGL in ``mujoco_drawing``.

Lanes are independent: episode k of lane b starts, bit for bit, as Gymnasium's ``reset(seed=episode_seed(seed, b, k))``
does, and nothing depends on the number of threads. Restoring is of tier ``state``: a lane is its mjSTATE_INTEGRATION
vector and the few numbers that its task reads before it steps.

Left out: Gymnasium's constructor arguments and wrappers, and rendering to a window.
"""

from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from pistar import seeding
from pistar.envs import failures, mujoco_drawing, mujoco_opengl
from pistar.envs.environment import Environment, Scalars, Spaces, State, Step, Tree
from pistar.envs.mujoco_task import ALL, Array, Lanes
from pistar.envs.mujoco_tasks import TASKS
from pistar.errors import ArtefactError, EnvironmentFailure, MissingExtra, NumericalError, UnknownName, UsageError

__all__ = ["TASKS", "MujocoBatch", "opengl_hint"]

FRAME_SIZE = 480  # pixels


class MujocoBatch(Environment):
    """B lanes of one of ``TASKS`` ("HalfCheetah-v5", ...).

    ``threads`` changes speed only. ``random_elapsed`` lets each lane's first episode begin with a random part of its
    time limit already elapsed, so that lanes which start together do not end together; meant for training.
    ``opengl=False`` draws frames flat even where OpenGL works.

    ``observation64`` [B, D], ``reward64`` [B] and ``final_observation64`` [B, D] hold the values before the cast.
    """

    restoring = "state"

    def __init__(
        self, name: str, lanes: int, threads: int = 1, random_elapsed: bool = False, opengl: bool = True
    ) -> None:
        if name not in TASKS:
            raise UnknownName("MuJoCo task", name, TASKS)
        if lanes < 1 or threads < 1:
            raise UsageError(f"{name} needs at least 1 lane and 1 thread, received {lanes} and {threads}")
        self.name, self.lanes = name, lanes
        self._mujoco, batch_module = _import_mujoco(name)
        task = TASKS[name]
        self._model = _load_model(self._mujoco, task.model_file)
        self._batch = batch_module.Batch(self._model, lanes, threads, task.persistent)
        self._simulation_error: type[Exception] = batch_module.SimulationError
        self._task = task(self._batch, self._model)
        self._control: Array = self._batch.bind("ctrl")
        self._fresh: Array = self._batch.state[0].copy()  # a simulation that has just been reset
        self._random_elapsed, self._opengl = random_elapsed, opengl
        self._renderer: Any = None
        self.spaces = self._make_spaces()
        self._allocate()

    def _make_spaces(self) -> Spaces:
        low, high = np.asarray(self._model.actuator_ctrlrange, np.float32).T
        observation = Box(-np.inf, np.inf, (self._task.observation_size,), np.float32)
        return Spaces(observation, Box(low, high, dtype=np.float32))

    def _allocate(self) -> None:
        """Everything that a step writes: values in float64, side by side, and the tensors that they are cast to."""
        shape = (self.lanes, self._task.observation_size)
        self._values = np.zeros(self.lanes * (self._task.observation_size + 1))
        self.observation64, self.reward64 = self._values[: -self.lanes].reshape(shape), self._values[-self.lanes :]
        self.final_observation64 = np.zeros(shape)
        self._sound = np.zeros(shape, bool)
        single = torch.zeros(len(self._values))
        self._single: Any = single.numpy()
        self._observation, self._reward = single[: -self.lanes].view(shape), single[-self.lanes :]
        self._final_observation = torch.zeros(shape)
        self._terminated, self._truncated = (np.zeros(self.lanes, bool) for _ in range(2))
        self._flags = torch.from_numpy(self._terminated), torch.from_numpy(self._truncated)
        self._scalars: Scalars | None = None
        self._action, self._sound_action = np.zeros(self._control.shape), np.zeros(self._control.shape, bool)
        self._seed: int | None = None
        self._steps = 0  # since reset
        self._elapsed = np.zeros(self.lanes, np.int64)  # steps of the running episode
        self._episode = np.zeros(self.lanes, np.int64)

    def _cast(self) -> Tensor:
        """Observations and rewards of the last step in float32; returns the observation."""
        self._single[:] = self._values
        return self._observation

    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane; returns the observation [B, D]."""
        self._seed, self._steps = seed, 0
        self._batch.warning[:] = 0
        self._episode[:] = 0
        self._begin(np.arange(self.lanes))
        if self._random_elapsed:
            generator = np.random.Generator(np.random.PCG64(seeding.derive(seed, "elapsed")))
            self._elapsed[:] = generator.integers(self._task.time_limit, size=self.lanes)
        return self._cast()

    def _begin(self, lanes: NDArray[np.intp]) -> None:
        """Start the episodes that ``_episode`` numbers, and observe them."""
        assert self._seed is not None
        # Mostly one lane at a time, and a slice costs a third of an array of indices.
        rows: Lanes = slice(int(lanes[0]), int(lanes[0]) + 1) if len(lanes) == 1 else lanes
        self._batch.state[rows] = self._fresh
        for lane in lanes:
            seed = seeding.episode_seed(self._seed, int(lane), int(self._episode[lane]))
            qpos, qvel = self._task.draw(np.random.Generator(np.random.PCG64(seed)))
            self._task.qpos[lane], self._task.qvel[lane] = qpos, qvel
        self._batch.forward(lanes)
        self._elapsed[rows] = 0
        self._task.begin(rows)
        self._task.observe(rows, self.observation64)

    def step(self, action: Tree) -> Step:
        """Advance every lane by one action [B, A]; ``info`` is in float64 and has Gymnasium's entries.

        Raises NumericalError for a policy's action that is not finite, EnvironmentFailure for physics that diverges.
        """
        self._accept(action)
        self._advance_physics()
        self._task.observe(ALL, self.observation64)
        self._require_sound_physics()
        self._steps += 1
        outcome = self._task.judge(self._action)
        self.reward64[:], self._terminated[:] = outcome.reward, outcome.terminated
        np.greater_equal(self._elapsed, self._task.time_limit, out=self._truncated)
        final = None
        if np.count_nonzero(self._terminated) or np.count_nonzero(self._truncated):
            final = self._final_observation
            self.final_observation64[:] = self.observation64
            final.numpy()[:] = self.observation64
            ended = np.flatnonzero(self._terminated | self._truncated)
            self._episode[ended] += 1
            self._begin(ended)
        return Step(self._cast(), self._reward, *self._flags, final, info=self._note(outcome.info))

    def _note(self, info: dict[str, Array]) -> Scalars:
        """The task's scalars, copied into one tensor [K, B]."""
        if self._scalars is None:
            self._scalars = Scalars(info, torch.zeros((len(info), self.lanes), dtype=torch.float64))
            self._noted = self._scalars.stacked.numpy().reshape(-1)
        np.concatenate(tuple(info.values()), out=self._noted)
        return self._scalars

    def _accept(self, action: Tensor) -> None:
        """Take over the action in float64, or refuse it before it reaches the physics."""
        if self._seed is None:
            raise UsageError(f"{self.name} has no episode yet: call reset(seed) or restore(state) before step")
        if action.shape != self._action.shape:
            raise UsageError(
                f"{self.name} expects actions of shape {self._action.shape}, received {tuple(action.shape)}"
            )
        self._action[:] = action.numpy(force=True)
        if np.count_nonzero(np.isfinite(self._action, out=self._sound_action)) < self._action.size:
            lane = int(np.flatnonzero(~np.isfinite(self._action).all(axis=1))[0])
            received = self._action[lane].tolist()
            raise NumericalError(f"the policy's action for lane {lane} is {received}; expected finite numbers")
        self._control[:] = self._action

    def _advance_physics(self) -> None:
        try:
            self._batch.step(nstep=self._task.frame_skip)
        except self._simulation_error as error:
            lane = int(error.ids[0])  # type: ignore[attr-defined]
            raise self._failure(lane, f"MuJoCo raised: {self._batch.error(lane)}") from error
        self._elapsed += 1
        self._task.advance()

    def _require_sound_physics(self) -> None:
        """Refuse what MuJoCo only warns of: it resets an unstable simulation to its defaults and goes on."""
        if np.count_nonzero(self._batch.warning):
            lane, warning = (int(index) for index in np.argwhere(self._batch.warning[:, :, 1])[0])
            text = self._mujoco.mju_warningText(warning, int(self._batch.warning[lane, warning, 0]))
            raise self._failure(lane, f"expected stable physics, but MuJoCo warned: {text.strip()}")
        if np.count_nonzero(np.isfinite(self.observation64, out=self._sound)) < self._sound.size:
            lane = int(np.flatnonzero(~np.isfinite(self.observation64).all(axis=1))[0])
            received = self.observation64[lane].tolist()
            raise self._failure(lane, f"expected a finite observation, received {received}")

    def _failure(self, lane: int, problem: str) -> EnvironmentFailure:
        return failures.broke_contract(self.name, problem, lane, self._steps)

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next episode where ``lanes`` [B] is True; returns the observation [B, D]."""
        chosen = np.flatnonzero(lanes.numpy())
        if chosen.size:
            self._episode[chosen] += 1
            self._begin(chosen)
        return self._cast()

    def save(self) -> State:
        """Everything, as float64 and int64 arrays [B, ...] and integers."""
        return {
            "name": self.name,
            "seed": self._seed,
            "steps": self._steps,
            "physics": self._batch.state.copy(),
            "before": self._task.before.copy(),
            "observation": self.observation64.copy(),
            "elapsed": self._elapsed.copy(),
            "episode": self._episode.copy(),
        }

    def restore(self, state: State) -> Tree:
        """Continue bit for bit from ``save``; any instance of the same task and number of lanes will do."""
        arrays = {
            "physics": self._batch.state,
            "before": self._task.before,
            "observation": self.observation64,
            "elapsed": self._elapsed,
            "episode": self._episode,
        }
        expected = {key: array.shape for key, array in arrays.items()}
        received = {key: np.shape(state[key]) for key in arrays if key in state}
        if state.get("name") != self.name or received != expected:
            raise ArtefactError(
                f"expected a state of {self.name} with {expected}, received one of {state.get('name')} with {received};"
                " restore into the same task with the same number of lanes and the same version of mujoco"
            )
        for key, array in arrays.items():
            array[...] = np.asarray(state[key])
        self._seed, self._steps = state["seed"], int(state["steps"])
        self._batch.warning[:] = 0
        return self._cast()

    def render(self, lane: int = 0) -> NDArray[np.uint8]:
        """A frame [480, 480, 3] of a lane, by OpenGL where that works and flat otherwise (see ``opengl_hint``)."""
        data = self._batch.get_data(lane)  # a copy
        self._mujoco.mj_forward(self._model, data)
        view = self._task.view
        if self._opengl and self._renderer is None:
            self._renderer = mujoco_opengl.make_renderer(self._mujoco, self._model, FRAME_SIZE)
            self._opengl = self._renderer is not None
            if not self._opengl:
                warnings.warn(opengl_hint() or "MuJoCo cannot render here; frames are drawn flat", stacklevel=2)
        if not self._opengl:
            return mujoco_drawing.draw(self._model, data, view, FRAME_SIZE)
        camera = self._mujoco.MjvCamera()
        camera.lookat[:], camera.azimuth = view.centre(data), 90
        camera.distance, camera.elevation = view.distance, view.elevation
        self._renderer.update_scene(data, camera)
        return np.asarray(self._renderer.render(), np.uint8)

    def close(self) -> None:
        """Release the OpenGL context; the physics goes with the object."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def opengl_hint() -> str | None:
    """None where frames are rendered by OpenGL, else one line that says what to install for it."""
    return mujoco_opengl.hint()


def _import_mujoco(name: str) -> tuple[Any, Any]:
    """The modules ``mujoco`` and ``mujoco.batch``."""
    try:
        return importlib.import_module("mujoco"), importlib.import_module("mujoco.batch")
    except ImportError as error:
        raise MissingExtra("mujoco 3.17 or newer", "mujoco", f"the task {name}") from error
    except Exception as error:  # it loads OpenGL at once, and fails in odd ways where that is not there
        chosen = os.environ.get("MUJOCO_GL")
        raise UsageError(
            f"the task {name} needs mujoco, which cannot be imported with MUJOCO_GL={chosen}: {error!r}. "
            "Unset MUJOCO_GL, or set it to an OpenGL that is installed"
        ) from error


def _load_model(mujoco: Any, file: str) -> Any:
    """Compile a model from Gymnasium's assets, without the remarks that MuJoCo prints about them.

    MuJoCo's log file in the working directory is switched off for good, unless the user has named another one: here a
    warning while stepping is an error.
    """
    log = mujoco.MjLogConfig.get()
    log.logto_file = log.logto_file and log.logfile != "MUJOCO_LOG.TXT"
    spoken, log.logto_console = log.logto_console, False
    log.set()
    try:
        path = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / file
        return mujoco.MjModel.from_xml_path(str(path))
    finally:
        log.logto_console = spoken
        log.set()

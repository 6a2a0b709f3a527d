"""What distinguishes one MuJoCo world from another once the physics is shared: its contract, for B lanes at once.

A task is the model file, how an episode starts, what is observed, what is rewarded and when it ends. Gymnasium evaluates one
``MjData``; here every formula works on arrays [B, ...] that ``mujoco.batch.Batch`` keeps current.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pistar.envs.mujoco_drawing import View

Array = NDArray[np.float64]
Lanes = slice | NDArray[np.intp]  # which rows of [B, ...]
ALL = slice(None)


@dataclass(frozen=True)
class Outcome:
    """What one step was worth, before any reset."""

    reward: Array  # [B]
    terminated: NDArray[np.bool_]  # [B]
    info: dict[str, Array]  # name -> [B]; Gymnasium's own names, and for the arms also distance and success


def norms(vectors: Array) -> Array:
    """Euclidean length of each row: [B, n] -> [B].

    Taken with the dot product, as ``numpy.linalg.norm`` takes that of one vector: BLAS may fuse multiplication and
    addition, so the plain sum of squares can differ in the last bit.
    """
    return np.sqrt((vectors[:, None, :] @ vectors[:, :, None])[:, 0, 0])


def squared_sums(rows: Array) -> Array:
    """Sum of squares of each row: [B, n] -> [B]."""
    return np.add.reduce(np.square(rows), axis=1)  # type: ignore[no-any-return]


class Task(ABC):
    """One task on a batch of simulations; ``batch`` is a ``mujoco.batch.Batch`` over ``model``."""

    model_file: ClassVar[str]  # among the assets that Gymnasium installs
    frame_skip: ClassVar[int]  # physics steps per action
    time_limit: ClassVar[int]  # actions per episode
    view: ClassVar[View]
    persistent: ClassVar[bool] = False  # whether the batch must keep one MjData per lane
    noise: ClassVar[float] = 0.1  # scale of the perturbation at the start of an episode

    def __init__(self, batch: Any, model: Any) -> None:
        self.batch, self.model = batch, model
        self.seconds: float = model.opt.timestep * self.frame_skip  # of one action
        self.qpos: Array = batch.bind("qpos")  # [B, nq]
        self.qvel: Array = batch.bind("qvel")  # [B, nv]
        self.xpos: Array = batch.bind("xpos")  # [B, bodies, 3]
        self.bodies = {model.body(index).name: index for index in range(model.nbody)}  # name -> index in xpos
        self.before = np.array(self.position())  # [B, k]: where the next velocity is measured from

    @property
    @abstractmethod
    def observation_size(self) -> int:
        """Numbers in one lane's observation."""

    def draw(self, generator: np.random.Generator) -> tuple[Array, Array]:
        """Positions [nq] and velocities [nv] that start an episode; draws as Gymnasium's ``reset_model`` does."""
        qpos = self.model.qpos0 + generator.uniform(-self.noise, self.noise, self.model.nq)
        return qpos, self.noise * generator.standard_normal(self.model.nv)

    def position(self) -> Array:
        """The coordinates [B, k] whose velocity is rewarded; k is 0 where none is."""
        return self.qpos[:, :0]

    def velocity(self) -> Array:
        """Mean velocity [B, k] over the action just taken, in m/s; the next one is measured from here."""
        position = self.position()
        velocity = position - self.before
        velocity /= self.seconds
        self.before[...] = position
        return velocity

    def begin(self, lanes: Lanes) -> None:
        """Take note that episodes began on ``lanes``, after their physics was set and computed."""
        self.before[lanes] = self.position()[lanes]

    def advance(self) -> None:
        """Compute, after the physics steps, what the batch itself does not."""

    @abstractmethod
    def observe(self, lanes: Lanes, out: Array) -> None:
        """Write the observations of ``lanes`` into their rows of ``out`` [B, observation_size]."""

    @abstractmethod
    def judge(self, action: Array) -> Outcome:
        """Reward and end of the step that ``action`` [B, A] led to; to be called once per step."""

    def none_terminated(self) -> NDArray[np.bool_]:
        """[B] False, for tasks which only the time limit ends."""
        return np.zeros(len(self.qpos), bool)

"""Gymnasium's six standard MuJoCo tasks (version 5), written for B lanes at once.

The definitions are those of Gymnasium's environments with default arguments, evaluated in float64 in the same order of
operations, so that equal positions, velocities and actions give results that are equal bit for bit.

MuJoCo leaves derived fields (body positions, contact forces) one substep behind the joint state after a step. Gymnasium
reads them as they are, hence so do these tasks.

Left out: Gymnasium's constructor arguments (reward weights, health ranges, noise scales), and Humanoid, Swimmer and the
pendulums.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pistar.envs.mujoco_drawing import View
from pistar.envs.mujoco_task import Array, Lanes, Outcome, Task, norms, squared_sums


class Reacher(Task):
    """A planar arm of two links brings its tip to a target."""

    model_file, frame_skip, time_limit = "reacher.xml", 2, 50
    walls: ClassVar[tuple[str, ...]] = ("sideS", "sideE", "sideN", "sideW")
    view = View(distance=1.0, elevation=-70, span=0.66, faint=walls, goal="target")
    observation_size = 10
    touching: ClassVar[float] = 0.019  # m: the radii of the tip and the target, 0.010 + 0.009

    def draw(self, generator: np.random.Generator) -> tuple[Array, Array]:
        """A nearly straight arm, and a target drawn uniformly from the disc of radius 0.2 m."""
        qpos = self.model.qpos0 + generator.uniform(-self.noise, self.noise, self.model.nq)
        while True:
            target = generator.uniform(-0.2, 0.2, 2)
            if np.linalg.norm(target) < 0.2:
                break
        qpos[-2:] = target
        qvel = generator.uniform(-0.005, 0.005, self.model.nv)
        qvel[-2:] = 0
        return qpos, qvel

    def __init__(self, batch: Any, model: Any) -> None:
        super().__init__(batch, model)
        self._angles, self._target, self._speeds = self.qpos[:, :2], self.qpos[:, 2:], self.qvel[:, :2]
        self._tip, self._goal = (self.xpos[:, self.bodies[name]] for name in ("fingertip", "target"))

    def observe(self, lanes: Lanes, out: Array) -> None:
        """Cosine and sine of both angles, target, angular velocities, offset from the target."""
        angles = self._angles[lanes]
        out[lanes, 0:2], out[lanes, 2:4] = np.cos(angles), np.sin(angles)
        out[lanes, 4:6], out[lanes, 6:8] = self._target[lanes], self._speeds[lanes]
        out[lanes, 8:10] = (self._tip[lanes] - self._goal[lanes])[:, :2]

    def judge(self, action: Array) -> Outcome:
        """Reward -distance - |action|^2; success: tip and target touch."""
        distance, control = norms(self._tip - self._goal), squared_sums(action)
        info = {"reward_dist": -distance, "reward_ctrl": -control, "distance": distance}
        info["success"] = (distance < self.touching).astype(float)
        return Outcome(-distance - control, self.none_terminated(), info)


class Pusher(Task):
    """A seven-jointed arm pushes a cylinder onto a goal."""

    model_file, frame_skip, time_limit = "pusher_v5.xml", 5, 100
    view = View(distance=3.2, elevation=-50, lookat=(0.25, -0.15, -0.25), span=1.9)
    observation_size = 23
    goal_radius: ClassVar[float] = 0.08  # m

    def draw(self, generator: np.random.Generator) -> tuple[Array, Array]:
        """The arm at rest, and the cylinder uniform in a rectangle beside the goal but more than 0.17 m from it."""
        qpos = np.array(self.model.qpos0)
        while True:
            cylinder = np.concatenate([generator.uniform(-0.3, 0, 1), generator.uniform(-0.2, 0.2, 1)])
            if np.linalg.norm(cylinder) > 0.17:
                break
        qpos[-4:-2], qpos[-2:] = cylinder, 0
        qvel = generator.uniform(-0.005, 0.005, self.model.nv)
        qvel[-4:] = 0
        return qpos, qvel

    def observe(self, lanes: Lanes, out: Array) -> None:
        """Joint angles and velocities; positions of the arm's tip, the cylinder and the goal."""
        out[lanes, 0:7], out[lanes, 7:14] = self.qpos[lanes, :7], self.qvel[lanes, :7]
        for start, name in ((14, "tips_arm"), (17, "object"), (20, "goal")):
            out[lanes, start : start + 3] = self.xpos[lanes, self.bodies[name]]

    def judge(self, action: Array) -> Outcome:
        """Reward -|cylinder - goal| - 0.1 |action|^2 - 0.5 |cylinder - tip|.

        Success: the cylinder's centre is above the goal's disc.
        """
        cylinder, tip, goal = (self.xpos[:, self.bodies[name]] for name in ("object", "tips_arm", "goal"))
        to_tip, to_goal = cylinder - tip, cylinder - goal
        near, distance, control = -norms(to_tip) * 0.5, -norms(to_goal), -squared_sums(action) * 0.1
        info = {"reward_dist": distance, "reward_ctrl": control, "reward_near": near}
        info["distance"] = norms(to_goal[:, :2])  # on the table, unlike reward_dist
        info["success"] = (info["distance"] < self.goal_radius).astype(float)
        return Outcome(distance + control + near, self.none_terminated(), info)


class HalfCheetah(Task):
    """A planar two-legged runner that cannot fall out of its episode."""

    model_file, frame_skip, time_limit = "half_cheetah.xml", 5, 1000
    view = View(distance=4.0, elevation=-25, lookat=(0, 0, 0.3), span=3.6, side=True, follows=True)

    @property
    def observation_size(self) -> int:
        """All positions but x, and all velocities."""
        return int(self.model.nq - 1 + self.model.nv)

    def position(self) -> Array:
        """X of the root joint: [B, 1], in metres."""
        return self.qpos[:, :1]

    def observe(self, lanes: Lanes, out: Array) -> None:
        """All positions but x, and all velocities."""
        split = self.model.nq - 1
        out[lanes, :split], out[lanes, split:] = self.qpos[lanes, 1:], self.qvel[lanes]

    def judge(self, action: Array) -> Outcome:
        """Reward forward velocity - 0.1 |action|^2."""
        velocity, control = self.velocity()[:, 0], 0.1 * squared_sums(action)
        info = {"x_position": self.qpos[:, 0].copy(), "x_velocity": velocity}
        info |= {"reward_forward": velocity, "reward_ctrl": -control}
        return Outcome(velocity - control, self.none_terminated(), info)


class Hopper(HalfCheetah):
    """A planar one-legged hopper whose episode ends when it falls."""

    model_file, frame_skip = "hopper.xml", 4
    view = View(distance=3.0, elevation=-20, lookat=(0, 0, 0.9), span=2.6, side=True, follows=True)
    noise = 0.005

    def draw(self, generator: np.random.Generator) -> tuple[Array, Array]:
        """Upright, positions and velocities perturbed uniformly."""
        qpos = self.model.qpos0 + generator.uniform(-self.noise, self.noise, self.model.nq)
        return qpos, generator.uniform(-self.noise, self.noise, self.model.nv)

    def healthy(self) -> NDArray[np.bool_]:
        """[B]: higher than 0.7 m, tilted by less than 0.2 rad, and no other coordinate beyond 100."""
        bounded = (np.abs(self.qpos[:, 2:]) < 100).all(axis=1) & (np.abs(self.qvel) < 100).all(axis=1)
        return np.asarray(bounded & (self.qpos[:, 1] > 0.7) & (np.abs(self.qpos[:, 2]) < 0.2))

    def observe(self, lanes: Lanes, out: Array) -> None:
        """All positions but x, and all velocities clipped to 10."""
        split = self.model.nq - 1
        out[lanes, :split], out[lanes, split:] = self.qpos[lanes, 1:], np.clip(self.qvel[lanes], -10, 10)

    def judge(self, action: Array) -> Outcome:
        """Reward forward velocity + 1 while healthy - 0.001 |action|^2."""
        healthy = self.healthy()
        velocity, control, survive = self.velocity()[:, 0], 0.001 * squared_sums(action), healthy.astype(float)
        info = {"x_position": self.qpos[:, 0].copy(), "x_velocity": velocity}
        info["z_distance_from_origin"] = self.qpos[:, 1] - self.model.qpos0[1]
        info |= {"reward_forward": velocity, "reward_ctrl": -control, "reward_survive": survive}
        return Outcome((velocity + survive) - control, ~healthy, info)


class Walker2d(Hopper):
    """A planar two-legged walker whose episode ends when it falls."""

    model_file = "walker2d_v5.xml"
    view = View(distance=4.0, elevation=-20, lookat=(0, 0, 0.9), span=2.8, side=True, follows=True)

    def healthy(self) -> NDArray[np.bool_]:
        """[B]: between 0.8 m and 2 m high and tilted by less than 1 rad."""
        height = self.qpos[:, 1]
        return np.asarray((height > 0.8) & (height < 2.0) & (np.abs(self.qpos[:, 2]) < 1.0))


class Ant(Task):
    """A four-legged runner in three dimensions that also feels its contact forces."""

    model_file, frame_skip, time_limit = "ant.xml", 5, 1000
    view = View(distance=4.0, elevation=-35, lookat=(0, 0, 0.4), span=3.0, side=True, follows=True)
    persistent = True  # contact forces need the whole MjData of the last physics step
    torso: ClassVar[int] = 1  # body index

    def __init__(self, batch: Any, model: Any) -> None:
        import mujoco

        super().__init__(batch, model)
        self._compute_forces = mujoco.mj_rnePostConstraint
        self._scratch = mujoco.MjData(model)
        self._contacts = batch.bind("ncon")  # [B]
        self.forces = np.zeros((batch.nsim, model.nbody * 6))  # external torque and force on each body, within [-1, 1]

    @property
    def observation_size(self) -> int:
        """All positions but x and y, all velocities, and six numbers for each body but the world."""
        return int(self.model.nq - 2 + self.model.nv + 6 * (self.model.nbody - 1))

    def position(self) -> Array:
        """X and y of the torso: [B, 2], in metres, as last computed."""
        return self.xpos[:, self.torso, :2]

    def begin(self, lanes: Lanes) -> None:
        """Note the start; forces are not computed before the first step."""
        super().begin(lanes)
        self.forces[lanes] = 0

    def advance(self) -> None:
        """Compute the contact forces of the last physics step.

        The batch does not: after a Runge-Kutta step they belong to its last stage, which no sensor sees. Copying out a
        lane's MjData costs a few percent of its physics; a lane in the air has no forces.
        """
        self.forces[:] = 0
        for lane in np.flatnonzero(self._contacts):
            self.batch.get_data(int(lane), self._scratch)
            self._compute_forces(self.model, self._scratch)
            self.forces[lane] = self._scratch.cfrc_ext.ravel()
        np.clip(self.forces, -1, 1, out=self.forces)

    def observe(self, lanes: Lanes, out: Array) -> None:
        """All positions but x and y, all velocities, and the clipped forces on each body but the world."""
        first, second = self.model.nq - 2, self.model.nq - 2 + self.model.nv
        out[lanes, :first], out[lanes, first:second] = self.qpos[lanes, 2:], self.qvel[lanes]
        out[lanes, second:] = self.forces[lanes, 6:]

    def judge(self, action: Array) -> Outcome:
        """Reward forward velocity + 1 while healthy - 0.5 |action|^2 - 0.0005 |forces|^2."""
        height = self.qpos[:, 2]
        finite = np.isfinite(self.qpos).all(axis=1) & np.isfinite(self.qvel).all(axis=1)
        healthy = finite & (height >= 0.2) & (height <= 1.0)
        velocity, survive = self.velocity(), healthy.astype(float)
        forward, control, contact = velocity[:, 0], 0.5 * squared_sums(action), 5e-4 * squared_sums(self.forces)
        info = {"x_position": self.qpos[:, 0].copy(), "y_position": self.qpos[:, 1].copy()}
        info |= {"distance_from_origin": norms(self.qpos[:, :2]), "x_velocity": forward, "y_velocity": velocity[:, 1]}
        info |= {"reward_forward": forward, "reward_ctrl": -control, "reward_contact": -contact}
        info["reward_survive"] = survive
        return Outcome((forward + survive) - (control + contact), ~healthy, info)


TASKS: dict[str, type[Task]] = {
    "Reacher-v5": Reacher,
    "Pusher-v5": Pusher,
    "HalfCheetah-v5": HalfCheetah,
    "Hopper-v5": Hopper,
    "Walker2d-v5": Walker2d,
    "Ant-v5": Ant,
}

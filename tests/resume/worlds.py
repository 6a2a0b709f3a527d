"""Small runs in every way that a world can be restored, for every algorithm."""

from __future__ import annotations

from typing import Any

from pistar.experiment import Experiment, find_task, resolve

ALGORITHMS = ("reinforce", "a2c", "ppo")
ITERATIONS, EVERY = 10, 3  # checkpoints after iterations 0, 3, 6, 9 and 10
SMALL: dict[str, Any] = {
    "training": {"lanes": 4, "horizon": 16, "steps": ITERATIONS * 64, "warm_up": 32, "workers": 0},
    "evaluation": {"episodes": 2, "every": 128, "final_episodes": 2},
    "checkpoints": {"every": EVERY},
    "policy": {"kind": "mlp", "hidden": [8]},
}
WRAPPED = {"observation_noise": 0.01, "action_delay": 1}

# name -> task, and tables over SMALL
WORLDS: dict[str, tuple[str, dict[str, Any]]] = {
    "native": ("cartpole", {}),  # tier state
    "mujoco": ("reacher", {}),  # tier state
    "lanes": ("CartPole-v1", {}),  # tier replay
    "workers": ("CartPole-v1", {"training": {"workers": 2}}),  # tier replay
    "boundary": ("CartPole-v1", {"task": {"restoring": "boundary"}}),
}
SPAWNED = ("CartPole-v1", {"training": {"workers": 2, "start_method": "spawn"}})
ENVPOOL = ("CartPole-v1", {"task": {"adapter": "envpool"}})  # tier boundary; needs an extra
MORE_WORLDS: dict[str, tuple[str, dict[str, Any]]] = {
    "arm": ("arm-reach", {}),
    "vector": ("CartPole-v1", {"task": {"adapter": "vector"}}),  # tier boundary
    "wrapped native": ("cartpole", {"task": {**WRAPPED, "frame_stack": 2, "episode_limit": 25}}),
    "wrapped mujoco": ("reacher", {"task": {**WRAPPED, "episode_limit": 25}}),
    "wrapped workers": (
        "CartPole-v1",
        {"task": {**WRAPPED, "frame_stack": 2, "episode_limit": 25}, "training": {"workers": 2}},
    ),
    "wrapped vector": ("CartPole-v1", {"task": {**WRAPPED, "frame_stack": 2, "adapter": "vector"}}),
}


def experiment(world: str, algorithm: str, **training: Any) -> Experiment:
    """The experiment of one world and algorithm, with more settings of [training]."""
    task, over = {**WORLDS, **MORE_WORLDS, "spawned": SPAWNED, "envpool": ENVPOOL}[world]
    table = {name: {**SMALL.get(name, {}), **over.get(name, {})} for name in (*SMALL, "task")}
    table["training"] |= training
    table["algorithm"] = {"kind": algorithm, **({"epochs": 2} if algorithm == "ppo" else {})}
    return resolve(find_task(task), (table, "the test"))

"""rsl_rl's PPO, as installed, on Gymnasium's own environments stepped in turn: continuous actions only."""

from __future__ import annotations

import contextlib
import io
import time
from typing import Any

import gymnasium
import measure
import numpy as np
import torch
from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict

imported = time.perf_counter() - measure.BEGAN
torch.set_num_threads(1)
job = measure.job()
returns: list[float] = []


class Lanes(VecEnv):
    """B environments; a truncated episode is told by ``time_outs``, as rsl_rl bootstraps it."""

    def __init__(self, task: str, lanes: int) -> None:
        self.environments = [gymnasium.make(task) for _ in range(lanes)]
        self.num_envs, self.device, self.cfg = lanes, "cpu", {}
        self.num_actions = self.environments[0].action_space.shape[0]
        self.max_episode_length = self.environments[0].spec.max_episode_steps
        self.episode_length_buf = torch.zeros(lanes, dtype=torch.long)
        self.low, self.high = self.environments[0].action_space.low, self.environments[0].action_space.high
        self.observation = np.stack([each.reset(seed=job["seed"] + i)[0] for i, each in enumerate(self.environments)])
        self.totals = np.zeros(lanes)

    def get_observations(self) -> TensorDict:
        return TensorDict({"policy": torch.from_numpy(self.observation.astype(np.float32))}, [self.num_envs])

    def step(self, actions: torch.Tensor) -> Any:
        reward, done, time_outs = np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs), np.zeros(self.num_envs)
        for i, (environment, action) in enumerate(
            zip(self.environments, np.clip(actions.numpy(), self.low, self.high), strict=True)
        ):
            observation, reward[i], terminated, truncated, _ = environment.step(action)
            self.totals[i] += reward[i]
            if terminated or truncated:
                done[i], time_outs[i] = 1, truncated
                returns.append(float(self.totals[i]))
                self.totals[i] = 0
                observation, _ = environment.reset()
            self.observation[i] = observation
        extras = {"time_outs": torch.from_numpy(time_outs), "log": {}}
        return self.get_observations(), torch.from_numpy(reward), torch.from_numpy(done).long(), extras


class Batched(VecEnv):
    """The same on pistar's batch of simulations."""

    def __init__(self, task: str, lanes: int) -> None:
        import batched

        self.lanes = batched.RslBatch(task, lanes, job["seed"], returns)
        self.num_envs, self.device, self.cfg = lanes, "cpu", {}
        self.num_actions = self.lanes.batch.spaces.action.shape[0]
        self.max_episode_length = gymnasium.spec(task).max_episode_steps
        self.episode_length_buf = torch.zeros(lanes, dtype=torch.long)

    def get_observations(self) -> TensorDict:
        return TensorDict({"policy": self.lanes.observation}, [self.num_envs])

    def step(self, actions: torch.Tensor) -> Any:
        reward, done, time_outs = self.lanes.step(actions)
        return self.get_observations(), reward, done, {"time_outs": time_outs, "log": {}}


model = {"class_name": "MLPModel", "hidden_dims": [64, 64], "activation": "tanh", "obs_normalization": True}
settings = {
    "num_steps_per_env": job["horizon"],
    "save_interval": 10**9,
    "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
    "actor": {**model, "distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 0.6}},
    "critic": model,
    "algorithm": {
        "class_name": "PPO",
        "num_learning_epochs": job["epochs"],
        "num_mini_batches": job["lanes"] * job["horizon"] // job["minibatch"],
        "learning_rate": job["learning_rate"],
        "schedule": "fixed",
        "entropy_coef": job["entropy_weight"],
        "value_loss_coef": 0.5,
        "max_grad_norm": 0.5,
        "gamma": 0.99,
        "lam": 0.95,
    },
}
torch.manual_seed(job["seed"])
iterations = -(-job["steps"] // (job["lanes"] * job["horizon"]))
with contextlib.redirect_stdout(io.StringIO()):
    began = time.perf_counter()
    runner = OnPolicyRunner(
        (Batched if job.get("batched") else Lanes)(job["task"], job["lanes"]), settings, log_dir=None, device="cpu"
    )
    runner.learn(iterations)
    seconds = time.perf_counter() - began
steps = iterations * job["lanes"] * job["horizon"]
packages = ["rsl-rl-lib", "torch", "numpy", "gymnasium"]
measure.report(steps=steps, seconds=seconds, imported=imported, returns=returns, packages=packages)

"""Stable-Baselines3's PPO, as installed; with "sbx" as the library, its JAX sibling."""

from __future__ import annotations

import importlib
import time

import gymnasium
import measure
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

torch.set_num_threads(1)
job = measure.job()
PPO = importlib.import_module({"sb3": "stable_baselines3", "sbx": "sbx"}[job["library"]]).PPO
imported = time.perf_counter() - measure.BEGAN
returns: list[float] = []


class Returns(BaseCallback):
    def _on_step(self) -> bool:
        returns.extend(info["episode"]["r"] for info in self.locals["infos"] if "episode" in info)
        return True


if job.get("batched"):
    import batched

    environment = batched.stable_baselines(job["task"], job["lanes"], job["seed"], returns)
else:
    environment = DummyVecEnv([lambda: Monitor(gymnasium.make(job["task"]))] * job["lanes"])
settings = {
    "n_steps": job["horizon"],
    "batch_size": job["minibatch"],
    "n_epochs": job["epochs"],
    "learning_rate": job["learning_rate"],
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "ent_coef": job["entropy_weight"],
    "seed": job["seed"],
}
if job["library"] == "sb3":
    settings["device"] = "cpu"
began = time.perf_counter()
model = PPO("MlpPolicy", environment, **settings)
model.learn(job["steps"], callback=Returns())
seconds = time.perf_counter() - began
packages = ["stable-baselines3", "gymnasium", "numpy"] + (["sbx-rl", "jax"] if job["library"] == "sbx" else ["torch"])
measure.report(steps=model.num_timesteps, seconds=seconds, imported=imported, returns=returns, packages=packages)

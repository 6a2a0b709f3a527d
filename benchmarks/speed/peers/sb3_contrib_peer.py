"""sb3-contrib's RecurrentPPO, as installed: an LSTM shared by actor and critic, or one each, as its defaults are."""

from __future__ import annotations

import time

import measure
import torch
from position_cartpole import PositionCartPole
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

torch.set_num_threads(1)
job = measure.job()
imported = time.perf_counter() - measure.BEGAN
returns: list[float] = []


class Returns(BaseCallback):
    def _on_step(self) -> bool:
        returns.extend(info["episode"]["r"] for info in self.locals["infos"] if "episode" in info)
        return True


environment = DummyVecEnv([lambda: Monitor(PositionCartPole())] * job["lanes"])
shared = {"shared_lstm": True, "enable_critic_lstm": False} if job["shared"] else {}
began = time.perf_counter()
model = RecurrentPPO(
    "MlpLstmPolicy",
    environment,
    n_steps=job["horizon"],
    batch_size=job["minibatch"],
    n_epochs=job["epochs"],
    learning_rate=job["learning_rate"],
    ent_coef=job["entropy_weight"],
    policy_kwargs={"lstm_hidden_size": job["memory_size"], **shared},
    seed=job["seed"],
    device="cpu",
)
model.learn(job["steps"], callback=Returns())
seconds = time.perf_counter() - began
packages = ["sb3-contrib", "stable-baselines3", "gymnasium", "numpy", "torch"]
measure.report(steps=model.num_timesteps, seconds=seconds, imported=imported, returns=returns, packages=packages)

"""How long Stable-Baselines3's PPO takes to solve CartPole-v1, with the settings that its own Zoo has tuned for that.

Judged more kindly than pistar: after every fourth rollout, off the clock, 20 greedy episodes are played, and the first policy
that returns 475 ends the training. No rule for stopping has to be known beforehand.
"""

from __future__ import annotations

import time

import gymnasium
import measure
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

torch.set_num_threads(1)
job = measure.job()
imported = time.perf_counter() - measure.BEGAN
STEPS, LANES = 100_000, 8


class UntilSolved(BaseCallback):
    """Ends the training at the first policy whose greedy episodes return ``job["solved"]``; its own time does not count."""

    def __init__(self) -> None:
        super().__init__()
        self.away, self.found, self.rollouts = 0.0, 0.0, 0

    def _on_step(self) -> bool:
        return self.found < job["solved"]

    def _on_rollout_start(self) -> None:  # after an update
        self.rollouts += 1
        if self.rollouts % 4 == 0:
            began = time.perf_counter()
            self.found = greedy(self.model, 20, job["seed"] + 10_000)
            self.away += time.perf_counter() - began


def greedy(model: PPO, episodes: int, seed: int) -> float:
    """Mean return of so many episodes, played beside each other."""
    lanes = gymnasium.make_vec("CartPole-v1", episodes, vectorization_mode="vector_entry_point")
    observations, _ = lanes.reset(seed=seed)
    returns, running = np.zeros(episodes), np.ones(episodes, bool)
    while running.any():
        actions, _ = model.predict(observations, deterministic=True)
        observations, rewards, terminated, truncated, _ = lanes.step(actions)
        returns += rewards * running
        running &= ~(terminated | truncated)
    return float(returns.mean())


until = UntilSolved()
lanes = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * LANES)
began = time.perf_counter()
model = PPO(
    "MlpPolicy",
    lanes,
    n_steps=32,
    batch_size=256,
    gae_lambda=0.8,
    gamma=0.98,
    n_epochs=20,
    ent_coef=0.0,
    learning_rate=lambda left: left * 1e-3,
    clip_range=lambda left: left * 0.2,
    seed=job["seed"],
    device="cpu",
)
model.learn(STEPS, callback=until)
seconds = time.perf_counter() - began - until.away
measure.report(
    steps=model.num_timesteps,
    seconds=seconds,
    imported=imported,
    returns=[],
    packages=["stable-baselines3", "gymnasium", "numpy", "torch"],
    greedy=greedy(model, 100, job["seed"] + 20_000),
)

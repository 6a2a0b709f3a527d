"""sb3-contrib's TRPO in the protocol of ours, to stand beside `pistar train TASK --algorithm trpo`.

    PEER/bin/python benchmarks/sb3_trpo.py HalfCheetah-v5 --steps 1e6 --seed 100 --max-kl 0.04 --out peer.jsonl

Runs in an environment of its own that has sb3-contrib. Settings are those that the RL Baselines3 Zoo publishes for MuJoCo, with
observations and rewards normalised; ``--max-kl`` is its one setting that differs from task to task. Every 20,000 steps 20
deterministic episodes are played with raw rewards; the score is the mean of the last 10 evaluations.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from sb3_contrib import TRPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

EVERY, EPISODES = 20_000, 20
ZOO = {"n_steps": 1024, "batch_size": 128, "cg_max_steps": 25, "n_critic_updates": 20, "learning_rate": 1e-3}


class Judge(BaseCallback):
    """Evaluates at the end of the rollout that passes each point."""

    def __init__(self, moments: VecNormalize, judged: VecNormalize, episodes: int) -> None:
        super().__init__()
        self.moments, self.judged, self.episodes = moments, judged, episodes
        self.scores: list[float] = []
        self.seconds = 0.0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps // EVERY > len(self.scores):
            began = time.perf_counter()
            self.judged.obs_rms = self.moments.obs_rms
            self.scores.append(float(evaluate_policy(self.model, self.judged, self.episodes, deterministic=True)[0]))
            self.seconds += time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment")
    parser.add_argument("--steps", type=float, default=1e6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-kl", type=float, default=0.01)
    parser.add_argument("--episodes", type=int, default=EPISODES)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    world = VecNormalize(make_vec_env(chosen.environment, 2, seed=chosen.seed), gamma=0.99)
    judged = VecNormalize(
        make_vec_env(chosen.environment, 1, seed=chosen.seed + 10_000), training=False, norm_reward=False
    )
    judge = Judge(world, judged, chosen.episodes)
    model = TRPO("MlpPolicy", world, seed=chosen.seed, device="cpu", target_kl=chosen.max_kl, **ZOO)
    began = time.perf_counter()
    model.learn(int(chosen.steps), callback=judge)
    seconds = time.perf_counter() - began - judge.seconds
    last = judge.scores[-10:]
    record = {**vars(chosen), "out": str(chosen.out), "score": sum(last) / len(last), "scores": judge.scores}
    with chosen.out.open("a") as file:
        file.write(json.dumps({**record, "training_seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()

"""sb3-contrib's TRPO in the protocol of ours, to stand beside `pistar train TASK --algorithm trpo`.

    PEER/bin/python benchmarks/learning/sb3_trpo.py HalfCheetah-v5 --steps 1000000 --every 20000 --seed 1000 --max-kl 0.04 --out DIR

Runs in an environment of its own that has sb3-contrib. Settings are those that the RL Baselines3 Zoo publishes for MuJoCo, with
observations and rewards normalised; ``--max-kl`` is its one setting that differs from task to task. After every ``--every`` steps
``--episodes`` deterministic episodes are played with raw rewards. DIR holds evaluations.jsonl and metrics.jsonl, which are read as
those of pistar's runs are, and versions.json. It cannot be resumed: called again, it begins anew.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from sb3_contrib import TRPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

ZOO = {"n_steps": 1024, "batch_size": 128, "cg_max_steps": 25, "n_critic_updates": 20, "learning_rate": 1e-3}
PACKAGES = ("sb3-contrib", "stable-baselines3", "torch", "numpy", "gymnasium", "mujoco")


class Judge(BaseCallback):
    """Evaluates at the end of the rollout that passes each point, and writes down what it finds."""

    def __init__(self, moments: VecNormalize, judged: VecNormalize, every: int, episodes: int, out: Path) -> None:
        super().__init__()
        self.moments, self.judged, self.every, self.episodes, self.out = moments, judged, every, episodes, out
        self.points, self.seconds = 0, 0.0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps // self.every > self.points:
            self.points = self.num_timesteps // self.every
            self.judge(self.num_timesteps)

    def judge(self, steps: int, **more: Any) -> None:
        began = time.perf_counter()
        self.judged.obs_rms = self.moments.obs_rms
        mean = float(evaluate_policy(self.model, self.judged, self.episodes, deterministic=True)[0])
        append(self.out / "evaluations.jsonl", {"steps": steps, "mean": mean, "episodes": self.episodes, **more})
        self.seconds += time.perf_counter() - began


def append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--every", type=int, default=20_000, help="steps between evaluations")
    parser.add_argument("--episodes", type=int, default=20, help="of an evaluation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-kl", type=float, default=0.01)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.out.mkdir(parents=True, exist_ok=True)
    for file in chosen.out.glob("*.jsonl"):  # of a run that was stopped
        file.unlink()
    versions = {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
    (chosen.out / "versions.json").write_text(json.dumps(versions))
    world = VecNormalize(make_vec_env(chosen.environment, 2, seed=chosen.seed), gamma=0.99)
    judged = VecNormalize(
        make_vec_env(chosen.environment, 1, seed=chosen.seed + 10_000), training=False, norm_reward=False
    )
    judge = Judge(world, judged, chosen.every, chosen.episodes, chosen.out)
    model = TRPO("MlpPolicy", world, seed=chosen.seed, device="cpu", target_kl=chosen.max_kl, **ZOO)
    began = time.perf_counter()
    model.learn(chosen.steps, callback=judge)
    seconds = time.perf_counter() - began - judge.seconds
    append(chosen.out / "metrics.jsonl", {"steps": model.num_timesteps, "time": {"seconds": seconds}})
    judge.judge(model.num_timesteps, final=True)


if __name__ == "__main__":
    main()

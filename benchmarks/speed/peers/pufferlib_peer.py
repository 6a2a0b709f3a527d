"""PufferLib's PuffeRL, as installed, on Gymnasium's environments behind its own emulation, stepped in turn (Serial).

What its interface does not let be the same: a minibatch is whole lanes' rows (here two of eight), drawn afresh each time instead of
in epochs; advantages are computed for every minibatch anew, with V-trace's clipped ratios and the values learned meanwhile, and a
row's last step has none; truncation is not told from going on; rewards are clipped to [-1, 1], which is nothing in CartPole. A lane
whose episode ended is reset by a step of its own, which is counted and learned from. Its dashboard is drawn, four times a second.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from typing import Any

import gymnasium
import measure

directory = tempfile.TemporaryDirectory()  # PufferLib leaves a link where it is imported, and its checkpoints
os.chdir(directory.name)

import pufferlib
import pufferlib.emulation
import pufferlib.vector
import torch
from pufferlib.pufferl import PuffeRL
from torch import nn

imported = time.perf_counter() - measure.BEGAN
torch.set_num_threads(1)
job = measure.job()
returns: list[float] = []


def made(**buffers: Any) -> pufferlib.emulation.GymnasiumPufferEnv:
    """One environment, whose ``info`` tells an episode's return at its end."""
    environment = pufferlib.EpisodeStats(gymnasium.make(job["task"]))
    return pufferlib.emulation.GymnasiumPufferEnv(env=environment, **buffers)


def net(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))


class Policy(nn.Module):
    """Separate actor and critic, called as PuffeRL calls its policies."""

    def __init__(self, inputs: int, actions: int) -> None:
        super().__init__()
        self.actor, self.critic = net(inputs, actions), net(inputs, 1)

    def forward(self, observation: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        return self.actor(observation), self.critic(observation)

    forward_eval = forward


def settings() -> dict[str, Any]:
    """The job's settings; every further one is what makes PuffeRL's loss the others'."""
    return {
        "env": job["task"],
        "data_dir": directory.name,
        "checkpoint_interval": 10**9,
        "device": "cpu",
        "cpu_offload": False,
        "precision": "float32",
        "compile": False,
        "torch_deterministic": True,
        "use_rnn": False,
        "seed": job["seed"],
        "total_timesteps": job["steps"],
        "batch_size": job["lanes"] * job["horizon"],
        "bptt_horizon": job["horizon"],
        "minibatch_size": job["minibatch"],
        "max_minibatch_size": job["minibatch"],
        "update_epochs": job["epochs"],
        "optimizer": "adam",
        "learning_rate": job["learning_rate"],
        "anneal_lr": False,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_eps": 1e-5,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "clip_coef": 0.2,
        "ent_coef": job["entropy_weight"],
        "vf_coef": 1.0,  # of half the squared error
        "vf_clip_coef": 1e9,  # not clipped
        "max_grad_norm": 0.5,
        "prio_alpha": 0.0,  # every row as likely
        "prio_beta0": 1.0,
        "vtrace_rho_clip": 1.0,
        "vtrace_c_clip": 1.0,
    }


torch.manual_seed(job["seed"])
with contextlib.redirect_stdout(io.StringIO()):
    began = time.perf_counter()
    lanes = pufferlib.vector.make(made, num_envs=job["lanes"], backend=pufferlib.vector.Serial, seed=job["seed"])
    policy = Policy(lanes.single_observation_space.shape[0], int(lanes.single_action_space.n))
    trainer = PuffeRL(settings(), lanes, policy)
    try:
        while trainer.global_step < job["steps"]:
            returns.extend(trainer.evaluate().pop("episode_return", []))
            trainer.train()
        seconds = time.perf_counter() - began
    finally:
        trainer.utilization.stop()  # its thread would keep the process
packages = ["pufferlib", "torch", "numpy", "gymnasium"]
measure.report(steps=trainer.global_step, seconds=seconds, imported=imported, returns=returns, packages=packages)

"""skrl's PPO, as installed, on Gymnasium's synchronous vector environment."""

from __future__ import annotations

import logging
import time
from typing import Any

import gymnasium
import measure
import numpy as np
import torch
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, GaussianMixin, Model
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from torch import nn

imported = time.perf_counter() - measure.BEGAN
logging.getLogger("skrl").setLevel(logging.ERROR)
torch.set_num_threads(1)
job = measure.job()
set_seed(job["seed"])
returns: list[float] = []


vector = gymnasium.make_vec(job["task"], num_envs=job["lanes"], vectorization_mode="sync")
step, totals = vector.step, np.zeros(job["lanes"])


def recorded(actions: Any) -> Any:
    """Keep the returns of episodes."""
    outcome = step(actions)
    totals[:] += outcome[1]
    for lane in np.flatnonzero(outcome[2] | outcome[3]):
        returns.append(float(totals[lane]))
        totals[lane] = 0
    return outcome


vector.step = recorded


def net(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))


class Categorical(CategoricalMixin, Model):
    def __init__(self, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        CategoricalMixin.__init__(self)
        self.net = net(self.num_observations, self.num_actions)

    def compute(self, inputs: Any, role: str = "") -> Any:
        return self.net(inputs["observations"]), {}


class Gaussian(GaussianMixin, Model):
    def __init__(self, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        GaussianMixin.__init__(self, clip_actions=False)
        self.net = net(self.num_observations, self.num_actions)
        self.log_std = nn.Parameter(torch.full((self.num_actions,), -0.5))

    def compute(self, inputs: Any, role: str = "") -> Any:
        return self.net(inputs["observations"]), {"log_std": self.log_std}


class Value(DeterministicMixin, Model):
    def __init__(self, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.net = net(self.num_observations, 1)

    def compute(self, inputs: Any, role: str = "") -> Any:
        return self.net(inputs["observations"]), {}


environment = wrap_env(vector, verbose=False)
began = time.perf_counter()
spaces = {
    "observation_space": environment.observation_space,
    "action_space": environment.action_space,
    "device": environment.device,
}
actor = Categorical if isinstance(environment.action_space, gymnasium.spaces.Discrete) else Gaussian
settings = PPO_CFG(
    rollouts=job["horizon"],
    learning_epochs=job["epochs"],
    mini_batches=job["lanes"] * job["horizon"] // job["minibatch"],
    learning_rate=job["learning_rate"],
    entropy_loss_scale=job["entropy_weight"],
    value_loss_scale=0.5,
    grad_norm_clip=0.5,
)
settings.experiment.write_interval = settings.experiment.checkpoint_interval = 0
agent = PPO(
    models={"policy": actor(**spaces), "value": Value(**spaces)},
    memory=RandomMemory(memory_size=job["horizon"], num_envs=job["lanes"], device=environment.device),
    cfg=settings,
    observation_space=environment.observation_space,
    action_space=environment.action_space,
    device=environment.device,
)
steps = -(-job["steps"] // job["lanes"])
trainer = SequentialTrainer(
    env=environment, agents=agent, cfg={"timesteps": steps, "disable_progressbar": True, "headless": True}
)
trainer.train()
seconds = time.perf_counter() - began
packages = ["skrl", "torch", "numpy", "gymnasium"]
measure.report(steps=steps * job["lanes"], seconds=seconds, imported=imported, returns=returns, packages=packages)

"""A PPO as one would write it in a page of torch, its CartPole included: eager steps, one tensor a layer, on any device.

The loop, the losses and the settings are those that single-file implementations share; it is here to tell what capturing
steps gains over the same device used step by step.
"""

from __future__ import annotations

import math
import time

import measure
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

imported = time.perf_counter() - measure.BEGAN
job = measure.job()
device, lanes, horizon = torch.device(job["device"]), job["lanes"], job["horizon"]
GAMMA, LAMBDA, CLIP, LIMIT = 0.99, 0.95, 0.2, 500
torch.manual_seed(job["seed"])


def start(count: int) -> Tensor:
    """First states [B, 4]."""
    return (torch.rand(count, 4, device=device) * 2 - 1) * 0.05


def step(state: Tensor, age: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gymnasium's CartPole with resets: state [B, 4], age [B], action [B] -> state, age, ended."""
    x, dx, angle, turning = state.unbind(1)
    force = action.float() * 20 - 10
    pull = (force + 0.05 * turning**2 * angle.sin()) / 1.1
    angular = (9.8 * angle.sin() - angle.cos() * pull) / (0.5 * (4 / 3 - 0.1 * angle.cos() ** 2 / 1.1))
    linear = pull - 0.05 * angular * angle.cos() / 1.1
    state = torch.stack((x + 0.02 * dx, dx + 0.02 * linear, angle + 0.02 * turning, turning + 0.02 * angular), 1)
    age = age + 1
    ended = (state[:, 0].abs() > 2.4) | (state[:, 2].abs() > 12 * math.pi / 180) | (age >= LIMIT)
    state = torch.where(ended.unsqueeze(1), start(lanes), state)
    return state, torch.where(ended, 0, age), ended


def tower(outputs: int, gain: float) -> nn.Sequential:
    """Two hidden layers of 64."""
    layers = [nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)]
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, gain if index == 4 else math.sqrt(2))
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers).to(device)


actor, critic = tower(2, 0.01), tower(1, 1.0)
weights = [*actor.parameters(), *critic.parameters()]
optimizer = torch.optim.Adam(weights, job["learning_rate"], eps=1e-5)
states = torch.zeros(horizon, lanes, 4, device=device)
actions, log_probs, ends, values = (torch.zeros(horizon, lanes, device=device) for _ in range(4))
state, age = start(lanes), torch.zeros(lanes, dtype=torch.int64, device=device)
returns: list[float] = []
marks: list[float] = []
iterations = max(1, job["steps"] // (lanes * horizon))
began = time.perf_counter()
for _ in range(iterations):
    lengths = []
    with torch.no_grad():
        for t in range(horizon):
            policy = Categorical(logits=actor(state))
            action = policy.sample()
            states[t], actions[t], log_probs[t], values[t] = state, action, policy.log_prob(action), critic(state)[:, 0]
            before = age + 1
            state, age, ended = step(state, age, action)
            ends[t] = ended.float()
            lengths.append(torch.where(ended, before, 0))
        advantages, running, following = (
            torch.zeros_like(values),
            torch.zeros(lanes, device=device),
            critic(state)[:, 0],
        )
        for t in reversed(range(horizon)):
            error = 1.0 + GAMMA * following * (1 - ends[t]) - values[t]
            running = error + GAMMA * LAMBDA * (1 - ends[t]) * running
            advantages[t], following = running, values[t]
        targets = advantages + values
    flat = [x.flatten(0, 1) for x in (states, actions, log_probs, advantages, targets)]
    for _epoch in range(job["epochs"]):
        for rows in torch.randperm(lanes * horizon, device=device).split(job["minibatch"]):
            seen, taken, old, advantage, target = (x[rows] for x in flat)
            policy = Categorical(logits=actor(seen))
            ratio = (policy.log_prob(taken) - old).exp()
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            surrogate = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage).mean()
            error = (critic(seen)[:, 0] - target).square().mean()
            loss = 0.5 * error - surrogate - job["entropy_weight"] * policy.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 0.5)
            optimizer.step()
    finished = torch.stack(lengths)
    returns += finished[finished > 0].tolist()[-100:]  # which waits for the device
    marks.append(time.perf_counter())
measure.report(
    steps=iterations * lanes * horizon,
    seconds=marks[-1] - began,
    imported=imported,
    returns=returns,
    packages=["torch"],
    **measure.steady(marks, lanes * horizon),
    gpu_peak_mb=torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None,
)

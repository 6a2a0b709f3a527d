"""Gradients of continuous policies against truth: a bandit with two states whose actions lie on a grid of integration.

J(θ) = Σ_s μ(s) ∫ π_θ(a|s) r(s, a) da is computed by quadrature, and its derivatives along random directions of all of θ by
finite differences. The lanes of one rollout are the points of the grid, and each weighs π(a|s) μ(s) da, so that what the real
algorithms compute from it is their exact expected gradient. Every registered family is compared.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.algorithms.a2c import A2C
from pistar.algorithms.ppo import PPO
from pistar.envs.environment import Spaces
from pistar.families import FAMILIES
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.rollout import Rollout

STATES = torch.eye(2, dtype=torch.float64)
START = torch.tensor([0.3, 0.7], dtype=torch.float64)
STEP, DIRECTIONS = 1e-5, 6


def built(family: str) -> Policy:
    """In double precision and away from its start; the space is bounded for families that need bounds."""
    lane = Spaces(spaces.Box(0.0, 1.0, (2,), np.float64), spaces.Box(-1.0, 1.0, (1,), np.float64))
    kind = MLP(distribution=family, hidden=(4,), critic_hidden=(), last_gain=1.0, normalize=False)
    policy: Policy = kind.build(lane, torch.Generator().manual_seed(0)).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return policy


def grid(policy: Policy) -> tuple[Tensor, Tensor]:
    """Actions [K, 1] as the policy has them, and the weight da of each in ∫ exp(log_prob) da [K]."""
    u = torch.linspace(-12.0, 12.0, 4001, dtype=torch.float64)
    action, plain = u.unsqueeze(-1), torch.full_like(u, float(u[1] - u[0]))
    squashed = plain / u.cosh().square()  # where the policy's action is u = artanh a, and log_prob the density of a
    with torch.no_grad():
        total = float((density(policy, action)[:, 0] * plain).sum())
    return action, plain if abs(total - 1) < 1e-6 else squashed


def reward(action: Tensor) -> Tensor:
    """r(s, a) of both states: [K, 1] -> [K, 2]."""
    a = action.tanh()
    return torch.cat((a.sin() + a.square(), 2 * (3 * a).cos() - a), dim=-1)


def density(policy: Policy, action: Tensor) -> Tensor:
    """π(a|s): [K, 2]."""
    outputs, _ = policy.outputs(STATES)
    rows = outputs.expand(len(action), *outputs.shape)
    result: Tensor = policy.head(rows).log_prob(action.unsqueeze(1).expand(len(action), 2, 1)).exp()
    return result


def performance(policy: Policy, action: Tensor, width: Tensor) -> float:
    with torch.no_grad():
        return float((density(policy, action) * reward(action) * width.unsqueeze(-1) * START).sum())


def rollout_of(policy: Policy, action: Tensor, width: Tensor) -> Rollout:
    """One step of a lane per action and state."""
    count = 2 * len(action)
    with torch.no_grad():
        weight = (density(policy, action) * width.unsqueeze(-1) * START).reshape(1, count)
        observation = STATES.expand(len(action), 2, 2).reshape(1, count, 2)
        actions = action.unsqueeze(1).expand(len(action), 2, 1).reshape(1, count, 1)
        log_prob = policy.evaluate(observation, actions).log_prob
    ended = torch.ones(1, count, dtype=torch.bool)
    return Rollout(
        observation=observation,
        action=actions,
        log_prob=log_prob,
        reward=reward(action).reshape(1, count),
        terminated=ended,
        truncated=~ended,
        is_first=ended,
        weight=weight,
        last_observation=observation[0],
        final_observation=observation[0],
        final_index=torch.arange(count),
    )


@pytest.mark.parametrize("family", FAMILIES.names())
def test_the_grid_holds_all_of_the_distribution(family: str) -> None:
    policy = built(family)
    action, width = grid(policy)
    with torch.no_grad():
        total = (density(policy, action) * width.unsqueeze(-1)).sum(0)
    assert (total - 1).abs().max() < 1e-6


@pytest.mark.parametrize("family", FAMILIES.names())
@pytest.mark.parametrize("kind", [A2C, PPO])
def test_the_expected_gradient_is_that_of_the_performance(family: str, kind: type[A2C | PPO]) -> None:
    policy = built(family)
    action, width = grid(policy)
    algorithm = kind(discount=1.0, trace=1.0)
    rollout = rollout_of(policy, action, width)
    batch = algorithm.estimate(policy, rollout)
    loss = algorithm.loss(policy, batch, 0.0) if isinstance(algorithm, A2C) else algorithm.loss(policy, batch, 0.2, 0.0)
    actor = policy.parts()["actor"]
    assert rollout.weight is not None
    found = [-gradient * rollout.weight.sum() for gradient in torch.autograd.grad(loss[0], actor)]
    generator, sizes = torch.Generator().manual_seed(2), []
    for _ in range(DIRECTIONS):
        along = [torch.randn(parameter.shape, generator=generator, dtype=torch.float64) for parameter in actor]
        truth = difference(policy, actor, along, action, width)
        gained = sum(float((g * v).sum()) for g, v in zip(found, along, strict=True))
        assert gained == pytest.approx(truth, rel=1e-5, abs=1e-6)
        sizes.append(abs(truth))
    assert max(sizes) > 0.1  # or the comparison would say nothing


def difference(policy: Policy, weights: list[torch.nn.Parameter], along: list[Tensor], *where: Tensor) -> float:
    """(J(θ + εv) − J(θ − εv)) / 2ε."""
    before = [weight.detach().clone() for weight in weights]
    values = []
    with torch.no_grad():
        for step in (STEP, -STEP):
            for weight, start, direction in zip(weights, before, along, strict=True):
                weight.copy_(start + step * direction)
            values.append(performance(policy, *where))
        for weight, start in zip(weights, before, strict=True):
            weight.copy_(start)
    return (values[0] - values[1]) / (2 * STEP)

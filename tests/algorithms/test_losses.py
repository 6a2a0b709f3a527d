"""The terms of the algorithms' losses beside the gradient of J, which ``tests/test_gradients.py`` is about."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from pistar import estimators, objectives
from pistar.algorithms.a2c import A2C
from pistar.algorithms.impala import IMPALA
from pistar.algorithms.npg import NPG
from pistar.algorithms.ppg import PPG
from pistar.algorithms.ppo import PPO
from pistar.algorithms.ppo_penalty import PPOPenalty
from pistar.algorithms.reinforce import Reinforce
from pistar.algorithms.spo import SPO
from pistar.algorithms.trpo import TRPO
from pistar.envs.environment import Spaces
from pistar.learner import Learner
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.rollout import Batch, Rollout
from pistar.schedules import constant

STEPS, LANES, DISCOUNT, TRACE, RATE = 9, 4, 0.9, 0.7, 0.1
ONCE: dict[str, Any] = {"epochs": 1, "minibatch": 10**6}  # PPO: one step on all
ACTOR_CRITICS: list[Any] = [A2C(discount=DISCOUNT, trace=TRACE)]
ACTOR_CRITICS += [IMPALA(discount=DISCOUNT, trace=TRACE)]  # on its own rollout, V-trace's target is the λ-return
ACTOR_CRITICS += [kind(discount=DISCOUNT, trace=TRACE, **ONCE) for kind in (PPG, PPO, SPO, PPOPenalty, TRPO, NPG)]


@pytest.fixture
def policy() -> Policy:
    lane = Spaces(spaces.Box(-1.0, 1.0, (3,), np.float64), spaces.Discrete(3))
    kind = MLP(hidden=(4,), critic_hidden=(), last_gain=1.0, normalize=False)
    return kind.build(lane, torch.Generator().manual_seed(0)).double()


def rollout_of(policy: Policy) -> Rollout:
    """Random experience with ends of both kinds, and entries that do not count."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def flags(share: float) -> Tensor:
        return torch.rand((STEPS, LANES), generator=generator) < share

    observation, action = normal(STEPS, LANES, 3), torch.randint(3, (STEPS, LANES), generator=generator)
    terminated = flags(0.15)
    truncated = flags(0.15) & ~terminated
    index = (terminated | truncated).flatten().nonzero().squeeze(-1)
    assert bool(terminated.any())
    assert bool(truncated.any())
    first = torch.ones(1, LANES, dtype=torch.bool)
    with torch.no_grad():
        log_prob = policy.evaluate(observation, action).log_prob
    return Rollout(
        observation=observation,
        action=action,
        log_prob=log_prob,
        reward=normal(STEPS, LANES),
        terminated=terminated,
        truncated=truncated,
        is_first=torch.cat((first, (terminated | truncated)[:-1])),
        weight=(~flags(0.2)).double(),
        last_observation=normal(LANES, 3),
        final_observation=normal(len(index), 3),
        final_index=index,
    )


def lambda_returns(policy: Policy, rollout: Rollout) -> Tensor:
    return estimators.lambda_return(
        rollout.reward, rollout.values(policy)[1], rollout.terminated, rollout.truncated, DISCOUNT, TRACE
    )


def climb(algorithm: Any, policy: Policy, rollout: Rollout, rate: float = RATE) -> dict[str, float]:
    learner = Learner(policy, learning_rate=rate, optimizer="sgd")
    _, metrics = algorithm.improve(learner, rollout, algorithm.init(policy, LANES), 0.0)
    return dict(metrics)


@pytest.mark.parametrize("kind", [A2C, IMPALA, PPG, PPO, SPO, PPOPenalty, Reinforce])
def test_the_entropy_weight_makes_a_policy_less_certain(kind: type, policy: Policy) -> None:
    rollout = rollout_of(policy)
    rollout.reward.zero_()
    for parameter in policy.parts()["critic"]:
        parameter.data.zero_()  # no advantages: what moves the policy is the entropy alone
    own = {A2C: {}, IMPALA: {}, Reinforce: {"baseline": "none"}}.get(kind, ONCE)

    def entropy() -> float:
        with torch.no_grad():
            all_steps = policy.evaluate(rollout.observation, rollout.action)
            return float(objectives.weighted_mean(all_steps.entropy, rollout.weight))

    before = entropy()
    climb(kind(entropy_weight=constant(0.0), **own), policy, rollout)
    assert entropy() == before
    climb(kind(entropy_weight=constant(0.5), **own), policy, rollout)
    assert entropy() > before + 1e-4


@pytest.mark.parametrize("algorithm", ACTOR_CRITICS)
def test_critics_step_towards_the_lambda_return(algorithm: Any, policy: Policy) -> None:
    rollout = rollout_of(policy)
    target, critic = lambda_returns(policy, rollout), policy.parts()["critic"]
    assert rollout.weight is not None
    error = (rollout.weight * (policy.value(rollout.observation) - target).square()).sum() / rollout.weight.sum()
    slope = torch.cat(
        [g.flatten() for g in torch.autograd.grad(getattr(algorithm, "value_weight", 1.0) * error, critic)]
    )
    before = torch.cat([parameter.detach().flatten() for parameter in critic])
    climb(algorithm, policy, rollout)
    after = torch.cat([parameter.detach().flatten() for parameter in critic])
    assert float(slope.norm()) > 1e-2
    torch.testing.assert_close(after - before, -RATE * slope, rtol=0, atol=1e-12)


@pytest.mark.parametrize("algorithm", ACTOR_CRITICS)
def test_explained_variance_is_that_of_the_values_before_the_update(algorithm: Any, policy: Policy) -> None:
    rollout = rollout_of(policy)
    value, target = rollout.values(policy)[0], lambda_returns(policy, rollout)
    truth = float(objectives.explained_variance(value, target, rollout.weight))
    assert abs(truth - 1) > 0.1
    assert climb(algorithm, policy, rollout)["explained_variance"] == pytest.approx(truth)


@pytest.mark.parametrize("kind", [PPO, SPO, PPOPenalty])
@pytest.mark.parametrize("anew", [False, True])
def test_advantages_are_computed_anew_before_every_epoch_where_asked_for(
    anew: bool, kind: Any, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    critics: list[Tensor] = []
    estimate = kind.estimate

    def watched(self: Any, policy: Policy, rollout: Rollout, *rest: Any) -> Batch:
        critics.append(policy.parts()["critic"][0].detach().clone())
        batch: Batch = estimate(self, policy, rollout, *rest)
        return batch

    monkeypatch.setattr(kind, "estimate", watched)
    climb(kind(epochs=3, minibatch=10, recompute_advantages=anew), policy, rollout_of(policy))
    assert len(critics) == (3 if anew else 1)
    assert not any(torch.equal(one, other) for one, other in itertools.pairwise(critics))


@pytest.mark.parametrize(("limit", "epochs"), [(None, 5), (1e9, 5), (1e-9, 2)])
def test_the_epochs_end_once_the_policy_has_moved_too_far(limit: float | None, epochs: int, policy: Policy) -> None:
    algorithm = PPO(epochs=5, minibatch=10**6, max_kl=limit)  # before the first step the divergence is 0
    assert climb(algorithm, policy, rollout_of(policy))["epochs"] == epochs

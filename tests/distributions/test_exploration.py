"""Generalised state-dependent exploration: its marginal distribution, what connects its steps, how it starts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, distributions

from pistar.distributions import FeatureGaussian
from pistar.envs.environment import Spaces
from pistar.errors import UsageError
from pistar.heads import ExplorationHead
from pistar.policies.mlp import MLP

BOX = spaces.Box(-1.0, 1.0, (2,))


def example() -> FeatureGaussian:
    generator = torch.Generator().manual_seed(0)
    mean, features = (torch.randn(5, n, generator=generator, dtype=torch.float64) for n in (2, 4))
    return FeatureGaussian(mean, features, 0.3 * torch.randn(4, 2, generator=generator, dtype=torch.float64))


def test_the_marginal_is_what_integrating_the_matrix_out_gives() -> None:
    """Var(Wᵀz) = zᵀ Cov(W) z, written with the whole covariance."""
    one = example()
    for row in range(5):
        z = one.features[row]
        for a in range(2):
            variance = z @ torch.diag((2 * one.log_std[:, a]).exp()) @ z
            assert float(one.marginal.log_std[row, a].exp()) == pytest.approx(math.sqrt(float(variance)))
    truth = distributions.Normal(one.mean, one.marginal.log_std.exp())
    action = one.mean + 0.3
    torch.testing.assert_close(one.log_prob(action), truth.log_prob(action).sum(-1))  # type: ignore[no-untyped-call]


def test_the_gradient_with_respect_to_the_deviations_is_the_papers() -> None:
    """∂ log π / ∂ σ_fa = ((a − μ)² − s²) / s³ · z_f² σ_fa / s, with s the marginal deviation (Rückstieß et al. 2008)."""
    one = example()
    log_std = one.log_std.clone().requires_grad_()
    action = one.mean + 0.7
    (found,) = torch.autograd.grad(FeatureGaussian(one.mean, one.features, log_std).log_prob(action).sum(), log_std)
    std, sigma = one.marginal.log_std.exp(), one.log_std.exp()
    truth = torch.zeros_like(sigma)
    for row in range(5):
        outer = ((0.7**2 - std[row] ** 2) / std[row] ** 3) / std[row]
        truth += outer * one.features[row].square().unsqueeze(-1) * sigma
    torch.testing.assert_close(found, truth * sigma)  # with respect to log σ: times σ


def rollout_noise(head: ExplorationHead, steps: int) -> Tensor:
    return head.noise((steps, 3), torch.Generator().manual_seed(0), torch.float32, "cpu")


@pytest.mark.parametrize(("redraw", "changes"), [(4, [4, 8]), (0, []), (1, list(range(1, 10))), (20, [])])
def test_the_matrix_is_drawn_anew_when_it_should_be(redraw: int, changes: list[int]) -> None:
    noise = rollout_noise(ExplorationHead(BOX, redraw=redraw), 10)
    assert noise.shape == (10, 3, 65, 2)
    assert [t for t in range(1, 10) if not torch.equal(noise[t], noise[t - 1])] == changes
    assert not torch.equal(noise[:, 0], noise[:, 1])  # lanes explore by themselves


def test_the_same_state_gets_the_same_noise_until_then() -> None:
    head = ExplorationHead(BOX, redraw=4)
    outputs = torch.randn(3, 64, generator=torch.Generator().manual_seed(1)).expand(8, 3, 64)
    with torch.no_grad():
        action = head(outputs).sample(rollout_noise(head, 8))
    assert torch.equal(action[0], action[3])
    assert not torch.equal(action[3], action[4])


def test_deviations_stay_within_the_bounds_of_a_gaussians() -> None:
    head = ExplorationHead(BOX)
    for log_std, outputs in ((-50.0, 0.0), (-50.0, 100.0), (50.0, 0.0), (50.0, 100.0)):
        with torch.no_grad():
            head.log_std.fill_(log_std)
            deviation = head(torch.full((64,), outputs)).marginal.log_std.exp()
        assert (deviation > math.exp(-5) * 0.999).all()
        assert (deviation < math.exp(2) * 1.001).all()


@pytest.mark.parametrize("last_gain", [0.01, 1.0])
def test_exploration_starts_about_as_wide_as_a_gaussians(last_gain: float) -> None:
    lane = Spaces(spaces.Box(-5.0, 5.0, (3,)), BOX)
    policy = MLP(distribution="gsde", last_gain=last_gain).build(lane, torch.Generator().manual_seed(0))
    observation = torch.randn(500, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one = policy.head(policy.outputs(observation)[0])
    assert isinstance(one, FeatureGaussian)
    assert 0.3 < float(one.marginal.log_std.exp().mean()) / math.exp(-0.5) < 1.1
    assert (one.mean == 0).all()


def test_outputs_that_start_at_0_are_refused() -> None:
    lane = Spaces(spaces.Box(-5.0, 5.0, (3,)), BOX)
    with pytest.raises(UsageError, match="gain of 0"):
        MLP(distribution="gsde", last_gain=0.0).build(lane, torch.Generator().manual_seed(0))


def test_a_single_observation_is_acted_on_with_a_matrix_of_its_own() -> None:
    lane = Spaces(spaces.Box(-5.0, 5.0, (3,)), BOX)
    policy = MLP(distribution="gsde").build(lane, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    acts = [policy.act(np.ones(3, np.float32), deterministic=False, generator=generator)[0] for _ in range(2)]
    assert not np.array_equal(*acts)

"""Beta against SciPy and torch: density, entropy, divergence, and that samples have exactly its distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy import special, stats
from torch import Tensor, distributions

from pistar.distributions import Beta
from pistar.heads import BetaHead

SAMPLES = 100_000
SHAPES = [(1.0, 1.0), (1.0, 3.0), (1.00005, 1.00005), (2.5, 1.2), (40.0, 3.0), (1.0, 500.0), (11_001.0, 11_001.0)]
by_shape = pytest.mark.parametrize(("alpha", "beta"), SHAPES)


def of(alpha: float, beta: float, dtype: torch.dtype = torch.float64) -> Beta:
    return Beta(torch.tensor([alpha], dtype=dtype), torch.tensor([beta], dtype=dtype))


def drawn(alpha: float, beta: float, count: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Samples u: [count]."""
    head = BetaHead(spaces.Box(-1.0, 1.0, (1,)))
    noise = head.noise((count,), torch.Generator().manual_seed(seed), dtype, "cpu")
    one = of(alpha, beta, dtype)
    return Beta(one.alpha.expand(count, 1), one.beta.expand(count, 1)).sample(noise).squeeze(-1)


def assert_uniform(quantiles: np.ndarray) -> None:
    """By Kolmogorov and Smirnov; the seed is fixed, and a wrong sampler is far below the threshold."""
    assert stats.kstest(quantiles, "uniform").pvalue > 1e-3


@by_shape
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_have_the_distribution(alpha: float, beta: float, dtype: torch.dtype) -> None:
    x = (2 * drawn(alpha, beta, SAMPLES, dtype).double()).sigmoid().numpy()
    assert_uniform(stats.beta.cdf(x, alpha, beta))


def test_another_distribution_would_be_noticed() -> None:
    x = (2 * drawn(2.5, 1.2, SAMPLES, torch.float64)).sigmoid().numpy()
    assert stats.kstest(stats.beta.cdf(x, 2.55, 1.2), "uniform").pvalue < 1e-3


@by_shape
def test_each_of_the_two_gamma_variables_has_the_distribution(alpha: float, beta: float) -> None:
    """x alone could not tell errors that cancel in the quotient."""
    from pistar.distributions.beta import CANDIDATES, _log_gamma

    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(SAMPLES, CANDIDATES, generator=generator, dtype=torch.float64)
    uniform = torch.rand(SAMPLES, CANDIDATES, generator=generator, dtype=torch.float64)
    log_gamma = _log_gamma(torch.full((SAMPLES,), alpha, dtype=torch.float64), torch.stack((normal, uniform), dim=-1))
    assert_uniform(stats.gamma.cdf(log_gamma.exp().numpy(), alpha))


def test_candidates_hardly_ever_run_out() -> None:
    """At α = 1, where most are rejected, the share of rejected first candidates to the power of their number."""
    from pistar.distributions.beta import CANDIDATES

    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    d = 2 / 3
    v = (1 + z / math.sqrt(9 * d)).clamp_min(0) ** 3
    accepted = torch.exp(0.5 * z.square() + d - d * v + d * v.log()).clamp_max(1)
    assert (1 - float(accepted.mean())) ** CANDIDATES < 5e-11


def test_noise_without_a_good_candidate_still_gives_a_finite_action() -> None:
    noise = torch.zeros(1, 1, 2, 8, 2)
    noise[..., 0] = -50.0
    assert Beta(torch.ones(1, 1), torch.ones(1, 1)).sample(noise).isfinite().all()


@by_shape
def test_log_prob_and_entropy_are_scipys(alpha: float, beta: float) -> None:
    u = torch.linspace(-6.0, 6.0, 41, dtype=torch.float64).unsqueeze(-1)
    one = of(alpha, beta)
    many = Beta(one.alpha.expand(41, 1), one.beta.expand(41, 1))
    x, rest = (2 * u).sigmoid().squeeze(-1).numpy(), (-2 * u).sigmoid().squeeze(-1).numpy()
    truth = special.xlogy(alpha - 1, x) + special.xlogy(beta - 1, rest) - special.betaln(alpha, beta) - math.log(2)
    np.testing.assert_allclose(many.log_prob(u).numpy(), truth, rtol=1e-10, atol=1e-8)
    assert float(one.entropy()) == pytest.approx(stats.beta.entropy(alpha, beta) + math.log(2), abs=1e-7)


def test_divergence_is_torchs() -> None:
    parameters = 1 + torch.rand(4, 50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 20
    one, other = Beta(*parameters[:2]), Beta(*parameters[2:])
    truth = distributions.kl_divergence(distributions.Beta(*parameters[:2]), distributions.Beta(*parameters[2:])).sum(
        -1
    )
    torch.testing.assert_close(one.kl(other), truth, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("u", [-300.0, -20.0, 12.0, 300.0])
def test_log_prob_is_exact_where_actions_round_to_the_bounds(u: float) -> None:
    found = of(3.0, 2.0, torch.float32).log_prob(torch.tensor([u]))
    log_x, log_rest = -np.logaddexp(0, -2 * u), -np.logaddexp(0, 2 * u)
    assert float(found) == pytest.approx(2 * log_x + log_rest - special.betaln(3, 2) - math.log(2), rel=1e-6)


def test_single_precision_is_good_where_gamma_functions_nearly_cancel() -> None:
    u = torch.tensor([0.01])
    narrow = [of(9_000.0, 9_000.0, dtype).log_prob(u.to(dtype)) for dtype in (torch.float32, torch.float64)]
    assert float(narrow[0]) == pytest.approx(float(narrow[1]), abs=1e-3)


def test_the_mode_is_the_peak() -> None:
    one = of(3.0, 2.0)
    assert float(one.mode().tanh()) == pytest.approx(2 * (2 / 3) - 1)
    assert float(of(1.0, 1.0).mode()) == 0.0  # uniform: the middle
    assert of(1.0, 3.0).mode().isfinite().all()  # a peak at a bound


def test_deviation_is_bounded_below_as_a_gaussians_is() -> None:
    head = BetaHead(spaces.Box(-1.0, 1.0, (1,)))
    one = head(torch.full((2,), 1e9))
    total = float(one.alpha + one.beta)
    deviation = 2 * math.sqrt(float(one.alpha * one.beta) / (total**2 * (total + 1)))
    assert deviation == pytest.approx(math.exp(-5), rel=0.01)

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pistar.objectives import (
    approximate_kl,
    clip_fraction,
    clipped_surrogate,
    explained_variance,
    importance_weighted,
    quadratic_surrogate,
    score_function,
    squared_error,
    standardize,
    weighted_mean,
)

CLIP = 0.2
SEEDS = range(3)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample(seed: int, shape: tuple[int, ...] = (6, 4)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probability (to be differentiated), an older one, advantage, weight >= 0 with some zeros."""
    log_prob, old, advantage, weight = normal(seed, 4, *shape)
    return log_prob.mul(0.3).requires_grad_(), old * 0.3, advantage, weight.clamp(min=0.0)


OBJECTIVES: dict[str, Callable[..., Tensor]] = {
    "score_function": lambda log_prob, old, advantage, weight: score_function(log_prob, advantage, weight),
    "importance_weighted": importance_weighted,
    "clipped_surrogate": lambda log_prob, old, advantage, weight: clipped_surrogate(
        log_prob, old, advantage, CLIP, weight
    ),
    "quadratic_surrogate": lambda log_prob, old, advantage, weight: quadratic_surrogate(
        log_prob, old, advantage, CLIP, weight
    ),
    "squared_error": lambda log_prob, old, advantage, weight: squared_error(log_prob, advantage, weight),
    "approximate_kl": lambda log_prob, old, advantage, weight: approximate_kl(log_prob, old, weight),
    "clip_fraction": lambda log_prob, old, advantage, weight: clip_fraction(log_prob, old, CLIP, weight),
    "explained_variance": lambda log_prob, old, advantage, weight: explained_variance(log_prob, advantage, weight),
    "score_of_standardized": lambda log_prob, old, advantage, weight: score_function(
        log_prob, standardize(advantage, weight), weight
    ),
}
by_objective = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


@by_objective
@pytest.mark.parametrize("seed", SEEDS)
def test_integer_weights_count_repetitions(objective: Callable[..., Tensor], seed: int) -> None:
    log_prob, old, advantage, _ = sample(seed, (20,))
    times = torch.randint(0, 4, (20,), generator=torch.Generator().manual_seed(seed))
    repeated = [x.repeat_interleave(times) for x in (log_prob, old, advantage)]
    expected = objective(*repeated, None)
    assert abs(objective(log_prob, old, advantage, times) - expected) < 1e-12
    assert abs(objective(log_prob, old, advantage, times.double() * 0.1) - expected) < 1e-12


@by_objective
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_entries_of_weight_0_reach_neither_value_nor_gradient(objective: Callable[..., Tensor], poison: float) -> None:
    log_prob, old, advantage, weight = sample(0)
    weight[0, 0] = 0.0  # explained_variance must not look at a fixed place either
    silent = weight == 0
    results, gradients = [], []
    for spoilt in (False, True):
        inputs = [x.detach().masked_fill(silent & spoilt, poison).requires_grad_() for x in (log_prob, old, advantage)]
        result = objective(*inputs, weight)
        results.append(result.detach())
        if inputs[0].requires_grad and result.requires_grad and "variance" not in str(objective):
            gradients.append(torch.autograd.grad(result, inputs, allow_unused=True))
    assert results[0].isfinite()
    assert torch.equal(results[0], results[1])
    for clean, spoilt_gradient in zip(*gradients, strict=True) if gradients else ():
        if clean is not None:
            assert torch.equal(clean, spoilt_gradient)
            assert (spoilt_gradient[silent] == 0).all()


@by_objective
def test_all_weights_0_give_0_and_no_nan(
    objective: Callable[..., Tensor],
) -> None:
    log_prob, old, advantage, weight = sample(1)
    result = objective(log_prob, old, advantage, torch.zeros_like(weight))
    assert result == 0
    if result.requires_grad:
        result.backward()  # type: ignore[no-untyped-call]
        assert log_prob.grad is not None
        assert (log_prob.grad == 0).all()


def test_weighted_mean_of_booleans_is_the_mean_of_the_chosen() -> None:
    x, chosen = normal(0, 9), normal(1, 9) > 0
    assert abs(weighted_mean(x, chosen) - x[chosen].mean()) < 1e-15


@pytest.mark.parametrize("seed", SEEDS)
def test_all_policy_objectives_have_one_gradient_at_the_old_policy(seed: int) -> None:
    log_prob, _, advantage, weight = sample(seed)
    old = log_prob.detach()
    gradients = [
        torch.autograd.grad(OBJECTIVES[name](log_prob, old, advantage, weight), log_prob)[0]
        for name in ("score_function", "importance_weighted", "clipped_surrogate", "quadratic_surrogate")
    ]
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradients[0], gradient, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients[0], advantage * weight / weight.sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_clipping_is_a_lower_bound_that_stops_only_what_the_advantage_favours(seed: int) -> None:
    log_prob, old, advantage, _ = sample(seed, (400,))
    assert clipped_surrogate(log_prob, old, advantage, CLIP) < importance_weighted(log_prob, old, advantage)
    (gradient,) = torch.autograd.grad(clipped_surrogate(log_prob, old, advantage, CLIP), log_prob)
    ratio = (log_prob - old).exp()
    stopped = ((ratio > 1 + CLIP) & (advantage > 0)) | ((ratio < 1 - CLIP) & (advantage < 0))
    assert 0 < stopped.sum() < len(stopped)
    torch.testing.assert_close(gradient, torch.where(stopped, 0.0, ratio * advantage / 400), rtol=1e-12, atol=0)


@pytest.mark.parametrize("advantage", [1.7, -0.4])
def test_the_quadratic_surrogate_is_largest_where_clipping_would_begin(advantage: float) -> None:
    """And beyond it pulls back; it lies below r A, which it meets at r = 1."""
    ratio = torch.linspace(0.5, 1.5, 1001, dtype=torch.float64)
    each = torch.stack([
        quadratic_surrogate(r.log(), torch.zeros_like(r), torch.full_like(r, advantage), CLIP) for r in ratio
    ])  # fmt: skip
    assert float(ratio[each.argmax()]) == pytest.approx(1 + CLIP * (1 if advantage > 0 else -1), abs=1e-9)
    assert float(each.max()) == pytest.approx(advantage + abs(advantage) * CLIP / 2)
    assert bool((each <= ratio * advantage + 1e-15).all())
    assert float(each[500]) == pytest.approx(advantage)


@pytest.mark.parametrize("clip", [0.1, 0.3])
def test_clip_may_be_a_tensor(clip: float) -> None:
    log_prob, old, advantage, weight = sample(5)
    as_tensor = torch.tensor(clip, dtype=torch.float64)
    assert clipped_surrogate(log_prob, old, advantage, as_tensor, weight) == clipped_surrogate(
        log_prob, old, advantage, clip, weight
    )
    assert clip_fraction(log_prob, old, as_tensor) == clip_fraction(log_prob, old, clip)


@pytest.mark.parametrize("seed", SEEDS)
def test_approximate_kl_is_unbiased(seed: int) -> None:
    """The expectation over the old policy, summed exactly, is KL(old ‖ new)."""
    new, old = normal(seed, 2, 7).log_softmax(-1)
    assert abs(approximate_kl(new, old, old.exp()) - (old.exp() * (old - new)).sum()) < 1e-12
    assert approximate_kl(old + 0.0, old) == 0


def test_approximate_kl_is_never_negative_and_exact_for_small_steps() -> None:
    old = normal(0, 1000).float()
    step = 1e-4 * normal(1, 1000).float()
    estimate = approximate_kl((old + step), old)
    exact = ((old + step).double() - old.double()).square().mean() / 2
    assert estimate >= 0
    assert abs(estimate / exact - 1) < 1e-3


def test_clip_fraction_counts_ratios_outside() -> None:
    old = torch.zeros(5, dtype=torch.float64)
    ratio = torch.tensor([0.5, 0.81, 1.0, 1.19, 1.3], dtype=torch.float64)
    assert abs(clip_fraction(ratio.log(), old, CLIP) - 0.4) < 1e-12


@pytest.mark.parametrize("seed", SEEDS)
def test_explained_variance_is_one_minus_the_residual_share(seed: int) -> None:
    target, noise = normal(seed, 2, 500)
    assert explained_variance(target, target) == 1
    assert abs(explained_variance(target + 3.0, target) - 1) < 1e-12
    assert abs(explained_variance(torch.zeros_like(target), target)) < 1e-12
    expected = 1 - (target - noise).var() / target.var()
    assert abs(explained_variance(noise, target) - expected) < 1e-12


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e6, 1e-30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_explained_variance_of_constant_targets_is_0(constant: float, dtype: torch.dtype) -> None:
    target = torch.full((7, 3), constant, dtype=dtype)
    weight = (normal(1, 7, 3) > 0).to(dtype)
    for w in (None, weight):
        assert explained_variance(normal(0, 7, 3).to(dtype), target, w) == 0
        assert explained_variance(target, target, w) == 0
    spoilt = target.masked_fill(weight == 0, float("nan"))
    assert explained_variance(normal(0, 7, 3).to(dtype), spoilt, weight) == 0


def test_diagnostics_carry_no_graph() -> None:
    log_prob, old, advantage, _ = sample(0)
    for name in ("approximate_kl", "clip_fraction", "explained_variance"):
        assert not OBJECTIVES[name](log_prob, old, advantage, None).requires_grad


@pytest.mark.parametrize("name", ["score_function", "importance_weighted", "squared_error"])
def test_gradients_agree_with_finite_differences(name: str) -> None:
    log_prob, old, advantage, weight = sample(2)
    assert torch.autograd.gradcheck(lambda x: OBJECTIVES[name](x, old, advantage, weight), (log_prob,))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_standardized_advantages_have_mean_0_and_deviation_1_where_they_count(seed: int, scale: float) -> None:
    _, _, advantage, weight = sample(seed)
    counted = weight > 0
    chosen = standardize(advantage * scale + 5 * scale, counted)
    assert abs(chosen[counted].mean()) < 1e-9
    assert abs(chosen[counted].std(correction=0) - 1) < 1e-9
    assert (chosen[~counted] == 0).all()
    torch.testing.assert_close(chosen[counted], standardize(advantage[counted]), rtol=0, atol=1e-8)


def test_standardizing_keeps_the_order() -> None:
    advantage = normal(4, 50)
    assert torch.equal(standardize(advantage).argsort(), advantage.argsort())


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e6, 1e-30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_standardized_constants_are_0(constant: float, dtype: torch.dtype) -> None:
    advantage, weight = torch.full((7, 3), constant, dtype=dtype), normal(1, 7, 3) > 0
    for w in (None, weight, torch.zeros_like(weight)):
        assert torch.equal(standardize(advantage, w), torch.zeros_like(advantage))
    assert torch.equal(standardize(advantage.masked_fill(~weight, float("nan")), weight), torch.zeros_like(advantage))
    assert standardize(advantage[:1, :1]).tolist() == [[0.0]]

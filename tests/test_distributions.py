from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from scipy import integrate
from torch import Tensor, distributions

from pistar.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Distribution,
    Gaussian,
    Joint,
    MultiCategorical,
    SquashedGaussian,
)
from pistar.distributions.beta import CANDIDATES
from pistar.tree import Tree, leaves, map_leaves

INFINITY = float("inf")
SAMPLES = 200_000


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def categorical(seed: int, *batch: int) -> Categorical:
    return Categorical(2 * normal(seed, *batch, 4))


def gaussian(seed: int, *batch: int) -> Gaussian:
    return Gaussian(normal(seed, *batch, 3), 0.5 * normal(seed + 100, 3))


def squashed(seed: int, *batch: int) -> SquashedGaussian:
    return SquashedGaussian(normal(seed, *batch, 3), 0.5 * normal(seed + 100, 3) - 0.7)


def bernoulli(seed: int, *batch: int) -> Bernoulli:
    return Bernoulli(2 * normal(seed, *batch, 3))


def multi_categorical(seed: int, *batch: int) -> MultiCategorical:
    return MultiCategorical(Joint(tuple(Categorical(normal(seed + n, *batch, n)) for n in (2, 4, 3))))


def beta(seed: int, *batch: int) -> Beta:
    return Beta(1 + normal(seed, *batch, 3).exp(), 1 + normal(seed + 100, *batch, 3).exp())


def joint(seed: int, *batch: int) -> Joint:
    nested = Joint((bernoulli(seed, *batch), squashed(seed + 1, *batch)))
    return Joint({"gear": categorical(seed + 2, *batch), "pedal": gaussian(seed + 3, *batch), "rest": nested})


MAKERS = [categorical, gaussian, squashed, beta, bernoulli, multi_categorical, joint]
by_kind = pytest.mark.parametrize("make", MAKERS)


def draw_noise(distribution: Distribution, seed: int, *shape: int) -> Tree:
    """The noise that every kind documents."""
    if isinstance(distribution, Categorical):
        return uniform(seed, *shape)
    if isinstance(distribution, Bernoulli):
        return uniform(seed, *shape, distribution.logits.shape[-1])
    if isinstance(distribution, MultiCategorical):
        return uniform(seed, *shape, len(distribution.joint.components))
    if isinstance(distribution, Joint):
        parts = distribution.components
        if isinstance(parts, Mapping):
            return {key: draw_noise(part, seed + i, *shape) for i, (key, part) in enumerate(parts.items())}
        return tuple(draw_noise(part, seed + 10 + i, *shape) for i, part in enumerate(parts))
    if isinstance(distribution, Beta):
        size = (*shape, distribution.alpha.shape[-1], 2, CANDIDATES)
        return torch.stack((normal(seed, *size), uniform(seed + 1, *size)), dim=-1)
    assert isinstance(distribution, Gaussian | SquashedGaussian)
    return normal(seed, *shape, distribution.mean.shape[-1])


def reference(distribution: Distribution) -> distributions.Distribution:
    if isinstance(distribution, Categorical):
        return distributions.Categorical(logits=distribution.logits)
    if isinstance(distribution, Bernoulli):
        return distributions.Independent(distributions.Bernoulli(logits=distribution.logits), 1)
    assert isinstance(distribution, Gaussian)
    scale = distribution.log_std.exp().expand_as(distribution.mean)
    return distributions.Independent(distributions.Normal(distribution.mean, scale), 1)


def assert_close(found: Tensor, truth: Tensor, accuracy: float = 1e-12) -> None:
    torch.testing.assert_close(found, truth, rtol=accuracy, atol=accuracy)


# Against torch.distributions.


@pytest.mark.parametrize("make", [categorical, gaussian, bernoulli])
def test_log_prob_entropy_and_kl_are_those_of_torch(make: Callable[..., Distribution]) -> None:
    one, other = make(0, 5, 2), make(1, 5, 2)
    action = one.sample(draw_noise(one, 3, 5, 2))
    assert_close(one.log_prob(action), reference(one).log_prob(action.double()))
    assert_close(one.entropy(), reference(one).entropy())
    assert_close(one.kl(other), distributions.kl_divergence(reference(one), reference(other)))


def test_squashed_log_prob_is_that_of_a_transformed_normal() -> None:
    one = squashed(0, 50)
    u = one.sample(normal(1, 50, 3))
    transform = distributions.TanhTransform(cache_size=1)
    truth = distributions.TransformedDistribution(
        distributions.Normal(one.mean, one.log_std.exp().expand_as(one.mean)), [transform]
    )
    log_density: Tensor = truth.log_prob(u.tanh())  # type: ignore[no-untyped-call]
    assert_close(one.log_prob(u), log_density.sum(-1), 1e-9)


def entropy_of_squashed(mean: float, log_std: float) -> float:
    """By adaptive quadrature over u."""
    one = SquashedGaussian(torch.tensor([mean], dtype=torch.float64), torch.tensor([log_std], dtype=torch.float64))
    std = math.exp(log_std)

    def integrand(z: float) -> float:
        u = torch.tensor([mean + std * z], dtype=torch.float64)
        return math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) * -float(one.log_prob(u))

    kink = -mean / std
    points = [kink] if abs(kink) < 12 else None
    return float(integrate.quad(integrand, -12, 12, points=points, limit=200, epsabs=1e-9)[0])


@pytest.mark.parametrize(("log_std", "accuracy"), [(-5.0, 1e-6), (0.0, 1e-6), (math.log(2), 1e-3), (2.0, 0.1)])
@pytest.mark.parametrize("mean", [0.0, 0.6, -2.0])
def test_squashed_entropy_is_as_accurate_as_it_says(mean: float, log_std: float, accuracy: float) -> None:
    one = SquashedGaussian(torch.tensor([mean], dtype=torch.float64), torch.tensor([log_std], dtype=torch.float64))
    assert abs(float(one.entropy()) - entropy_of_squashed(mean, log_std)) < accuracy


# Identities that hold for every kind.


@by_kind
def test_entropy_and_kl_are_expectations_over_samples(make: Callable[..., Distribution]) -> None:
    one, other = make(0), make(1)
    many = map_leaves(lambda x: x.expand(SAMPLES, *x.shape) if x.dim() else x, one)
    action = many.sample(draw_noise(one, 2, SAMPLES))
    log_prob = one_by_one(one, action)
    for found, terms in ((one.entropy(), -log_prob), (one.kl(other), log_prob - one_by_one(other, action))):
        error = 5 * float(terms.std()) / math.sqrt(SAMPLES)
        assert abs(float(found) - float(terms.mean())) < error + 1e-6


def one_by_one(distribution: Distribution, action: Tree) -> Tensor:
    """Log-probabilities of many actions under one unbatched distribution."""
    count = next(leaves(action))[1].shape[0]
    many: Distribution = map_leaves(lambda x: x.expand(count, *x.shape), distribution)
    return many.log_prob(action)


@by_kind
def test_every_result_has_the_batch_shape(make: Callable[..., Distribution]) -> None:
    for batch in ((), (4,), (2, 3), (0,)):
        one = make(0, *batch)
        action = one.sample(draw_noise(one, 1, *batch))
        for result in (one.log_prob(action), one.log_prob(one.mode()), one.entropy(), one.kl(make(1, *batch))):
            assert result.shape == batch


@by_kind
def test_kl_is_0_to_itself_and_positive_to_others(make: Callable[..., Distribution]) -> None:
    one = make(0, 50)
    assert one.kl(one).abs().max() < 1e-12
    assert one.kl(make(1, 50)).min() > 0


@by_kind
def test_a_batch_is_its_entries(make: Callable[..., Distribution]) -> None:
    noise = draw_noise(make(0, 6), 1, 6)
    whole = make(0, 6)
    action = whole.sample(noise)
    for i in range(6):
        alone = map_leaves(lambda x, i=i: x[i] if x.dim() > 1 else x, whole)
        chosen = alone.sample(map_leaves(lambda x, i=i: x[i], noise))
        for (_, found), (_, truth) in zip(leaves(chosen), leaves(action), strict=True):
            assert torch.equal(found, truth[i])
        assert_close(alone.log_prob(chosen), whole.log_prob(action)[i])


@by_kind
def test_gradients_of_log_prob_and_entropy_are_finite(make: Callable[..., Distribution]) -> None:
    parameters: list[Tensor] = []

    def record(x: Tensor) -> Tensor:
        parameters.append(x.clone().requires_grad_())
        return parameters[-1]

    one = map_leaves(record, make(0, 5))
    action = map_leaves(torch.Tensor.detach, one.sample(draw_noise(one, 1, 5)))
    gradients = torch.autograd.grad((one.log_prob(action) + one.entropy()).sum(), parameters)
    assert all(gradient.isfinite().all() and gradient.abs().max() > 0 for gradient in gradients)


# Probabilities add up and samples follow them.


def test_categorical_samples_follow_the_probabilities() -> None:
    one = categorical(0)
    action = Categorical(one.logits.expand(SAMPLES, 4)).sample(uniform(1, SAMPLES))
    share = torch.bincount(action, minlength=4) / SAMPLES
    assert (share - one.probability).abs().max() < 5 * 0.5 / math.sqrt(SAMPLES)
    assert action.dtype == torch.int64
    assert one.mode() == one.probability.argmax()


def test_categorical_sampling_inverts_the_cumulative_distribution() -> None:
    """Equally spaced noise must give every index its share to one sample, where random noise would blur it."""
    one = categorical(3)
    grid = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    action = Categorical(one.logits.expand(10_000, 4)).sample(grid)
    assert (action.diff() >= 0).all()
    assert (torch.bincount(action, minlength=4) / 1e4 - one.probability).abs().max() <= 1e-4


def test_bernoulli_samples_follow_the_probabilities_and_have_bits() -> None:
    one = bernoulli(0)
    action = Bernoulli(one.logits.expand(SAMPLES, 3)).sample(uniform(1, SAMPLES, 3))
    assert action.dtype == torch.int8
    assert (action.double().mean(0) - one.logits.sigmoid()).abs().max() < 5 * 0.5 / math.sqrt(SAMPLES)
    assert torch.equal(one.mode(), (one.logits.sigmoid() > 0.5).to(torch.int8))


@pytest.mark.parametrize("make", [gaussian, squashed])
def test_gaussian_samples_have_the_moments(make: Callable[..., Gaussian | SquashedGaussian]) -> None:
    one = make(0)
    action = one.sample(normal(1, SAMPLES, 3))
    std = one.log_std.exp()
    assert ((action.mean(0) - one.mean).abs() < 5 * std / math.sqrt(SAMPLES)).all()
    assert ((action.std(0) / std - 1).abs() < 5 / math.sqrt(2 * SAMPLES)).all()
    assert torch.equal(one.mode(), one.mean)


def test_the_squashed_density_integrates_to_1() -> None:
    one = SquashedGaussian(torch.tensor([0.4], dtype=torch.float64), torch.tensor([-0.3], dtype=torch.float64))
    a = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[1:-1]
    density = map_leaves(lambda x: x.expand(len(a), 1), one).log_prob(a.atanh().unsqueeze(-1)).exp()
    assert abs(float(torch.trapezoid(density, a)) - 1) < 1e-6


@pytest.mark.parametrize("make", [bernoulli, multi_categorical])
def test_probabilities_of_all_actions_sum_to_1(make: Callable[..., Distribution]) -> None:
    sizes = (2, 2, 2) if make is bernoulli else (2, 4, 3)
    every = torch.tensor(list(itertools.product(*map(range, sizes))))
    assert abs(float(one_by_one(make(0), every).exp().sum()) - 1) < 1e-12


def test_mode_is_the_most_likely_action() -> None:
    every = torch.tensor(list(itertools.product(range(2), range(4), range(3))))
    for seed in range(5):
        one = multi_categorical(seed)
        assert torch.equal(one.mode(), every[one_by_one(one, every).argmax()])


def test_joint_is_the_product_of_its_parts() -> None:
    one, other = joint(0, 6), joint(1, 6)
    action = one.sample(draw_noise(one, 2, 6))
    assert isinstance(one.components, dict)
    assert isinstance(other.components, dict)
    assert_close(one.log_prob(action), sum(p.log_prob(action[k]) for k, p in one.components.items()))
    assert_close(one.entropy(), sum(p.entropy() for p in one.components.values()))
    assert_close(one.kl(other), sum(p.kl(other.components[k]) for k, p in one.components.items()))
    assert isinstance(action["rest"], tuple)
    assert list(action) == ["gear", "pedal", "rest"]


# Extremes.


def masked_logits() -> Tensor:
    return torch.tensor([[0.3, -INFINITY, 1.0, -INFINITY], [-INFINITY, -INFINITY, -INFINITY, 2.0]])


def test_a_masked_index_is_never_drawn_and_costs_no_nan() -> None:
    logits = masked_logits().requires_grad_()
    one = Categorical(logits)
    assert one.log_prob(torch.tensor([1, 0])).tolist() == [-INFINITY, -INFINITY]
    assert one.mode().tolist() == [2, 3]
    lone = Categorical(torch.tensor([[0.3, 1.0]]))
    assert abs((one.entropy()[0] - lone.entropy()[0]).item()) < 1e-6
    assert one.entropy()[1] == 0
    (one.entropy().sum() + one.log_prob(torch.tensor([0, 3])).sum() + one.kl(one).sum()).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad[masked_logits().isinf()] == 0).all()
    for edge in (0.0, 1 - 2**-24, *torch.rand(50, generator=torch.Generator().manual_seed(0)).tolist()):
        drawn = one.sample(torch.full((2,), edge))
        assert one.log_prob(drawn).isfinite().all()


def test_kl_is_infinite_where_the_other_forbids_and_finite_where_both_do() -> None:
    free, masked = Categorical(torch.zeros(2, 4)), Categorical(masked_logits())
    assert masked.kl(free).isfinite().all()
    assert (free.kl(masked) == INFINITY).all()
    assert (masked.kl(masked) == 0).all()


@pytest.mark.parametrize("size", [50.0, 1e4, 1e30])
def test_huge_logits_stay_finite(size: float) -> None:
    logits = torch.tensor([size, -size, 0.0])
    examples: list[tuple[Any, Tensor]] = [
        (Categorical(logits), torch.tensor(1)),
        (Bernoulli(logits), torch.tensor([0, 1, 0])),
    ]
    for one, action in examples:
        leaf = logits.clone().requires_grad_()
        again = type(one)(leaf)
        total = again.log_prob(action) + again.entropy() + again.kl(type(one)(-leaf))
        assert total.isfinite()
        (gradient,) = torch.autograd.grad(total, leaf)
        assert gradient.isfinite().all()
        assert again.entropy() >= 0


@pytest.mark.parametrize("log_std", [-5.0, 2.0])
@pytest.mark.parametrize("mean", [-30.0, 0.0, 1e4])
def test_narrow_and_wide_gaussians_stay_finite_in_single_precision(mean: float, log_std: float) -> None:
    for kind in (Gaussian, SquashedGaussian):
        location, scale = torch.full((3,), mean, requires_grad=True), torch.full((3,), log_std, requires_grad=True)
        one = kind(location, scale)
        action = one.sample(torch.tensor([-4.0, 0.0, 4.0])).detach()
        gradients = torch.autograd.grad(one.log_prob(action) + one.entropy(), (location, scale))
        assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("u", [9.0, 20.0, 300.0])
def test_squashed_log_prob_is_exact_where_tanh_rounds_to_1(u: float) -> None:
    one = SquashedGaussian(torch.zeros(1), torch.zeros(1))
    log_slope = math.log(4) - 2 * u - 2 * math.log1p(math.exp(-2 * u))  # of tanh
    truth = -0.5 * u * u - 0.5 * math.log(2 * math.pi) - log_slope
    assert abs(float(one.log_prob(torch.tensor([u]))) / truth - 1) < 1e-5


@by_kind
def test_single_precision_agrees_with_double(make: Callable[..., Distribution]) -> None:
    one = make(0, 20)
    action = one.sample(draw_noise(one, 1, 20))
    single = map_leaves(torch.Tensor.float, one)
    rounded = map_leaves(lambda x: x.float() if x.is_floating_point() else x, action)
    assert single.log_prob(rounded).dtype == torch.float32
    torch.testing.assert_close(single.log_prob(rounded).double(), one.log_prob(action), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(single.entropy().double(), one.entropy(), rtol=1e-5, atol=1e-5)

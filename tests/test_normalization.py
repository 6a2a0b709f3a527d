"""Running moments beside moments of everything at once, and what is divided by them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pistar.normalization import Moments, Normalizer, RewardScale


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batches() -> list[tuple[Tensor, Tensor]]:
    """Samples [N, 3] far from each other, and weights that are 0 for a third of them; one batch counts nothing."""
    found = []
    for seed, size in enumerate((1, 50, 7, 200)):
        samples = normal(seed, size, 3) * (seed + 1) + 10 * seed
        weight = (torch.arange(size) % 3 != 1).double() if seed != 2 else torch.zeros(size).double()
        found.append((samples, weight))
    return found


def test_moments_are_those_of_all_samples_that_count_however_they_come() -> None:
    moments, counted = Moments(3), []
    for samples, weight in batches():
        moments.update(samples.masked_fill(weight.unsqueeze(-1) == 0, 1e6), weight)
        counted.append(samples[weight > 0])
    truth = torch.cat(counted)
    assert moments.count == len(truth)
    torch.testing.assert_close(moments.mean, truth.mean(0))
    torch.testing.assert_close(moments.variance, truth.var(0, correction=0))


def test_normalised_observations_have_mean_0_and_deviation_1_and_are_clipped() -> None:
    normalizer = Normalizer(torch.tensor([True, False, True]), limit=5.0)
    samples = (normal(0, 500, 3) * torch.tensor([3.0, 3.0, 0.1]) + 7.0).float()
    assert torch.equal(normalizer(samples * 0.1), samples * 0.1)  # nothing is known yet
    normalizer.update(samples)
    seen = normalizer(samples)
    assert torch.equal(seen[:, 1], samples[:, 1])  # outside the mask
    for column in (0, 2):
        assert seen[:, column].mean().item() == pytest.approx(0, abs=1e-4)
        assert seen[:, column].std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert normalizer(samples + 1e6)[:, 0].unique().tolist() == [5.0]
    assert normalizer(samples - 1e6)[:, 2].unique().tolist() == [-5.0]


def test_looking_through_a_normaliser_does_not_move_it() -> None:
    normalizer = Normalizer(torch.ones(3, dtype=torch.bool))
    normalizer.update(normal(0, 50, 3))
    before = {name: value.clone() for name, value in normalizer.state_dict().items()}
    normalizer(normal(1, 50, 3) + 4)
    assert all(torch.equal(value, before[name]) for name, value in normalizer.state_dict().items())


@pytest.mark.parametrize("pieces", [1, 3, 12])
def test_rewards_are_divided_by_the_deviation_of_the_discounted_return(pieces: int) -> None:
    discount, reward = 0.8, normal(0, 12, 2) + 1.0
    ended = torch.tensor([[t % 5 == 4, t % 3 == 1] for t in range(12)])
    weight = torch.tensor([[1.0, float(t != 6)] for t in range(12)])
    scale = RewardScale(2, discount)
    assert scale.factor == 1.0
    for rows in torch.arange(12).chunk(pieces):
        scale.update(reward[rows], ended[rows], weight[rows])
    trail = []
    for lane in range(2):
        for t in range(12):
            start = max((k + 1 for k in range(t) if ended[k, lane]), default=0)
            past = sum(discount ** (t - k) * float(reward[k, lane]) for k in range(start, t + 1))
            trail += [past] if weight[t, lane] > 0 else []
    truth = torch.tensor(trail, dtype=torch.float64).std(correction=0)
    assert scale.factor == pytest.approx(1 / float(truth), rel=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_the_first_reward_that_differs_is_not_blown_up(constant: float) -> None:
    """Nothing, or the same each time, has no deviation to divide by: the surprise behind it counts as it is."""
    scale = RewardScale(4, 0.99)
    every_step_ends = torch.ones(50, 4, dtype=torch.bool)
    scale.update(torch.full((50, 4), constant, dtype=torch.float64), every_step_ends, torch.ones(50, 4))
    assert scale.factor == 1.0
    rare = torch.full((50, 4), constant, dtype=torch.float64)
    rare[7, 2] += 1.0
    scale.update(rare, every_step_ends, torch.ones(50, 4))
    assert scale.factor == pytest.approx(torch.tensor([1.0] + [0.0] * 399).std(correction=0).item() ** -1, rel=1e-4)

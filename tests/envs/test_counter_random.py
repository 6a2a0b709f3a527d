"""Counter-based random numbers: a reference in plain integers, independence of the batch, and the right distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from pistar.envs import counter_random

MASK = 2**64 - 1


def reference_mix(x: int) -> int:
    """SplitMix64's finaliser in Python's unbounded integers."""
    x &= MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def as_unsigned(x: torch.Tensor) -> list[int]:
    return [value & MASK for value in x.flatten().tolist()]


def test_mixing_equals_unsigned_arithmetic() -> None:
    x = torch.tensor([0, 1, -1, 2**62, -(2**63), 2**63 - 1, 123456789])
    assert as_unsigned(counter_random.mix(x)) == [reference_mix(value) for value in x.tolist()]


def test_the_published_stream_of_splitmix64() -> None:
    # The first outputs of SplitMix64 from state 1234567, as listed with its reference implementation.
    state = torch.tensor([(1234567 + k * 0x9E3779B97F4A7C15) & MASK for k in (1, 2, 3)], dtype=torch.uint64)
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert as_unsigned(counter_random.mix(state.view(torch.int64))) == published


def test_a_number_depends_on_its_coordinates_alone() -> None:
    lane, episode = torch.arange(6), torch.tensor([0, 4, 1, 0, 9, 2])
    whole = counter_random.uniform(7, lane, episode, 5)
    for b in range(6):
        assert torch.equal(counter_random.uniform(7, lane[b : b + 1], episode[b : b + 1], 5)[0], whole[b])
    assert torch.equal(counter_random.uniform(7, lane, episode, 3), whole[:, :3])


@pytest.mark.parametrize("changed", ["seed", "lane", "episode"])
def test_every_coordinate_matters(changed: str) -> None:
    coordinates = {"seed": 3, "lane": torch.arange(100), "episode": torch.arange(100)}
    first = counter_random.uniform(**coordinates, count=4)
    second = counter_random.uniform(**{**coordinates, changed: coordinates[changed] + 1}, count=4)
    assert not torch.isclose(first, second).any(1).all()
    assert abs(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < 0.2


@pytest.mark.parametrize("axis", ["lane", "episode", "index"])
def test_uniform_numbers_are_uniform_along_every_axis(axis: str) -> None:
    n = 20_000
    zeros, counting = torch.zeros(n, dtype=torch.int64), torch.arange(n)
    if axis == "index":
        drawn = counter_random.uniform(1, zeros[:1], zeros[:1], n)[0]
    else:
        drawn = counter_random.uniform(
            1, counting if axis == "lane" else zeros, counting if axis == "episode" else zeros, 1
        )[:, 0]
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) < 1
    assert stats.kstest(drawn.numpy(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.03


def test_normal_numbers_are_normal_and_finite() -> None:
    drawn = counter_random.normal(5, torch.arange(20_000), torch.zeros(20_000, dtype=torch.int64), 2)
    assert bool(drawn.isfinite().all())
    assert stats.kstest(drawn.flatten().numpy(), "norm").pvalue > 1e-3

"""Seeds of streams: equal paths give equal seeds, others differ, and an environment's fit where seeds go."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pistar.seeding import derive, episode_seed, world_seed

SEEDS = st.integers(0, 2**63 - 1)


@given(seed=SEEDS, lane=st.integers(0, 10**6), episode=st.integers(0, 10**9))
def test_an_episode_seed_fits_numpys_global_stream_and_an_int_of_c(seed: int, lane: int, episode: int) -> None:
    found = episode_seed(seed, lane, episode)
    assert 0 <= found < 2**31
    np.random.RandomState(found)


@given(seed=SEEDS)
def test_equal_paths_give_equal_seeds_and_every_part_of_the_path_counts(seed: int) -> None:
    assert derive(seed, "a", 1) == derive(seed, "a", 1)
    assert world_seed(seed, "a", 1) == world_seed(seed, "a", 1)
    paths = [(seed, "a", 1), (seed + 1, "a", 1), (seed, "b", 1), (seed, "a", 2), (seed, "a"), (seed, "a", 1, 1)]
    assert len({derive(*path) for path in paths}) == len(paths)
    assert 0 <= derive(seed, "a", 1) < 2**63


def test_a_run_repeats_hardly_any_episode() -> None:
    seeds = [episode_seed(0, lane, episode) for lane, episode in itertools.product(range(20), range(500))]
    assert len(set(seeds)) >= len(seeds) - 1  # 10,000 draws from 2**31: 0.02 collisions expected


def test_the_bits_of_an_episode_seed_are_balanced() -> None:
    seeds = np.array([episode_seed(1, 0, episode) for episode in range(4000)])
    ones = [(seeds >> bit & 1).mean() for bit in range(31)]
    assert np.abs(np.array(ones) - 0.5).max() < 0.04  # five standard deviations


@pytest.mark.parametrize(
    ("digest", "path"),
    [("7c4e5e89f10ffe2f", (7, "evaluation")), ("66451440d23b2ead", (0, "episode", 0, 0))],
)
def test_seeds_are_those_that_runs_were_made_with(digest: str, path: tuple[int | str, ...]) -> None:
    """The digests come from ``printf 7/evaluation | b2sum -l 64``."""
    expected = int.from_bytes(bytes.fromhex(digest), "little")
    assert derive(*path) == expected >> 1  # type: ignore[arg-type]
    assert world_seed(*path) == expected >> 33  # type: ignore[arg-type]

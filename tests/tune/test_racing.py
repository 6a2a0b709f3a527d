"""Races: what is stopped, and what is not."""

import numpy as np
import pytest

from pistar.tune import racing

SEEDS, RUNGS = 3, 4


def table(rng: np.random.Generator, merits: list[float], noise: float = 1.0, common: float = 20.0) -> list:
    """Areas [trials][SEEDS][RUNGS]: merit + what a seed does to all + noise that both seed and trial have."""
    seeds = common * rng.standard_normal(SEEDS)
    rest = noise * rng.standard_normal((len(merits), SEEDS))
    growth = np.linspace(0.4, 1.0, RUNGS)
    return ((np.array(merits)[:, None] + seeds + rest)[..., None] * growth).tolist()


def prefix(areas: list, seeds: int, rungs: int) -> list:
    return [*areas[: seeds - 1], areas[seeds - 1][:rungs]]


def test_a_trial_as_good_as_the_best_is_seldom_stopped_at_a_rung():
    rng = np.random.default_rng(0)
    stopped = 0
    for _ in range(400):
        *finished, mine = table(rng, [0.0] * 9)
        # The best of eight equals owes its place to luck, which is what makes this more than 2.5 %.
        stopped += racing.hopeless(prefix(mine, 2, 2), finished)
    assert stopped / 400 < 0.15


def test_a_bad_trial_is_stopped_at_the_first_rung_of_the_first_seed():
    rng = np.random.default_rng(1)
    stopped = 0
    for _ in range(100):
        *finished, mine = table(rng, [0.0] * 6 + [-15.0])
        stopped += racing.hopeless(prefix(mine, 1, 1), finished)
    assert stopped > 95


def test_more_seeds_see_smaller_differences():
    rng = np.random.default_rng(2)
    found = np.zeros(SEEDS)
    for _ in range(200):
        *finished, mine = table(rng, [0.0] * 8 + [-3.0])
        found += [racing.hopeless(prefix(mine, seeds, RUNGS), finished) for seeds in (1, 2, 3)]
    assert found[0] < found[1] < found[2]


def test_what_a_seed_does_to_all_trials_decides_nothing():
    rng = np.random.default_rng(3)
    for merit in (-9.0, -3.0, 0.0):
        *finished, mine = table(rng, [0.0, 1.0, -1.0, 0.5, merit])
        shift = 1000 * rng.standard_normal((SEEDS, 1)) * np.ones(RUNGS)
        for seeds, rungs in ((1, 2), (2, 1), (3, 4)):
            moved = (np.array(finished) + shift).tolist()
            mine_moved = (np.array(mine) + shift).tolist()
            plainly = racing.hopeless(prefix(mine, seeds, rungs), finished)
            assert racing.hopeless(prefix(mine_moved, seeds, rungs), moved) == plainly


def test_a_lucky_first_seed_of_the_best_dooms_nobody():
    """On its lucky seed the best is far ahead of trials that are as good; their spread says that this happens."""
    finished = [[[30.0], [0.0], [0.0]], [[0.0], [9.0], [8.0]], [[9.0], [0.0], [9.0]], [[8.0], [9.0], [0.0]]]
    assert not racing.hopeless([[0.0]], finished)


def test_without_measure_of_noise_nothing_is_stopped():
    *finished, mine = table(np.random.default_rng(4), [0.0, 0.0, -1e6])
    assert not racing.hopeless(prefix(mine, 1, 1), finished)  # two finished trials
    single = [[[float(n)]] for n in range(9)]
    assert not racing.hopeless([[-1e6]], single)  # one seed
    assert not racing.hopeless([], table(np.random.default_rng(5), [0.0] * 5))


def test_a_finished_trial_that_went_wild_does_not_hide_the_noise_of_the_others():
    rng = np.random.default_rng(6)
    *finished, mine = table(rng, [0.0] * 6 + [-15.0])
    wild = (np.array(finished[0]) - np.array([[0.0], [1e6], [1e3]])).tolist()
    assert racing.hopeless(prefix(mine, 1, 1), [*finished, wild])


def test_an_area_that_is_not_finite_is_hopeless():
    assert racing.hopeless([[float("nan")]], table(np.random.default_rng(7), [0.0] * 5))


def test_noise_is_the_residual_variance_of_the_two_way_layout():
    rng = np.random.default_rng(8)
    rows, columns = 100 * rng.standard_normal((2000, 1)), 100 * rng.standard_normal((1, 5))
    assert racing.noise(rows + columns) == pytest.approx(0.0, abs=1e-9)
    assert racing.noise(rows + columns + 2 * rng.standard_normal((2000, 5))) == pytest.approx(4.0, rel=0.1)

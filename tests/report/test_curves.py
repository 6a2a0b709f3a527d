"""The arithmetic behind the pictures."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pistar.report.curves import learning, robust_limits, smoothed, smoothed_within, spread, values_of, widened

moderate = st.floats(-1e6, 1e6)


@given(st.integers(1, 200), moderate, moderate)
def test_smoothing_keeps_a_straight_line_to_its_very_ends(count, start, slope):
    line = start + slope * np.arange(count)
    np.testing.assert_allclose(smoothed(line), line, rtol=1e-9, atol=1e-6 * (1 + abs(start) + abs(slope) * count))


def test_smoothing_takes_most_of_the_noise_away():
    noise = np.random.default_rng(0).normal(size=2000)
    assert smoothed(noise).std() < 0.25 * noise.std()


def test_a_wild_value_leaves_no_dent():
    values = np.linspace(0.0, 1.0, 200)
    wild = values.copy()
    wild[77] = -1e6
    line = smoothed_within(wild, robust_limits(wild))
    assert np.nanmax(np.abs(line - values)) < 0.02


SLOPE = np.linspace(0.0, 100.0, 100)
NOISE = np.random.default_rng(0).normal(size=1000)


@pytest.mark.parametrize(
    "values",
    [
        np.concatenate((np.zeros(900), SLOPE)),  # nothing for long, then success
        np.concatenate((SLOPE, np.full(900, 100.0))),  # solved early and steady
        np.concatenate((np.zeros(900), np.full(100, 100.0))),  # from one level to another at once
        np.concatenate((NOISE[:900], SLOPE)),
        np.concatenate((SLOPE, 100 + NOISE[:900])),
        np.concatenate((SLOPE, np.full(300, 100.0), SLOPE[::-1])),  # learned and forgotten
    ],
)
def test_what_a_run_learned_is_never_taken_for_outliers(values):
    assert robust_limits(values) == (values.min(), values.max())
    assert np.isfinite(smoothed_within(values, robust_limits(values))).all()


@pytest.mark.parametrize("wild", [-1e6, 1e6])
def test_outliers_do_not_set_the_limits(wild):
    rng = np.random.default_rng(1)
    alone, stretch = NOISE.copy(), NOISE.copy()
    alone[rng.choice(1000, 15, replace=False)] = wild * rng.uniform(0.001, 1, 15)
    stretch[400:480] = wild * rng.uniform(0.5, 1, 80)
    for values in (alone, stretch):
        assert max(map(abs, robust_limits(values))) < 10


@given(st.lists(moderate, min_size=1, max_size=30))
def test_limits_lie_within_the_values(values):
    low, high = robust_limits(np.array(values))
    assert min(values) <= low <= high <= max(values)


@given(st.lists(moderate, max_size=12), st.floats(0.01, 100), moderate, st.floats(1, 1e4))
def test_labels_are_spread_in_order_within_range_and_apart(places, gap, low, height):
    high = low + height
    found = spread([min(max(place, low), high) for place in places], gap, low, high)
    assert len(found) == len(places)
    apart = min(gap, height / max(len(places) - 1, 1))
    tolerance = 1e-9 * (abs(low) + height) + 1e-9
    assert all(low - tolerance <= place <= high + tolerance for place in found)
    assert all(second - first >= apart - tolerance for first, second in pairwise(sorted(found)))


def test_labels_with_room_stay_where_they_are():
    assert spread([3.0, 1.0, 2.0], 0.5, 0, 10) == [3.0, 1.0, 2.0]


def test_near_references_widen_the_limits_and_far_ones_do_not():
    low, high = widened((0.0, 1.0), [2.0, -1e9])
    assert -1 < low < 0
    assert 2 < high < 3


def test_seeds_meet_as_median_and_range():
    def run(value: float, last: int) -> list[dict[str, float]]:
        return [{"steps": 10.0 * i, "return": value} for i in range(1, last)]

    curve = learning([run(1.0, 50), run(2.0, 50), run(9.0, 30)], ("return",))
    assert curve.seeds == 3
    early = curve.steps < 280
    assert curve.centre[early] == pytest.approx(2.0)
    assert curve.low[early] == pytest.approx(1.0)
    assert curve.high[early] == pytest.approx(9.0)
    assert curve.high[curve.steps > 300] == pytest.approx(2.0)  # the short seed has ended


def test_a_quantity_is_found_by_its_last_component_and_only_where_reported():
    steps, values = values_of([{"steps": 2, "update/kl": 5.0}, {"steps": 1, "update/kl": 4.0}, {"steps": 3}], ("kl",))
    assert steps.tolist() == [1, 2]
    assert values.tolist() == [4.0, 5.0]
    assert learning([[{"steps": 1.0}]], ("kl",)).limits is None

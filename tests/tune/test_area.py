"""The area under the curve of evaluations."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pistar.errors import NumericalError
from pistar.tune import area

HEIGHT = st.floats(-1e3, 1e3)
CURVES = st.lists(HEIGHT, min_size=2, max_size=9).map(lambda ys: [(10.0 * n, y) for n, y in enumerate(ys)])


def test_a_straight_line_has_the_mean_of_its_ends():
    assert area.area([(0, 0.0), (100, 10.0)], 100) == pytest.approx(5.0)
    assert area.area([(0, 0.0), (100, 10.0)], 50) == pytest.approx(2.5)
    assert area.rungs([(0, 0.0), (100, 10.0)], 100, 4) == pytest.approx([1.25, 2.5, 3.75, 5.0])


@given(CURVES, HEIGHT, st.floats(0.1, 10))
def test_it_is_linear_in_the_return(curve, shift: float, scale: float):
    moved = [(x, scale * y + shift) for x, y in curve]
    assert area.area(moved, 55) == pytest.approx(scale * area.area(curve, 55) + shift, abs=1e-6)


@given(CURVES)
def test_more_evaluations_on_the_same_curve_change_nothing(curve):
    between = [((a + c) / 2, (b + d) / 2) for (a, b), (c, d) in itertools.pairwise(curve)]
    end = curve[-1][0]
    assert area.area(sorted([*curve, *between]), end) == pytest.approx(area.area(curve, end), abs=1e-9)


def test_what_lies_behind_the_planned_steps_pays_by_its_slope_alone():
    """A run of one large iteration gains nothing from the steps that it overshoots."""
    assert area.area([(0, 0.0), (200, 10.0)], 100) == pytest.approx(2.5)


def test_rungs_are_those_that_the_curve_has_reached():
    assert area.rungs([(0, 1.0)], 100, 4) == []
    assert len(area.rungs([(0, 1.0), (49, 1.0)], 100, 4)) == 1
    assert len(area.rungs([(0, 1.0), (50, 1.0)], 100, 4)) == 2
    assert len(area.rungs([(0, 1.0), (130, 1.0)], 100, 4)) == 4


def test_the_last_of_several_evaluations_at_the_same_steps_counts():
    assert area.curve([{"steps": 5, "mean": 1.0}, {"steps": 5, "mean": 2.0}]) == [(5.0, 2.0)]


def test_a_return_that_is_not_finite_is_named():
    with pytest.raises(NumericalError, match="after 5 steps"):
        area.curve([{"steps": 5, "mean": None}])

"""Schedules run from their start to their end, exactly at both, and never turn back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pistar import configuration
from pistar.cli import wording
from pistar.schedules import Schedule, constant, linear

moderate = st.floats(-1e6, 1e6)
schedules = st.builds(Schedule, moderate, moderate, st.sampled_from(["constant", "linear", "cosine"]))


@given(schedules, st.floats(0, 1), st.floats(0, 1))
def test_a_schedule_runs_from_start_to_end_without_turning_back(schedule: Schedule, one: float, other: float):
    low, high = sorted((one, other))
    if schedule.shape == "constant":
        assert schedule.at(one) == schedule.start
        return
    assert schedule.at(0.0) == schedule.at(-1.0) == schedule.start
    assert schedule.at(1.0) == schedule.at(2.0) == schedule.end
    direction = 1 if schedule.end > schedule.start else -1
    slack = 1e-12 * (abs(schedule.start) + abs(schedule.end))
    assert (schedule.at(high) - schedule.at(low)) * direction >= -slack


def test_shapes_are_what_they_are_called():
    assert linear(1.0, 0.0).at(0.25) == 0.75
    assert Schedule(1.0, 0.0, "cosine").at(0.5) == pytest.approx(0.5)
    assert Schedule(1.0, 0.01, "exponential").at(0.5) == pytest.approx(0.1)
    assert constant(3.0).at(0.7) == 3.0


@given(schedules)
def test_a_schedule_survives_its_text(schedule: Schedule):
    again = configuration.convert(Schedule, wording.value_text(schedule), "x")
    assert [again.at(p) for p in (0.0, 0.3, 1.0)] == [schedule.at(p) for p in (0.0, 0.3, 1.0)]

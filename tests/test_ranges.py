"""Ranges beside fields: a field that has one is a field like any other."""

from dataclasses import dataclass, fields

import pytest

from pistar.errors import UsageError
from pistar.fields import field_comments
from pistar.ranges import Choices, Interval, declared, searched
from pistar.schedules import Schedule, constant


@dataclass(frozen=True)
class Example:
    plain: int = 3
    rate: Schedule = searched(constant(0.1), 0.01, 1.0, scale="log")  # how fast
    size: tuple[int, ...] = searched((8, 8), choices=((8, 8), (16, 16)))


@dataclass(frozen=True)
class Heir(Example):
    gain: float = searched(1.0, 0.5, 2.0)


def test_a_searched_field_has_its_default_its_comment_and_its_range():
    assert Example() == Example(3, constant(0.1), (8, 8))
    assert Example.rate == constant(0.1)
    assert field_comments(Example)["rate"] == "how fast"
    assert declared(Example) == {"rate": Interval(0.01, 1.0, "log"), "size": Choices(((8, 8), (16, 16)))}


def test_an_heir_has_the_ranges_of_its_base_and_its_own():
    assert list(declared(Heir)) == ["rate", "size", "gain"]
    assert [field.name for field in fields(Heir)] == ["plain", "rate", "size", "gain"]


@pytest.mark.parametrize(
    ("low", "high", "scale"),
    [(1, 1, "linear"), (2, 1, "linear"), (0, 1, "log"), (0, 1, "complement"), (float("nan"), 1, "linear")],
)
def test_impossible_ranges_are_refused_where_they_are_written(low: float, high: float, scale):
    with pytest.raises(UsageError, match=r"range"):
        searched(0.5, low, high, scale=scale)


def test_choices_need_two_different_values():
    for values in ((1,), (1, 1)):
        with pytest.raises(UsageError, match="two or more different values"):
            searched(1, choices=values)
    with pytest.raises(UsageError, match="low and high, or choices"):
        searched(1, 0.1)


def test_a_range_is_widened_by_what_its_scale_has_a_place_for():
    assert Interval(1, 2).including(0) == Interval(0, 2)
    assert Interval(0.1, 1, "log").including(0.5) == Interval(0.1, 1, "log")
    assert not Interval(0.1, 1, "log").holds(0)
    assert not Interval(0.1, 0.9, "complement").holds(1.0)
    assert Choices((1, 2)).including(3) == Choices((3, 1, 2))

"""Numbers out of bounds are refused wherever a dataclass is made, with what was expected."""

import dataclasses
from dataclasses import dataclass

import pytest

from pistar import bounds
from pistar.errors import UsageError
from pistar.experiment import Training
from pistar.schedules import constant, linear


@dataclass(frozen=True)
class Sample:
    sizes: tuple[int, ...] = ()
    span: tuple[float, float] = (0.0, 1.0)
    limit: float | None = None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lanes": 0}, "lanes: expected at least 1, received 0 .lanes: parallel streams"),
        ({"learning_rate": linear(1.0, -1.0)}, "learning_rate: expected at least 0, received -1.0"),
        ({"learning_rate": constant(float("nan"))}, "learning_rate: expected at least 0, received nan"),
        ({"adam_epsilon": 0.0}, "adam_epsilon: expected more than 0"),
    ],
)
def test_numbers_out_of_bounds_are_refused_however_a_dataclass_is_made(changes: dict, message: str):
    for make in (lambda: Training(**changes), lambda: dataclasses.replace(Training(), **changes)):
        with pytest.raises(UsageError, match=message):
            make()


def test_bounds_hold_for_every_item_and_not_for_what_is_not_set():
    bounds.at_least(1, Sample(sizes=(1, 2), limit=None), "sizes", "limit")
    with pytest.raises(UsageError, match="sizes: expected at least 1, received 0"):
        bounds.at_least(1, Sample(sizes=(1, 0)), "sizes")
    bounds.between(0, 1, Sample(span=(0.0, 1.0)), "span")
    with pytest.raises(UsageError, match=r"span: expected a number from 0 to 1, received 1\.5"):
        bounds.between(0, 1, Sample(span=(0.0, 1.5)), "span")

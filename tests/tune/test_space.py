"""The space: what is searched, and points of it as experiments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pistar import experiment
from pistar import settings as flat
from pistar.algorithms.ppo import PPO
from pistar.errors import UsageError
from pistar.experiment import Experiment
from pistar.ranges import Choices, Interval, declared, searched
from pistar.schedules import Schedule, constant, linear
from pistar.tune import space


@dataclass(frozen=True)
class Own(PPO):
    """An algorithm from outside the package."""

    summary = "for a test"
    paper = "none"
    depth: int = searched(2, 1, 9)


def base(task: str = "pendulum", **settings: Any) -> Experiment:
    return flat.resolve(experiment.find_task(task), {"steps": 50_000, **settings}, None, "the test")


def names(searched: tuple[space.Dimension, ...]) -> list[str]:
    return [dimension.name for dimension in searched]


# ---- what is searched ------------------------------------------------------------------------------------------------


def test_all_ranges_that_stand_beside_fields_of_algorithm_and_training_are_searched():
    found = names(space.dimensions(base(), (), ()))
    assert found[: len(declared(PPO))] == [f"algorithm.{field}" for field in declared(PPO)]
    assert {"training.lanes", "training.horizon", "training.learning_rate"} <= set(found)
    assert not [name for name in found if name.startswith("policy.")]
    assert "policy.hidden" in names(space.dimensions(base(), (), ("policy",)))


def test_an_algorithm_from_outside_is_searchable_at_once():
    found = space.dimensions(base(algorithm={"kind": f"{__name__}:Own"}), (), ())
    assert "algorithm.depth" in names(found)
    assert "algorithm.clip" in names(found)


def test_what_is_given_is_held_fixed_and_what_is_asked_for_is_searched_alone():
    assert "algorithm.clip" not in names(space.dimensions(base(), ("algorithm.clip",), ()))
    asked = ("ppo.clip=0.1:0.3:log", "lanes=8/16", "learning-rate", "training.adam_epsilon=1e-8:1e-4:log")
    found = space.dimensions(base(), ("algorithm.clip",), asked)
    assert [(each.name, each.range) for each in found] == [
        ("algorithm.clip", Interval(0.1, 0.3, "log")),
        ("training.lanes", Choices((8, 16))),
        ("training.learning_rate", Interval(1e-4, 1e-2, "log")),
        ("training.adam_epsilon", Interval(1e-8, 1e-4, "log")),
    ]


def test_what_an_algorithm_says_of_training_wins():
    horizon = {d.name: d.range for d in space.dimensions(base(algorithm="a2c"), (), ())}["training.horizon"]
    assert horizon == Choices((4, 8, 16, 32, 64))


def test_a_discount_that_belongs_to_the_problem_is_not_searched():
    found = names(space.dimensions(base("arm-joint"), (), ()))
    assert found
    assert "algorithm.discount" not in found


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("ppo.klip", "did you mean 'ppo.clip'"),
        ("seed=1:9", "unknown setting to search"),
        ("steps", "unknown setting to search"),
        ("warm-up", "has no range of its own"),
        ("ppo.clip=0.1", "expected LOW:HIGH"),
        ("ppo.clip=a:b", "expected LOW:HIGH"),
        ("ppo.clip=0.3:0.1", "lower one first"),
        ("ppo.clip=0.1:0.3:lag", "did you mean 'log'"),
        ("normalize-rewards=0:1", "needs choices"),
        ("lanes=8/x", "expected an integer"),
        ("ppo.entropy-weight=1e-4:1:log", "has no place for"),
    ],
)
def test_mistakes_are_refused(asked: str, message: str):
    with pytest.raises(UsageError, match=message):
        space.dimensions(base(), (), (asked,))


def test_nothing_left_to_search_is_refused():
    every = names(space.dimensions(base(), (), ()))
    with pytest.raises(UsageError, match="nothing is left to search"):
        space.dimensions(base(), every, ())


# ---- points ----------------------------------------------------------------------------------------------------------

WHOLE = ("algorithm", "training", "policy")


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "reinforce"])
@pytest.mark.parametrize("task", ["arm-reach", "cartpole"])
def test_the_starting_point_is_the_base_itself_and_lies_in_every_range(algorithm: str, task: str):
    start = base(task, algorithm=algorithm)
    searched = space.dimensions(start, (), WHOLE)
    point = space.start(start, searched)
    assert space.place(start, searched, point) == start
    for dimension in searched:
        value = point[dimension.parameter]
        if isinstance(dimension.range, Choices):
            assert value in [space.label(each) for each in dimension.range.values]
        elif dimension.range.scale != "complement":
            assert dimension.range.low <= value <= dimension.range.high


def test_a_base_outside_a_range_widens_it():
    start = base(ppo={"clip": 0.9}, lanes=5)
    found = {d.name: d.range for d in space.dimensions(start, (), ())}
    assert found["algorithm.clip"] == Interval(0.05, 0.9, "log")
    assert 5 in found["training.lanes"].values


@given(st.floats(0.01, 1.0), st.floats(0.9, 0.999), st.sampled_from([4, 8, 16]))
@settings(max_examples=30, deadline=None)
def test_a_point_says_exactly_what_is_trained(clip: float, discount: float, lanes: int):
    start = base()
    searched = space.dimensions(start, (), ("ppo.clip", "ppo.discount", "lanes"))
    found = space.place(
        start, searched, {"algorithm.clip": clip, "1 - algorithm.discount": 1 - discount, "training.lanes": lanes}
    )
    assert found.algorithm.clip == constant(clip)
    assert found.algorithm.discount == pytest.approx(discount, abs=1e-15)
    assert found.training.lanes == lanes
    # A TOML of it is the same experiment, to the last bit.
    assert Experiment.from_table(found.to_table()) == found


@pytest.mark.parametrize(
    ("schedule", "moved"),
    [
        (constant(0.2), constant(0.4)),
        (linear(0.2, 0.0), linear(0.4, 0.0)),
        (Schedule(0.2, 0.1, "cosine"), Schedule(0.4, 0.2, "cosine")),
    ],
)
def test_the_end_of_a_schedule_keeps_its_proportion(schedule: Schedule, moved: Schedule):
    found = space.moved(schedule, 0.4)
    assert (found.start, found.end, found.shape) == (moved.start, pytest.approx(moved.end), moved.shape)


def test_what_follows_from_other_values_follows_them():
    start = base()
    searched = space.dimensions(start, (), ("lanes", "horizon"))
    found = space.place(start, searched, {"training.lanes": 4, "training.horizon": 32})
    assert found.checkpoints.every == found.training.iterations // 20 != start.checkpoints.every
    assert "every" not in space.open_tables(found)["checkpoints"]
    given_one = base(checkpoints={"every": 7})
    assert space.place(given_one, searched, {"training.lanes": 4, "training.horizon": 32}).checkpoints.every == 7


def test_lists_are_choices_by_their_words():
    start = base()
    searched = space.dimensions(start, (), ("mlp.hidden",))
    assert space.start(start, searched) == {"policy.hidden": "64 64"}
    assert space.place(start, searched, {"policy.hidden": "128 128"}).policy.hidden == (128, 128)


@pytest.mark.parametrize("setting", [{"stop_at": 3.0}, {"time_limit": 9.0}])
def test_runs_that_end_early_cannot_be_compared(setting: dict[str, float]):
    with pytest.raises(UsageError, match="cannot be compared"):
        space.require_comparable(base(**setting).training)

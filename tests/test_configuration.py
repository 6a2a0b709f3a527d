"""Tables become dataclasses and back without loss; whatever does not fit is refused by name."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pistar import configuration
from pistar.algorithms import ALGORITHMS
from pistar.cli import wording
from pistar.errors import UnknownName, UsageError
from pistar.experiment import CheckpointSettings, EvaluationSettings, Experiment, Training, find_task, read, resolve
from pistar.fields import explanation, field_comments
from pistar.policies import POLICIES
from pistar.schedules import Schedule, constant, linear


@dataclass(frozen=True)
class Nested:
    depth: int = 1  # how far down


@dataclass(frozen=True)
class Sample:
    """One field of each type that settings have."""

    flag: bool = False  # a switch
    count: int = 1  # how many
    ratio: float = 0.5
    # of whom it is
    name: str = "x"
    limit: float | None = None  # none: no limit
    ceiling: float | None = 1.0
    either: int | str = 0
    shape: Literal["round", "square"] = "round"
    sizes: tuple[int, ...] = (64, 64)
    span: tuple[float, float] = (0.0, 1.0)
    rate: Schedule = linear(1.0, 0.0)
    nested: Nested = Nested()
    options: dict[str, Any] = field(default_factory=dict)
    table: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Needy:
    must: int  # nothing can be done without
    may: int = 0


finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | finite | texts,
    lambda x: st.lists(x, max_size=3) | st.dictionaries(texts, x, max_size=3),
    max_leaves=6,
)
schedules = st.builds(Schedule, finite, finite, st.sampled_from(["constant", "linear", "cosine"]))
samples = st.builds(
    Sample,
    flag=st.booleans(),
    count=st.integers(-(2**63), 2**63 - 1),
    ratio=st.floats(allow_nan=False),
    name=texts,
    limit=st.none() | finite,
    ceiling=st.none() | finite,
    either=st.integers(-9, 9) | texts.filter(lambda text: text != "none"),
    shape=st.sampled_from(["round", "square"]),
    sizes=st.lists(st.integers(0, 9), max_size=4).map(tuple),
    span=st.tuples(finite, finite),
    rate=schedules,
    nested=st.builds(Nested, st.integers(0, 9)),
    options=st.dictionaries(texts, plain, max_size=3),
    table=st.dictionaries(texts, finite, max_size=3),
)


# ---- round trips -----------------------------------------------------------------------------------------------------


@given(samples)
def test_every_dataclass_survives_its_own_toml(sample: Sample):
    text = configuration.to_toml({"sample": configuration.to_table(sample)})
    assert configuration.build(Sample, tomllib.loads(text)["sample"], "the test") == sample


@given(plain)
def test_every_plain_value_survives_its_own_toml(value: object):
    read_back = tomllib.loads(f"x = {configuration.toml_value(value)}")["x"]
    assert read_back == value
    assert type(read_back) is type(value)


@given(texts, texts)
def test_keys_and_table_names_may_be_any_text(name: str, key: str):
    assert tomllib.loads(configuration.to_toml({name: {key: 1}})) == {name: {key: 1}}


def test_what_toml_has_no_form_for_is_no_silent_text():
    with pytest.raises(TypeError, match="TOML cannot hold"):
        configuration.toml_value({"a": object()})


@pytest.mark.parametrize("task", ["cartpole", "reacher", "CartPole-v1"])
@pytest.mark.parametrize("algorithm", ["reinforce", "a2c", "ppo"])
def test_a_resolved_experiment_is_complete_and_survives_its_own_toml(task: str, algorithm: str, tmp_path: Path):
    layer = {"algorithm": {"kind": algorithm}, "training": {"stop_at": 12.5}, "policy": {"critic_hidden": [3]}}
    experiment = resolve(find_task(task), (layer, "the test"))
    table = experiment.to_table()
    assert Experiment.from_table(table) == experiment
    (tmp_path / "experiment.toml").write_text(configuration.to_toml({**table, "run": {"command": ["x"]}}))
    assert read(tmp_path / "experiment.toml") == experiment
    assert experiment.evaluation.every is not None
    assert experiment.checkpoints.every is not None
    assert resolve(find_task(task), (table, "itself")) == experiment  # resolving what is resolved changes nothing


# ---- types -----------------------------------------------------------------------------------------------------------

ACCEPTED = [
    ("count", 1e6, 1_000_000),
    ("count", 3.0, 3),
    ("count", np.int64(3), 3),
    ("ratio", 1, 1.0),
    ("ratio", np.float64(0.25), 0.25),
    ("ratio", float("inf"), float("inf")),
    ("limit", "none", None),
    ("limit", None, None),
    ("limit", 2, 2.0),
    ("either", 3, 3),
    ("either", "three", "three"),
    ("sizes", [], ()),
    ("sizes", [1e2, 3], (100, 3)),
    ("span", [0, 1], (0.0, 1.0)),
    ("rate", 0.5, constant(0.5)),
    ("rate", 1, constant(1.0)),
    ("rate", "0.5", constant(0.5)),
    ("rate", "1:0", linear(1.0, 0.0)),
    ("rate", "1:0.5:exponential", Schedule(1.0, 0.5, "exponential")),
    ("rate", {"from": 1, "to": 0}, linear(1.0, 0.0)),
    ("rate", {"from": 1, "to": 0, "shape": "cosine"}, Schedule(1.0, 0.0, "cosine")),
    ("nested", {"depth": 3}, Nested(3)),
    ("nested", Nested(3), Nested(3)),
]


@pytest.mark.parametrize(("name", "value", "expected"), ACCEPTED)
def test_values_are_read_in_their_fields_type(name: str, value: object, expected: object):
    received = getattr(configuration.build(Sample, {name: value}, "x"), name)
    assert received == expected
    assert type(received) is type(expected)


REFUSED = [
    ("flag", 1, "flag in x: expected true or false, received 1 .flag: a switch"),
    ("flag", "true", "expected true or false, received 'true'"),
    ("count", 1.5, "count in x: expected an integer, such as 16 or 1e6, received 1.5 .count: how many"),
    ("count", True, "expected an integer, .* received True"),
    ("count", "3", "expected an integer, .* received '3'"),
    ("count", float("nan"), "expected an integer"),
    ("count", float("inf"), "expected an integer"),
    ("count", None, "expected an integer, .* received None"),
    ("ratio", float("nan"), "expected a number, .* received nan"),
    ("ratio", "half", "expected a number"),
    ("ratio", False, "expected a number"),
    ("ratio", [0.5], "expected a number"),
    ("name", 3, "expected a text in quotes, received 3 .name: of whom it is"),
    ("limit", "much", "expected a number, .* received 'much' .limit: none: no limit"),
    ("either", [1], r"expected int \| str, received \[1\]"),
    ("shape", "sqare", r"expected round \| square, received 'sqare'; did you mean 'square'"),
    ("sizes", 64, "expected list of int, received 64"),
    ("sizes", [64, "x"], "value 2 of sizes in x: expected an integer, .* received 'x'"),
    ("span", [1], "span in x: expected 2 values, received 1"),
    ("span", [1, 2, 3], "expected 2 values, received 3"),
    ("rate", "fast", "rate in x: expected a number, .*from = 3e-4.* received 'fast'"),
    ("rate", "1:2:linear:4", "expected a number, {from"),
    ("rate", {"from": 1}, "expected a number, {from"),
    ("rate", {"from": 1, "to": 2, "shap": 3}, "unknown key in rate in x: 'shap'; did you mean 'shape'"),
    ("rate", {"from": 1, "to": 2, "shape": "line"}, "did you mean 'linear'"),
    ("rate", {"from": "1", "to": 2}, "'from' of rate in x: expected a number"),
    (
        "rate",
        {"from": 1, "to": 0, "shape": "exponential"},
        "rate in x: an exponential schedule needs two positive ends",
    ),
    ("nested", 3, "nested in x: expected nested, received 3|nested in x: expected Nested, received 3"),
    ("nested", {"dept": 3}, "unknown key in nested in x: 'dept'; did you mean 'depth'"),
    ("nested", {"depth": "x"}, "depth in nested in x: expected an integer"),
    ("options", 3, "expected table, received 3"),
    ("options", {"a": object()}, "a of options in x: expected any value, received <object"),
    ("table", {"a": "b"}, "a of table in x: expected a number"),
    ("coutn", 3, r"unknown key in x: 'coutn'; did you mean 'count'\? .known: ceiling, count, either"),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_values_of_another_type_are_refused_with_what_was_expected(name: str, value: object, message: str):
    with pytest.raises(UsageError, match=message) as caught:
        configuration.build(Sample, {name: value}, "x")
    assert caught.value.exit_code == 2


def test_what_has_no_default_must_be_given():
    with pytest.raises(UsageError, match=r"x lacks 'must', which has no default \(must: nothing can be done without"):
        configuration.build(Needy, {"may": 1}, "x")
    assert configuration.check(Needy, {"may": 1}, "x") == {"may": 1}


@pytest.mark.parametrize(
    "cls", [Training, EvaluationSettings, CheckpointSettings]
    + [registry.get(name) for registry in (ALGORITHMS, POLICIES) for name in registry.names()]
)  # fmt: skip
def test_every_setting_says_what_it_means_and_a_misspelt_one_is_recognised(cls: type):
    for name, type_text, default, meaning in wording.describe(cls):
        assert meaning, f"{cls.__name__}.{name} has no comment"
        assert type_text
        assert default
        assert explanation(cls, name) == f" ({name}: {meaning})"
        misspelt = name + "q"
        with pytest.raises(UnknownName) as caught:
            configuration.check(cls, {misspelt: 1}, "x")
        assert caught.value.nearest is not None


def test_comments_are_read_behind_and_above():
    assert field_comments(Sample)["count"] == "how many"
    assert field_comments(Sample)["name"] == "of whom it is"
    assert "ratio" not in {name for name, text in field_comments(Sample).items() if text}


# ---- layers ----------------------------------------------------------------------------------------------------------


def test_later_layers_win_in_depth():
    assert configuration.layer({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}}, {"c": 4}) == {
        "a": {"x": 1, "y": 3},
        "b": 1,
        "c": 4,
    }


def test_a_table_that_changes_its_kind_keeps_nothing_of_the_old_one():
    assert configuration.layer({"kind": "a", "x": 1}, {"kind": "b", "y": 2}) == {"kind": "b", "y": 2}
    assert configuration.layer({"kind": "a", "x": 1}, {"kind": "a", "y": 2}) == {"kind": "a", "x": 1, "y": 2}
    assert configuration.layer({"x": 1}, {"kind": "a"}) == {"x": 1, "kind": "a"}


tables = st.recursive(st.integers(0, 3), lambda x: st.dictionaries(st.sampled_from("abc"), x, max_size=3), max_leaves=8)
layers = st.dictionaries(st.sampled_from("abc"), tables, max_size=3)


@given(layers, layers, layers)
def test_layering_is_associative_and_changes_no_layer(one: dict, two: dict, three: dict):
    before = repr((one, two, three))
    assert configuration.layer(configuration.layer(one, two), three) == configuration.layer(one, two, three)
    assert configuration.layer(one) == one
    assert repr((one, two, three)) == before

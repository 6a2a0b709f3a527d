from __future__ import annotations

import copy
import json
from typing import Any, Literal

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from pistar.errors import ArtefactError, UnsupportedSpace
from pistar.spaces import DEEPEST_NESTING, decode, encode

INFINITY = float("inf")
FLOATS: list[tuple[Any, Literal[16, 32, 64]]] = [(np.float16, 16), (np.float32, 32), (np.float64, 64)]
INTEGERS = (np.int8, np.int32, np.int64, np.uint8)
shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)


@st.composite
def boxes(draw: st.DrawFn) -> spaces.Box:
    shape, (dtype, width) = draw(shapes), draw(st.sampled_from(FLOATS))
    number = st.floats(width=width, allow_nan=False, allow_infinity=True)
    count = int(np.prod(shape))
    pairs = [sorted((draw(number), draw(number))) for _ in range(count)]
    # Infinities of the wrong side would make an empty interval.
    low = np.array([-INFINITY if x == INFINITY else x for x, _ in pairs], dtype).reshape(shape)
    high = np.array([INFINITY if x == -INFINITY else x for _, x in pairs], dtype).reshape(shape)
    return spaces.Box(low, high, dtype=dtype)


@st.composite
def multi_discretes(draw: st.DrawFn) -> spaces.MultiDiscrete:
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple))
    dtype = draw(st.sampled_from((np.int32, np.int64)))
    count = int(np.prod(shape))
    nvec = np.array(draw(st.lists(st.integers(1, 9), min_size=count, max_size=count)), dtype).reshape(shape)
    start = np.array(draw(st.lists(st.integers(-9, 9), min_size=count, max_size=count)), dtype).reshape(shape)
    return spaces.MultiDiscrete(nvec, dtype=dtype, start=start)  # type: ignore[arg-type]


integer_boxes = st.builds(
    lambda low, extent, shape, dtype: spaces.Box(low, low + extent, shape, dtype),
    st.integers(0, 50), st.integers(0, 50), shapes, st.sampled_from(INTEGERS),
)  # fmt: skip
discretes = st.builds(
    lambda n, start, dtype: spaces.Discrete(n, start=start, dtype=dtype),
    st.integers(1, 100), st.integers(-100, 100), st.sampled_from((np.int32, np.int64)),
)  # fmt: skip
binaries = st.builds(
    spaces.MultiBinary, st.one_of(st.integers(1, 5), st.lists(st.integers(1, 4), min_size=1, max_size=3))
)
simple = st.one_of(boxes(), integer_boxes, discretes, multi_discretes(), binaries)
nested = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple),
        st.dictionaries(st.text(max_size=3), inner, min_size=1, max_size=3).map(lambda d: spaces.Dict(list(d.items()))),
    ),
    max_leaves=5,
)


def key_orders(space: spaces.Space[Any]) -> list[Any]:
    """The keys of all dicts in their order, which Dict's own equality ignores."""
    if isinstance(space, spaces.Dict):
        return [list(space.spaces), *(key_orders(child) for child in space.spaces.values())]
    return [key_orders(child) for child in space.spaces] if isinstance(space, spaces.Tuple) else []


@settings(max_examples=150, deadline=None)
@given(nested)
def test_spaces_come_back_exactly_through_strict_json(space: spaces.Space[Any]) -> None:
    text = json.dumps(encode(space), allow_nan=False)
    again = decode(json.loads(text))
    assert again == space
    assert key_orders(again) == key_orders(space)
    assert json.dumps(encode(again), allow_nan=False) == text


def test_equal_spaces_of_different_dtypes_or_signs_stay_different() -> None:
    for one, other in (
        (spaces.Box(0.0, 1.0, (2,), np.float32), spaces.Box(0.0, 1.0, (2,), np.float64)),
        (spaces.Discrete(3), spaces.Discrete(3, start=1)),
        (spaces.MultiBinary(3), spaces.MultiBinary([3])),
        (spaces.Box(-INFINITY, 0.0, (1,)), spaces.Box(0.0, INFINITY, (1,))),
    ):
        assert encode(one) != encode(other)
        assert decode(encode(one)).dtype == one.dtype


@pytest.mark.parametrize("bound", [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0])
def test_bounds_keep_every_bit(bound: float) -> None:
    space = spaces.Box(np.array([bound, -2e308]), np.array([INFINITY, 2e308]), dtype=np.float64)
    again = decode(json.loads(json.dumps(encode(space), allow_nan=False)))
    assert isinstance(again, spaces.Box)
    assert again.low.tobytes() == space.low.tobytes()


def test_zeros_of_both_signs_are_not_taken_for_one_number() -> None:
    space = spaces.Box(np.array([0.0, -0.0]), np.array([1.0, 1.0]), dtype=np.float64)
    again = decode(encode(space))
    assert isinstance(again, spaces.Box)
    assert again.low.tobytes() == space.low.tobytes()


def test_a_dict_keeps_its_order() -> None:
    space = spaces.Dict([("b", spaces.Discrete(2)), ("a", spaces.Discrete(3))])
    again = decode(json.loads(json.dumps(encode(space))))
    assert isinstance(again, spaces.Dict)
    assert list(again.spaces) == ["b", "a"]


def test_uniform_bounds_are_written_once() -> None:
    assert encode(spaces.Box(0, 255, (84, 84, 4), np.uint8))["high"] == 255


class Special(spaces.Discrete):
    pass


@pytest.mark.parametrize(
    "space", [spaces.Text(3), Special(3), spaces.Tuple((spaces.Text(3),)), spaces.Sequence(spaces.Discrete(2))]
)
def test_other_spaces_are_refused_with_what_is_known(space: spaces.Space[Any]) -> None:
    with pytest.raises(UnsupportedSpace, match=r"known: Box, Discrete"):
        encode(space)


BOX = encode(spaces.Box(np.array([0.0, 1.0], np.float32), np.array([2.0, INFINITY], np.float32)))
DICT = encode(spaces.Dict({"a": spaces.Discrete(2)}))


@pytest.mark.parametrize(
    "record",
    [
        None, [], "box", {}, {"kind": 3}, {"kind": "os.system"}, {"kind": ["box"]},
        {**BOX, "extra": 1},
        {key: value for key, value in BOX.items() if key != "low"},
        {**BOX, "dtype": "object"}, {**BOX, "dtype": "float128"}, {**BOX, "dtype": 3},
        {**BOX, "shape": [3]}, {**BOX, "shape": [-2]}, {**BOX, "shape": [2.0]}, {**BOX, "shape": [2**20, 2**20]},
        {**BOX, "shape": 2},
        {**BOX, "low": "nan"}, {**BOX, "low": [float("nan"), 0.0]}, {**BOX, "low": [True, 0.0]}, {**BOX, "low": []},
        {**BOX, "low": 5.0}, {**BOX, "low": [[0.0], [1.0]]}, {**BOX, "low": {"x": 1}},
        {"kind": "discrete", "dtype": "int64", "n": 0, "start": 0},
        {"kind": "discrete", "dtype": "int64", "n": 2.5, "start": 0},
        {"kind": "discrete", "dtype": "int64", "n": True, "start": 0},
        {"kind": "multi-discrete", "dtype": "int8", "shape": [1], "nvec": 1000, "start": 0},
        {"kind": "multi-discrete", "dtype": "int64", "shape": [1], "nvec": -1, "start": 0},
        {"kind": "multi-binary", "shape": [-1], "flat": True},
        {**DICT, "children": [["a", DICT["children"][0][1]]] * 2},
        {**DICT, "children": [[1, DICT["children"][0][1]]]}, {**DICT, "children": [["a"]]}, {**DICT, "children": {}},
        {"kind": "tuple", "children": "ab"}, {"kind": "tuple", "children": [None]},
    ],
)  # fmt: skip
def test_altered_records_are_refused(record: Any) -> None:
    with pytest.raises(ArtefactError, match=r"space"):
        decode(record)


def test_bottomless_nesting_is_refused() -> None:
    record: dict[str, Any] = encode(spaces.Discrete(2))
    for _ in range(DEEPEST_NESTING):
        record = {"kind": "tuple", "children": [record]}
    assert decode(copy.deepcopy(record)) is not None
    with pytest.raises(ArtefactError, match="nested deeper"):
        decode({"kind": "tuple", "children": [record]})

"""What an exported policy takes for an observation, and what it says of all else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from policies_to_export import EVERYTHING, NEAR, NUMBERS, exported, look

from pistar.errors import UsageError
from pistar.export.observations import Encoder
from pistar.export.ports import observation_ports
from pistar.tree import leaves, map_leaves


def encoder(space: spaces.Space[Any]) -> Encoder:
    return Encoder(space, tuple(observation_ports(space)))


def as_json(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: as_json(value) for key, value in tree.items()}
    return [as_json(value) for value in tree] if isinstance(tree, tuple) else tree.tolist()


def test_json_is_as_good_as_arrays() -> None:
    many = look(EVERYTHING, 3, np.random.default_rng(0))
    one = map_leaves(lambda x: x[1], many)
    single, arrays = encoder(EVERYTHING).encode(many)
    assert not single
    _, parsed = encoder(EVERYTHING).encode(json.loads(json.dumps(as_json(many))))
    single, alone = encoder(EVERYTHING).encode(json.loads(json.dumps(as_json(one))))
    assert single
    for name, array in arrays.items():
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, parsed[name])
        np.testing.assert_array_equal(array[1:2], alone[name])
        assert array.dtype == parsed[name].dtype == alone[name].dtype


BIT, CHOICE = spaces.MultiBinary(2), spaces.Discrete(3, start=2)
PIXELS, PARTS = spaces.Box(0, 255, (2, 2), np.uint8), spaces.MultiDiscrete([2, 3])
DICT, PAIR = spaces.Dict({"a": NUMBERS, "b": CHOICE}), spaces.Tuple([NUMBERS, BIT])
WRONG: list[tuple[spaces.Space[Any], Any, str]] = [
    (NUMBERS, [1.0, 2.0], r"observation: expected the shape \[3\] for one or \[N, 3\] for many, received \[2\]"),
    (NUMBERS, [[[1.0, 2.0, 3.0]]], r"received \[1, 1, 3\]"),
    (NUMBERS, np.zeros((0, 3)), r"received \[0, 3\]"),
    (NUMBERS, [], r"received \[0\]"),
    (NUMBERS, 1.0, r"received \[\]"),
    (NUMBERS, [1.0, [2.0], 3.0], "unequal lengths"),
    (NUMBERS, ["a", "b", "c"], "expected numbers .float32., received text"),
    (NUMBERS, [1.0, None, 3.0], "something else"),
    (NUMBERS, {"a": 1}, "something else"),
    (NUMBERS, None, "something else"),
    (NUMBERS, [1.0, 2.0, float("nan")], "NaN or infinity"),
    (NUMBERS, [1.0, 2.0, float("inf")], "NaN or infinity"),
    (NUMBERS, [1.0, 2.0, 1e300], "too large"),
    (NUMBERS, [1, 2, 10**400], "something else"),
    (NUMBERS, [1 + 2j, 0, 0], "complex"),
    (CHOICE, 1, "integers from 2 to 4, received 1"),
    (CHOICE, [2, 5], "received 5"),
    (CHOICE, 2.0, "expected integers .int64., received fractions"),
    (CHOICE, 2**63, "received 9223372036854775808"),
    (BIT, [0, 2], "from 0 to 1, received 2"),
    (PARTS, [0, 3], "received 3"),
    (PARTS, [-1, 0], "received -1"),
    (PIXELS, [[0, 1], [2, 256]], "from 0 to 255, received 256"),
    (PIXELS, [[0, 1], [2, -1]], "received -1"),
    (PIXELS, [[0.5, 1], [2, 3]], "received fractions"),
    (DICT, [1, 2], r"expected an object with the keys \['a', 'b'\], received list"),
    (DICT, {"a": [1, 2, 3]}, r"received \['a'\]"),
    (DICT, {"a": [1, 2, 3], "b": 2, "c": 1}, r"received \['a', 'b', 'c'\]"),
    (DICT, {"a": [1, 2], "b": 2}, r"observation\['a'\]: expected the shape \[3\]"),
    (DICT, {"a": [[1, 2, 3]], "b": 2}, r"observation\['b'\]: expected the shape"),
    (DICT, {"a": [[1, 2, 3]] * 2, "b": [2] * 3}, r"observation\['b'\]: expected 2 rows"),
    (PAIR, [[1, 2, 3]], "expected a list of 2 parts, received 1"),
    (PAIR, {"0": 1}, "expected a list of 2 parts, received dict"),
]


@pytest.mark.parametrize(("space", "observation", "words"), WRONG, ids=str)
def test_what_is_wrong_is_said(space: spaces.Space[Any], observation: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        encoder(space).encode(observation)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "seen"]), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([NUMBERS, CHOICE, BIT, PARTS, PIXELS, DICT, PAIR]), anything)
def test_whatever_comes_is_an_observation_or_an_error_in_words(space: spaces.Space[Any], observation: Any) -> None:
    try:
        _, arrays = encoder(space).encode(observation)
    except UsageError as error:
        words = str(error)
    else:
        words = ""
    if words:
        assert words.startswith("observation")
        return
    ports = {port.name: port for port in observation_ports(space)}
    for name, array in arrays.items():
        assert array.shape[1:] == ports[name].shape
        assert array.dtype == ports[name].dtype
        assert np.isfinite(array).all()


def test_keys_of_any_characters_get_different_names() -> None:
    space = spaces.Dict({"a b": NEAR, "a_b": NEAR, "a": spaces.Dict({"b": NEAR}), "ü/": NEAR, "": NEAR})
    ports = observation_ports(space)
    assert len({port.name for port in ports}) == len(ports) == 5
    assert {port.path for port in ports} == {path for path, _ in leaves(look(space, 1, np.random.default_rng(0)))}


def test_a_policy_refuses_what_its_encoder_refuses() -> None:
    with pytest.raises(UsageError, match="expected the shape"):
        exported("family gaussian")[1].act([1.0, 2.0])

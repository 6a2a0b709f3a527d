"""The parser of command lines: words become typed values, or an error that says what to write instead."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pistar.cli import flags
from pistar.errors import UsageError
from pistar.schedules import Schedule


@dataclass(frozen=True)
class Inner:
    size: int = 1  # of the inner thing
    deep_name: str = "x"


@dataclass(frozen=True)
class Outer:
    count: int = 1  # how many
    rate: Schedule = Schedule(1.0, 0.0)  # how fast
    ratio: float | None = None  # of parts
    sizes: tuple[int, ...] = ()  # of layers
    pair: tuple[float, float] = (0.0, 1.0)
    shape: Literal["round", "square"] = "round"
    on: bool = True
    off: bool = False
    text: str | None = None
    from_: str = ""


@dataclass(frozen=True)
class Kind:
    size: int = 1  # of the kind
    table: dict[str, Any] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


GROUPS = [flags.Group("", "flags", lambda: Outer), flags.Group("ppo", "an algorithm", lambda: Kind)]


def values(line: str) -> dict[str, Any]:
    read = flags.parse(line.split(), GROUPS).values
    return read.get("", {}) | read.get("ppo", {})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--count 3", {"count": 3}),
        ("--count=3", {"count": 3}),
        ("--count 1e6", {"count": 1_000_000}),
        ("--count 1.5e3", {"count": 1500}),
        ("--count -4", {"count": -4}),
        ("--count 123456789012345678901", {"count": 123456789012345678901}),
        ("--rate 0.5", {"rate": Schedule(0.5, 0.5, "constant")}),
        ("--rate 1e-3:0", {"rate": Schedule(1e-3, 0.0, "linear")}),
        ("--rate 1e-3:1e-5:exponential", {"rate": Schedule(1e-3, 1e-5, "exponential")}),
        ("--rate 1:-1:cosine", {"rate": Schedule(1.0, -1.0, "cosine")}),
        ("--rate {from=1e-3,to=0}", {"rate": Schedule(1e-3, 0.0, "linear")}),
        ("--ratio none", {"ratio": None}),
        ("--ratio -.5", {"ratio": -0.5}),
        ("--ratio 1", {"ratio": 1.0}),
        ("--ratio inf", {"ratio": float("inf")}),
        ("--ratio -inf", {"ratio": float("-inf")}),
        ("--sizes 64 32", {"sizes": (64, 32)}),
        ("--sizes 64,32", {"sizes": (64, 32)}),
        ("--sizes [64,32]", {"sizes": (64, 32)}),
        ("--sizes []", {"sizes": ()}),
        ("--sizes 1e2 --count 2", {"sizes": (100,), "count": 2}),
        ("--pair -1 2.5", {"pair": (-1.0, 2.5)}),
        ("--shape square", {"shape": "square"}),
        ("--on", {"on": True}),
        ("--on false", {"on": False}),
        ("--no-on", {"on": False}),
        ("--off", {"off": True}),
        ("--off=true", {"off": True}),
        ("--text a=b", {"text": "a=b"}),
        ("--text=--count", {"text": "--count"}),
        ("--text 7", {"text": "7"}),
        ("--ppo.table {a=1,b={c=[2]}}", {"table": {"a": 1, "b": {"c": [2]}}}),
        ("--ppo.table.a 1 --ppo.table.b x", {"table": {"a": 1, "b": "x"}}),
        ("--ppo.inner.size 3 --ppo.inner.deep-name y", {"inner": {"size": 3, "deep_name": "y"}}),
        ("--from here", {"from_": "here"}),
    ],
)
def test_words_become_values_of_the_fields_type(line, expected):
    received = values(line)
    assert received == expected
    assert [type(value) for value in received.values()] == [type(value) for value in expected.values()]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--cuont 3", r"unknown flag --cuont; did you mean --count\?"),
        ("--size 3", r"unknown flag --size; did you mean --ppo\.size\?"),
        ("--ppo.siez 3", r"unknown flag --ppo\.siez; did you mean --ppo\.size\?"),
        ("--pppo.size 3", r"did you mean --ppo\.size\?"),
        ("-count 3", r"unknown flag -count; did you mean --count\?"),
        ("--coun 3", "unknown flag --coun"),  # no abbreviations
        ("--no-count", "unknown flag --no-count"),
        ("--count 3 --count 4", "--count is given twice"),
        ("--ppo.table.a 1 --ppo.table {b=2}", r"--ppo\.table is given twice"),
        ("--on --no-on", "--no-on is given twice"),
        ("--count", "--count needs a value: an integer, such as 16 or 1e6 .*how many"),
        ("--count --on", "--count needs a value"),
        ("--count 1.5", r"--count: expected an integer, .* received 1\.5 .*how many"),
        ("--count many", "--count: expected an integer, .* received 'many'"),
        ("--count nan", "--count: expected an integer"),
        ("--count inf", "--count: expected an integer"),
        ("--ratio nan", "--ratio: expected a number"),
        ("--rate fast", "--rate: expected a number, .* received 'fast'"),
        ("--rate 1:2:3:4", "--rate: expected a number"),
        ("--rate 1:0:exponential", "two positive ends, received 1.0 and 0.0"),
        ("--rate 1:0:cosin", "did you mean 'cosine'"),
        ("--rate {from=1,too=2}", "--rate: expected a number"),
        ("--rate {from=1,to=2,shap=3}", "unknown key .* 'shap'; did you mean 'shape'"),
        ("--sizes 64 x", "value 2 of --sizes: expected an integer, .* received 'x'"),
        ("--pair 1", "--pair: expected 2 values, received 1"),
        ("--pair 1 2 3", "--pair: expected 2 values, received 3"),
        ("--shape sqare", "expected round | square, received 'sqare'; did you mean 'square'"),
        ("--on=perhaps", "--on: expected true or false, received 'perhaps'"),
        ("--ppo.table 3", r"--ppo\.table: expected table, received 3"),
        ("--ppo.inner.nothing 3", r"unknown flag --ppo\.inner.nothing"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_could(line, message):
    with pytest.raises(UsageError, match=message):
        values(line)


def test_words_that_no_flag_takes_are_arguments_wherever_they_stand():
    for line in ("here --count 3 --off", "--count 3 here --off", "--count 3 --off here", "--off --count 3 here"):
        assert flags.parse(line.split(), GROUPS).words == ["here"]
    assert flags.parse(["-7", "--off", "true", "x"], GROUPS).words == [
        "-7",
        "x",
    ]  # a number is no flag; a switch eats true
    with pytest.raises(UsageError, match="expected one argument, received 2: a b\nthe usage"):
        flags.parse(["a", "b"], GROUPS).only_word("\nthe usage\nmore")
    with pytest.raises(UsageError, match="expected one argument, received none"):
        flags.parse([], GROUPS).only_word("the usage")


def test_a_group_keeps_its_values_apart():
    read = flags.parse(["--ppo.size", "3", "--count", "4"], GROUPS).values
    assert read == {"ppo": {"size": 3}, "": {"count": 4}}


@given(st.floats(allow_nan=False))
def test_every_number_survives_its_own_text(number):
    assert values(f"--ratio={number!r}") == {"ratio": number}


@given(st.integers())
def test_every_integer_survives_its_own_text(number):
    assert values(f"--count {number}") == {"count": number}


def test_help_names_every_flag_with_its_type_meaning_and_default():
    text = flags.help_text("usage: x", GROUPS)
    assert "--count int" in text
    assert "how many [1]" in text
    assert "--rate schedule" in text
    assert "[1:0]" in text
    assert "--[no-]on" in text
    assert "--off\n" in text
    assert "--from str" in text
    assert "--ppo.size int" in text
    assert "--shape round | square" in text
    assert text.count("of the kind [1]") == 1

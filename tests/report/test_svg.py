"""Charts: points where they belong, ticks that are round, nothing outside, and text that cannot become markup."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pistar.report.svg import Line, Reference, chart, ticks

SVG = "{http://www.w3.org/2000/svg}"


def parsed(*lines: Line, **options: object) -> ElementTree.Element:
    settings = {"size": (400, 300), "description": "d", "limits": (0.0, 10.0), **options}
    text = chart(lines, **settings)  # type: ignore[arg-type]
    return ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def points(path: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.attrib["d"])]


def test_a_straight_line_is_straight_and_rises_upwards():
    x = np.linspace(0, 100, 11)
    (path,) = [each for each in parsed(Line(3, x, x / 10)).iter(f"{SVG}path") if each.attrib["class"] == "line s3"]
    found = np.array(points(path))
    np.testing.assert_allclose(np.diff(found, 2, axis=0), 0, atol=0.2)
    assert found[-1, 0] > found[0, 0]
    assert found[-1, 1] < found[0, 1]


def test_what_is_not_known_is_a_gap():
    y = np.array([1.0, 2.0, np.nan, 4.0, 5.0])
    path = next(each for each in parsed(Line(0, np.arange(5.0), y)).iter(f"{SVG}path"))
    assert path.attrib["d"].count("M") == 2
    assert len(points(path)) == 4


def test_long_lines_are_thinned_to_their_ends():
    x = np.arange(10_000.0)
    path = next(each for each in parsed(Line(0, x, x / 1000), x_limits=(0.0, 9999.0)).iter(f"{SVG}path"))
    found = points(path)
    assert len(found) < 300
    assert found[-1][0] == pytest.approx(390, abs=0.1)


def test_a_band_goes_there_and_back():
    x = np.arange(4.0)
    drawn = parsed(Line(1, x, x, x - 1, x + 1))
    (band,) = [each for each in drawn.iter(f"{SVG}path") if each.attrib["class"] == "band s1"]
    assert len(points(band)) == 8


def test_names_are_escaped_and_far_references_are_arrows():
    lines = [Line(0, np.arange(3.0), np.arange(3.0))]
    references = [Reference("<b>&", 2.0), Reference("far", 1e6)]
    text = chart(lines, references, size=(400, 300), description='"<x', limits=(0.0, 3.0), margin=120)
    assert "&lt;b&gt;&amp;" in text
    assert "<b>" not in text
    assert 'aria-label="&quot;&lt;x"' in text
    assert "↑ far 1M" in text
    assert text.count('class="reference"') == 1


def test_labels_do_not_lie_on_each_other():
    references = [Reference(f"r{n}", 5.0 + 0.01 * n) for n in range(5)]
    text = chart(
        [Line(0, np.arange(3.0), np.arange(3.0))],
        references,
        size=(400, 300),
        description="d",
        limits=(0.0, 10.0),
        margin=99,
    )
    places = sorted(float(y) for y in re.findall(r'class="name" x="[\d.]+" y="([\d.]+)"', text))
    assert min(np.diff(places)) >= 14


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_are_round_few_and_within(low: float, width: float, wanted: int):
    found = ticks(low, low + width, wanted)
    slack = 1e-6 * width + 1e-11 * abs(low)
    assert all(low - slack <= value <= low + width + slack for value in found)
    assert len(found) <= 2 * wanted + 2
    assert ticks(1.0, 1.0, 3) == ticks(float("nan"), 1.0, 3) == []
    assert ticks(0.0, 4e-13, 4) == [0.0, 1e-13, 2e-13, 3e-13, 4e-13]
    assert ticks(0.0, 100.0, 5) in ([0, 25, 50, 75, 100], [0, 20, 40, 60, 80, 100])

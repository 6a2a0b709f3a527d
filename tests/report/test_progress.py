"""What people see while a run runs."""

import io
import math

import pytest

from pistar.report.numerals import duration, short, typeset
from pistar.report.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError("the reader has gone")


class BrokenTerminal(Broken, Terminal):
    pass


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(stream: io.StringIO, **options: object) -> tuple[Progress, Clock]:
    clock = Clock()
    return Progress(1000, stream=stream, clock=clock, **options), clock  # type: ignore[arg-type]


def test_a_log_gets_whole_plain_lines_now_and_then_and_the_last_state():
    progress, clock = shown(stream := io.StringIO())
    for iteration in range(1, 11):
        clock.now = 3.0 * iteration
        progress.write({"iteration": iteration, "steps": 100 * iteration, "return": float(iteration)})
    progress.close()
    progress.close()
    assert stream.getvalue().splitlines() == [
        " 10 %  100 of 1000 steps  return 1  33.33 steps/s  0:27 left",
        " 50 %  500 of 1000 steps  return 5  33.33 steps/s  0:15 left",
        " 90 %  900 of 1000 steps  return 9  33.33 steps/s  0:03 left",
        "100 %  1000 of 1000 steps  return 10  33.33 steps/s  0:00 left",
    ]


def test_a_terminal_gets_a_bar_that_redraws_itself():
    progress, clock = shown(stream := Terminal())
    for steps in (500, 1000):
        clock.now += 2.0
        progress.write({"steps": steps, "return": 12.5})
        progress.flush()
    progress.say("a message")
    progress.close()
    text = stream.getvalue()
    assert "\r" in text
    assert "100 %" in text
    assert "return 12.5  250 steps/s  0:02 left" in text
    assert "a message\n" in text


def test_quiet_shows_nothing():
    for stream in (io.StringIO(), Terminal()):
        progress, _ = shown(stream, quiet=True)
        progress.write({"steps": 100, "return": 1.0})
        progress.say("message")
        progress.flush()
        progress.close()
        assert stream.getvalue() == ""


def test_a_resumed_run_counts_its_speed_from_where_it_resumed():
    progress, clock = shown(io.StringIO(), done=600)
    clock.now = 10.0
    progress.write({"steps": 700, "return": None})
    assert progress.line() == "700 of 1000 steps  10 steps/s  0:30 left"


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_the_last_known_return_stays(unknown):
    progress, _ = shown(io.StringIO())
    progress.write({"steps": 100, "return": 7.0})
    progress.write({"steps": 200, "return": unknown})
    assert "return 7" in progress.line()


@pytest.mark.parametrize("stream", [Broken(), BrokenTerminal()])
def test_a_display_that_breaks_never_ends_a_run(stream):
    progress, clock = shown(stream)
    for steps in (100, 200):
        clock.now += 20
        progress.write({"steps": steps, "return": 1.0})
    progress.say("message")
    progress.flush()
    progress.close()
    stream.close()


def test_numbers_are_short_and_times_are_clear():
    numbers = {0: "0", 1.5: "1.5", -3.14159: "-3.142", 1234: "1234", 12345: "12.3k", 999_999: "1M", 1.23e6: "1.23M"}
    numbers |= {2.5e9: "2.5G", 7e15: "7.00e+15", 1e-7: "1e-07", -20_480: "-20.5k"}
    assert {number: short(number) for number in numbers} == numbers
    assert typeset(-20_480) == "−20.5k"
    assert [duration(s) for s in (0.4, 65, 3723)] == ["0:00", "1:05", "1:02:03"]

"""Every second of a run is told once, under the kind of work that it went into."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import pistar
from pistar.report import jsonl
from pistar.report.profile import KINDS, Profile


class Clock:
    """Stands still but for what the work takes."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def works(self, seconds: float) -> None:
        self.now += seconds


def test_what_is_within_another_counts_once() -> None:
    clock = Clock()
    profile = Profile(clock)
    world = SimpleNamespace(step=lambda: clock.works(2.0))
    actor = SimpleNamespace(collect=lambda: (clock.works(1.0), world.step(), clock.works(0.5), world.step()))
    judge = SimpleNamespace(judge=lambda: (world.step(), clock.works(3.0)))
    profile.around(world, "step", "environment")
    profile.around(actor, "collect", "acting")
    profile.around(judge, "judge", "evaluating", whole=True)
    actor.collect()
    judge.judge()
    world.step()
    clock.works(0.25)
    found = profile.so_far()
    assert found["environment"] == 6.0
    assert found["acting"] == 1.5
    assert found["evaluating"] == 5.0
    assert found["other"] == 0.25
    assert sum(found.values()) == clock.now
    assert [row[0] for row in profile.table()][:3] == ["environment", "evaluating", "acting"]


def test_a_call_that_raises_is_clocked_and_leaves_no_trace() -> None:
    clock = Clock()
    profile = Profile(clock)

    def fails() -> None:
        clock.works(1.0)
        raise ValueError

    owner = SimpleNamespace(judge=fails)
    profile.around(owner, "judge", "evaluating", whole=True)
    for _ in range(2):
        with pytest.raises(ValueError):
            owner.judge()
    assert profile.so_far()["evaluating"] == 2.0


def test_a_run_tells_where_its_time_went_and_learns_the_same(tmp_path: Path) -> None:
    settings = {"steps": 256, "lanes": 2, "horizon": 32, "warm_up": 16, "quiet": True}
    settings |= {"evaluation": {"episodes": 2, "every": 128, "final_episodes": 2}}
    whole = [pistar.train("CartPole-v1", out=tmp_path / str(p), profile=p, **settings) for p in (False, True)]
    assert whole[0].profile is None
    assert whole[1].profile is not None
    records = [list(jsonl.read(path.directory / "metrics.jsonl")) for path in whole]
    times = [record.pop("time") for record in records[1]]
    for record in records[0]:
        record.pop("time")
    assert records[0] == records[1]
    assert all(set(time["profile"]) == set(KINDS) for time in times)
    assert all(seconds > 0 for seconds in whole[1].profile.so_far().values())

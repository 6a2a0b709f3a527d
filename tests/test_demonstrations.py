"""Episodes come back from files as they were, whoever wrote them; what is not an episode of the task is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from pistar import demonstrations
from pistar.demonstrations import Episode
from pistar.envs.environment import Spaces
from pistar.errors import UsageError
from pistar.tree import leaves, map_leaves

MIXED = Spaces(
    spaces.Dict(
        {"camera": spaces.Box(0, 255, (4, 4), np.uint8), "joints": spaces.Tuple([spaces.Box(-2, 2, (3,))] * 2)}
    ),
    spaces.Dict({"gear": spaces.Discrete(3, start=-1), "pedal": spaces.Box(-1.0, 1.0, (2,), np.float32)}),
)
PLAIN = Spaces(spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Box(-1.0, 1.0, (1,), np.float32))


def episode(space: Spaces, length: int, seed: int = 0, terminated: bool = True) -> Episode:
    space.observation.seed(seed)
    space.action.seed(seed)

    def many(one: Any, count: int) -> Any:
        return map_leaves(lambda *x: np.stack(x), *[one.sample() for _ in range(count)])

    reward = np.random.default_rng(seed).normal(size=length).astype(np.float32)
    return Episode(many(space.observation, length + 1), many(space.action, length), reward, terminated)


def test_episodes_come_back_as_they_were(tmp_path: Path):
    written = [episode(MIXED, 5, 1), episode(MIXED, 1, 2, terminated=False)]
    assert demonstrations.write(tmp_path / "demos", written, MIXED, {"by": "hand"}) == 2
    again = demonstrations.read(tmp_path / "demos", MIXED)
    for one, other in zip(written, again, strict=True):
        assert one.terminated == other.terminated
        for what in ("observation", "action", "reward"):
            mine, theirs = (list(leaves(getattr(each, what))) for each in (one, other))
            for (path, x), (same, y) in zip(mine, theirs, strict=True):
                assert path == same
                assert np.array_equal(x, y)
                assert x.dtype == y.dtype
    assert demonstrations.digest(written) == demonstrations.digest(again)
    assert demonstrations.about(tmp_path / "demos")["provenance"] == {"by": "hand"}


def test_the_digest_sees_every_number():
    base = episode(PLAIN, 3)
    assert demonstrations.digest([base]) != demonstrations.digest([episode(PLAIN, 3, 1)])
    changed = Episode(base.observation, base.action, base.reward, not base.terminated)
    assert demonstrations.digest([base]) != demonstrations.digest([changed])


def test_files_of_plain_numpy_need_nothing_else(tmp_path: Path):
    names = {"observation": np.zeros((4, 2)), "action": np.zeros((3, 1)), "reward": np.ones(3), "terminated": True}
    np.savez(tmp_path / "mine.npz", **names)
    (found,) = demonstrations.read(tmp_path, PLAIN)
    assert len(found) == 3
    assert found.terminated


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no action": ({"action": None}, "lacks the array 'action'"),
    "a last observation that is missing": ({"observation": np.zeros((3, 2))}, "4 entries are expected"),
    "another shape": ({"observation": np.zeros((4, 3))}, "do not fit"),
    "a NaN": ({"observation": np.full((4, 2), np.nan)}, "finite numbers"),
    "an action outside": ({"action": np.full((3, 1), 1.5)}, r"step 0 is \[1.5\], outside"),
    "an infinite reward": ({"reward": np.full(3, np.inf)}, "finite number"),
    "objects": ({"reward": np.array([{}, {}, {}], dtype=object)}, "plain NumPy"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_episode_is_refused_with_the_name_of_its_file(name: str, tmp_path: Path):
    change, message = BROKEN[name]
    arrays = {"observation": np.zeros((4, 2)), "action": np.zeros((3, 1)), "reward": np.ones(3), "terminated": True}
    arrays = {key: value for key, value in {**arrays, **change}.items() if value is not None}
    np.savez(tmp_path / "bad.npz", allow_pickle=True, **arrays)
    with pytest.raises(UsageError, match=message) as caught:
        demonstrations.read(tmp_path, PLAIN)
    assert "bad.npz" in str(caught.value)


def test_discrete_actions_are_checked_too(tmp_path: Path):
    wrong = episode(MIXED, 3)
    wrong.action["gear"][1] = 2
    with pytest.raises(UsageError, match="action/gear of step 1 is 2"):
        demonstrations.write(tmp_path / "demos", [wrong], MIXED)


def test_nothing_is_written_over_and_nothing_is_not_a_set_of_episodes(tmp_path: Path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match="left as it is"):
        demonstrations.write(tmp_path, [episode(PLAIN, 2)])
    with pytest.raises(UsageError, match="holds no episodes"):
        demonstrations.read(tmp_path, PLAIN)
    with pytest.raises(UsageError, match="at least one"):
        demonstrations.write(tmp_path / "none", [])


def test_the_description_is_json_that_people_can_read(tmp_path: Path):
    demonstrations.write(tmp_path / "demos", [episode(MIXED, 2)], MIXED)
    about = json.loads((tmp_path / "demos" / "demonstrations.json").read_text())
    assert about["format"] == "pistar-demonstrations"
    assert about["episodes"] == 1
    assert about["action_space"]["kind"] == "dict"

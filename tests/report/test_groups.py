"""Runs find their groups by what differs, get a name that tells them apart, and are refused where they cannot be compared."""

from pathlib import Path
from typing import Any

import pytest
from written import write_run

from pistar.errors import UsageError
from pistar.report import finished
from pistar.report.groups import grouped, require_comparable, require_finished, words


def named(*paths: Path) -> list[Any]:
    return finished.read_all(map(str, paths))


def labels(runs: list[Any], *given: str) -> list[str]:
    return [group.label for group in grouped(runs, given)]


@pytest.fixture
def runs(tmp_path: Path) -> list[Any]:
    """Three seeds of ppo, three of a2c, two of ppo with another clip; in this order."""
    for seed in range(3):
        write_run(tmp_path / "ppo" / f"seed-{seed}", seed=seed, tables={"training": {"threads": 1 + seed}})
        write_run(tmp_path / "a2c" / f"seed-{seed}", seed=seed, tables={"algorithm": {"kind": "a2c"}})
    for seed in range(2):
        write_run(tmp_path / "clip" / f"seed-{seed}", seed=seed, tables={"algorithm": {"kind": "ppo", "clip": 0.05}})
    return named(tmp_path / "ppo", tmp_path / "a2c", tmp_path / "clip")


def test_seeds_are_repetitions_and_threads_do_not_matter(runs: list[Any]):
    groups = grouped(runs)
    assert [(group.label, group.seeds) for group in groups] == [
        ("ppo, clip 0.2", [0, 1, 2]),
        ("a2c", [0, 1, 2]),
        ("ppo, clip 0.05", [0, 1]),
    ]
    assert groups[2].differs["algorithm.clip"] == "0.05"
    assert groups[1].differs["algorithm.clip"] == "–"
    assert not {"training.seed", "training.threads"} & set(groups[0].differs)


def test_a_label_is_as_short_as_it_can_be(runs: list[Any], tmp_path: Path):
    assert labels(runs[:6]) == ["ppo", "a2c"]
    assert labels(runs[:3]) == ["ppo"]
    assert labels([*runs[:3], *runs[6:]]) == ["clip 0.2", "clip 0.05"]
    both = {"training": {"lanes": 32, "horizon": 16}}
    other = named(write_run(tmp_path / "both", tables=both))
    assert labels([*runs[:3], *other]) in (["horizon 128", "horizon 16"], ["lanes 8", "lanes 32"])


def test_a_value_that_is_none_and_one_that_an_older_run_left_out_are_the_same(tmp_path: Path):
    one, other = (write_run(tmp_path / f"seed-{seed}", seed=seed) for seed in range(2))
    kept = (other / "experiment.toml").read_text().splitlines()
    older = [line for line in kept if not line.endswith('= "none"')]
    assert len(older) < len(kept)
    (other / "experiment.toml").write_text("\n".join(older))
    assert labels(named(one, other)) == ["ppo"]


def test_a_group_that_turned_something_off_is_called_by_that(tmp_path: Path):
    stops = {"algorithm": {"kind": "ppo", "max_kl": 0.03}}
    one, other = write_run(tmp_path / "stops", tables=stops), write_run(tmp_path / "goes-on")
    assert labels(named(one, other)) == ["max kl 0.03", "max kl none"]


def test_settings_that_differ_in_a_late_digit_are_not_one_group(tmp_path: Path):
    paths = [write_run(tmp_path / str(n), tables={"training": {"steps": 1_000_000 + n}}) for n in range(2)]
    assert len(grouped(named(*paths))) == 2


def test_names_are_given_to_groups_or_to_arguments(runs: list[Any]):
    assert labels(runs, "a", "b", "c") == ["a", "b", "c"]
    groups = grouped(runs, ("old", "other", "old-too"))
    assert [group.label for group in groups] == ["old", "other", "old-too"]
    with pytest.raises(UsageError, match=r"expected 3 names.*ppo, clip 0.2; a2c; ppo, clip 0.05.*received 2: a b"):
        grouped(runs, ("a", "b"))


def test_arguments_with_one_name_are_one_group(tmp_path: Path):
    paths = [write_run(tmp_path / str(n), seed=n, tables={"training": {"lanes": 2 + n}}) for n in range(3)]
    groups = grouped(named(*paths), ("few", "few", "many"))
    assert [(group.label, group.seeds) for group in groups] == [("few", [0, 1]), ("many", [2])]
    assert groups[0].differs["training.lanes"] == "2 / 3"


def test_the_same_run_does_not_count_twice(tmp_path: Path):
    first, second = (write_run(tmp_path / name, seed=4) for name in "ab")
    with pytest.raises(UsageError, match="are both 'ppo' with seed 4"):
        grouped(named(first, second))
    assert labels(named(first, second), "old code", "new code") == ["old code", "new code"]
    with pytest.raises(UsageError, match="is named twice"):
        named(first, first)


def test_other_tasks_and_protocols_are_refused_with_what_differs(tmp_path: Path):
    base = write_run(tmp_path / "base")
    arm = write_run(tmp_path / "arm", task="arm-reach")
    with pytest.raises(UsageError, match=r"different tasks(.|\n)*task.kind: cartpole and arm-reach"):
        require_comparable([run for _, run in named(base, arm)])
    noisy = write_run(tmp_path / "noisy", tables={"task": {"observation_noise": 0.1}})
    with pytest.raises(UsageError, match=r"task.observation_noise: 0 and 0.1"):
        require_comparable([run for _, run in named(base, noisy)])
    sampled = write_run(tmp_path / "sampled", tables={"evaluation": {"deterministic": False, "final_episodes": 7}})
    with pytest.raises(
        UsageError, match=r"protocols(.|\n)*deterministic: on and off(.|\n)*final_episodes|final_episodes"
    ):
        require_comparable([run for _, run in named(base, sampled)])
    often = write_run(tmp_path / "often", tables={"evaluation": {"every": 10}})
    require_comparable([run for _, run in named(base, often)])  # when it is judged is no part of how


def test_a_run_that_has_not_ended_is_refused(tmp_path: Path):
    run = finished.read(write_run(tmp_path / "run", final=None))
    with pytest.raises(UsageError, match=r"4,000 of 4000 steps.*no final evaluation.*pistar resume"):
        require_finished([run])


def test_values_that_differ_never_read_alike():
    values = [1, 1.5, 0.1, 0.1000001, 1_000_000, 1_000_001, True, False, None, "x", {"from": 1.0, "to": 0.0}]
    values += [{"from": 1.0, "to": 0.0, "shape": "cosine"}, [64, 64], [], 3e-4, 1e-8]
    assert len({words(value) for value in values}) == len(values)
    assert words({"from": 3e-4, "to": 0.0, "shape": "linear"}) == "0.0003 → 0"

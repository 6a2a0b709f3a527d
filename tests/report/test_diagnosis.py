"""Runs made sick on purpose are found to be, each with its illness by name; healthy ones are left in peace."""

from pathlib import Path
from typing import Any

import pytest
from written import write_run

import pistar
from pistar.report import finished
from pistar.report.diagnosis import RULES, diagnose

SMALL = {"lanes": 8, "horizon": 64, "quiet": True, "evaluation": {"episodes": 10, "final_episodes": 20}}


def trained(tmp_path: Path, task: str, **settings: Any) -> dict[str, Any]:
    """Key -> finding of a run with these settings."""
    path = tmp_path / "run"
    pistar.train(task, out=path, **{**SMALL, **settings})
    return {finding.key: finding for finding in diagnose(finished.read(path))}


# ---- sick runs -------------------------------------------------------------------------------------------------------


def test_entropy_that_collapses(tmp_path: Path):
    found = trained(tmp_path, "sick_worlds:Blind", steps=8000, learning_rate=1e-2, ppo={"entropy_weight": -1.0})
    assert found["entropy"].level == "ill"
    assert "Entropy fell from 0.6" in found["entropy"].what


def test_entropy_of_a_gaussian_that_collapses(tmp_path: Path):
    found = trained(
        tmp_path,
        "pendulum",
        steps=12000,
        lanes=16,
        horizon=128,
        learning_rate=3e-3,
        ppo={"entropy_weight": -1.0, "max_kl": None},
    )
    assert found["entropy"].level == "ill"


def test_updates_that_are_too_large(tmp_path: Path):
    found = trained(tmp_path, "arm-reach", steps=8000, lanes=16, horizon=128, learning_rate=0.02, ppo={"minibatch": 64})
    assert found["kl"].level == "ill"


def test_a_critic_that_is_not_trained(tmp_path: Path):
    found = trained(tmp_path, "cartpole", steps=6000, ppo={"value_weight": 0.0})
    assert found["value"].level == "ill"
    assert "gradient is exactly 0" in found["value"].what


def test_a_critic_that_cannot_know_and_an_observation_that_is_broken(tmp_path: Path):
    found = trained(tmp_path, "sick_worlds:Blind", steps=8000)
    assert found["value"].level == "ill"
    assert "explains" in found["value"].what
    assert "entry 2 (always 0.25) had" in found["still"].what
    assert "random" in found


def test_actions_at_their_bounds(tmp_path: Path):
    found = trained(
        tmp_path, "pendulum", steps=8000, lanes=16, horizon=128, learning_rate=1e-2, ppo={"entropy_weight": 0.3}
    )
    assert "bounds" in found


def test_an_evaluation_that_is_worse_than_training(tmp_path: Path):
    found = trained(tmp_path, "sick_worlds:Changing", steps=8000, ppo={"entropy_weight": 0.05})
    assert found["disagree"].level == "ill"
    assert "entries 0 (always 0), 1 (always 0), 2 (always 0)" in found["still"].what


def test_a_policy_that_learns_with_other_noise_than_it_acted(tmp_path: Path):
    found = trained(tmp_path, "cartpole", steps=2000, policy="sick_worlds:Dropping")
    assert found["ratio"].level == "ill"


def test_a_policy_that_was_better_before(tmp_path: Path):
    # It learns first; later steps are hundreds of times too long, with no clip to hold them, whatever the seed.
    found = trained(tmp_path, "cartpole", steps=30000, learning_rate="1e-3:0.3", ppo={"clip": 10.0})
    assert "fell" in found
    assert "rising" not in found


# ---- healthy runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "steps", "lanes"), [("cartpole", 40_000, 8), ("pendulum", 20_000, 16)])
def test_a_healthy_run_has_no_illness(tmp_path: Path, task: str, steps: int, lanes: int):
    found = trained(tmp_path, task, steps=steps, lanes=lanes, horizon=128)
    assert {key: each.what for key, each in found.items() if each.level != "note"} == {}


# ---- rules on records ------------------------------------------------------------------------------------------------


def keys(path: Path) -> dict[str, str]:
    return {finding.key: finding.level for finding in diagnose(finished.read(path))}


def test_what_was_not_recorded_is_not_judged(tmp_path: Path):
    assert keys(write_run(tmp_path / "run", metrics={"return": [None] * 40})) == {}  # type: ignore[list-item]
    assert keys(write_run(tmp_path / "empty", means=(), final=None, metrics={"return": []})) == {}


def test_every_rule_is_met_by_its_limit_and_not_before(tmp_path: Path):
    def with_metrics(name: str, **metrics: Any) -> set[str]:
        return set(keys(write_run(tmp_path / name, metrics=metrics)))

    assert with_metrics("kl-low", **{"update/kl": [0.049] * 40}) == set()
    assert with_metrics("kl-high", **{"update/kl": [0.051] * 40}) == {"kl"}
    assert with_metrics("kl-once", **{"update/kl": [0.01] * 30 + [5.0] + [0.01] * 9}) == set()
    assert with_metrics("ratio-rounding", **{"update/first_ratio_error": [9e-4] * 40}) == set()
    assert with_metrics("ratio", **{"update/first_ratio_error": [0.0] * 39 + [2e-3]}) == {"ratio"}
    assert with_metrics("bounds-low", **{"action/at_bounds": [0.49] * 40}) == set()
    assert with_metrics("bounds", **{"action/at_bounds": [0.1] * 20 + [0.51] * 20}) == {"bounds"}
    assert with_metrics("bounds-part", **{"action/pedal/at_bounds": [0.51] * 40}) == {"bounds"}
    solved = {"update/explained_variance": [-5.0] * 40, "update/value_error": [1.0] * 4 + [0.001] * 36}
    assert with_metrics("solved", **solved) == set()
    dead = {"update/explained_variance": [0.0] * 40, "update/value_error": [1.0] * 40}
    assert with_metrics("dead", **dead) == {"value"}


def test_large_steps_that_were_asked_for_and_ratios_of_a_lag_are_no_illness(tmp_path: Path):
    asked = {"algorithm": {"kind": "ppo", "max_kl": 0.1}, "training": {"lag": 1}}
    metrics = {"update/kl": [0.2] * 40, "update/first_ratio_error": [0.1] * 40}
    assert keys(write_run(tmp_path / "run", tables=asked, metrics=metrics)) == {}
    falling = {"algorithm": {"kind": "trpo", "max_kl": {"from": 0.1, "to": 0.001}}}
    assert keys(write_run(tmp_path / "falling", tables=falling, metrics={"update/kl": [0.09] * 40})) == {}


def test_an_entry_that_has_another_value_in_another_rollout_varies(tmp_path: Path):
    looks = [{"0": 1.0, "3": 0.0}] * 20 + [{"0": 2.0, "3": 0.0, "5": 1.0}] * 20
    run = finished.read(write_run(tmp_path / "run", metrics={"observation/unvarying": looks}))  # type: ignore[dict-item]
    (found,) = diagnose(run)
    assert "entry 3 (always 0) had" in found.what
    once = finished.read(write_run(tmp_path / "once", metrics={"observation/unvarying": looks[:1]}))  # type: ignore[dict-item]
    assert diagnose(once) == []


def test_baselines_and_falls_are_judged_by_their_intervals(tmp_path: Path):
    def run(name: str, low: float, high: float, baseline: str, **more: Any) -> dict[str, str]:
        table = {baseline: {"mean": 1.0, "difference": (low + high) / 2, "interval": [low, high]}}
        return keys(write_run(tmp_path / name, baselines=table, **more))

    assert run("a", 0.1, 2.0, "random") == {}
    assert run("b", -0.1, 2.0, "random") == {"random": "ill"}
    assert run("c", -3.0, -0.1, "PD controller") == {"baseline": "warning"}
    assert run("d", -3.0, 0.1, "PD controller") == {}
    assert "fell" in run("e", 1.0, 2.0, "random", means=(10.0, 60.0, 50.0, 40.0))


def test_a_policy_that_made_up_its_mind_may_have_learned_all_there_is(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(finished.Finished, "action_space", {"kind": "discrete", "n": 2})

    def run(
        name: str, returns: list[float], baseline: str = "random", low: float = 0.1, high: float = 2.0
    ) -> dict[str, str]:
        table = {baseline: {"mean": 1.0, "difference": (low + high) / 2, "interval": [low, high]}}
        metrics = {"update/entropy": [0.69] * 10 + [0.01] * 30, "return": returns}
        return keys(write_run(tmp_path / name, baselines=table, means=(), metrics=metrics))

    learned = [4.0 * min(k, 10) for k in range(40)]
    assert run("never-learned", [50.0 + 5.0 * (-1) ** k for k in range(40)]) == {"entropy": "ill"}
    assert run("learned-first", learned) == {"entropy": "warning"}
    assert run("beats-a-controller", learned, "PD controller") == {}
    assert run("beside-a-controller", learned, "PD controller", low=-0.1) == {"entropy": "warning"}


def test_every_finding_says_what_was_seen_and_what_to_do(tmp_path: Path):
    metrics = {"update/kl": [1.0] * 40, "update/first_ratio_error": [1.0] * 40, "action/at_bounds": [1.0] * 40}
    found = diagnose(finished.read(write_run(tmp_path / "run", metrics=metrics)))
    assert len(found) == 3
    assert [each.level for each in found] == sorted(
        (each.level for each in found), key=["ill", "warning", "note"].index
    )
    for each in found:
        assert any(character.isdigit() for character in each.what)
        assert each.remedy.endswith(".")
    assert len({rule.__name__ for rule in RULES}) == len(RULES)

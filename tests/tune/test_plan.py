"""A search as one value: to TOML and back, compared, and refused where it is none."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from pistar import configuration
from pistar.errors import ArtefactError, UsageError
from pistar.experiment import Experiment
from pistar.settings import tables_from_file
from pistar.tune import plan as plans
from pistar.tune import space
from pistar.tune.plan import Plan
from tune.studies import plan

WHOLE = ("algorithm", "training", "policy")


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "reinforce", "trpo", "ppg", "impala"])
def test_a_plan_survives_its_toml(tmp_path: Path, algorithm: str):
    made = plan("arm-reach", search=WHOLE, algorithm=algorithm)
    (tmp_path / "tune.toml").write_text(configuration.to_toml(made.to_tables()))
    read = Plan.from_tables(configuration.read_toml(tmp_path / "tune.toml"), "tune.toml")
    assert read == made
    assert plans.differences(read, made) == []


def test_plans_differ_in_words():
    found = plans.differences(plan(seeds=2), plan(seeds=3, lanes=4))
    assert found[0] == "tune.seeds: 3 there, 2 here"
    assert "training.lanes: 4 there, 8 here" in found


def test_a_toml_that_is_no_plan_is_refused(tmp_path: Path):
    text = configuration.to_toml(plan().to_tables())
    chance = random.Random(0)
    for _ in range(200):
        lines = text.splitlines()
        place = chance.randrange(len(lines))
        lines[place : place + chance.choice((0, 1, 3))] = [
            chance.choice(("", "x = 1", "[tune]", 'seeds = "a"', "lanes = {}"))
        ]
        (tmp_path / "tune.toml").write_text("\n".join(lines))
        try:
            tables = configuration.read_toml(tmp_path / "tune.toml")
        except UsageError:
            continue
        try:
            found = Plan.from_tables(tables, "tune.toml")
        except ArtefactError as error:
            assert "tune.toml is not the plan of a search" in str(error)  # noqa: PT017 - both outcomes are right
        else:
            assert found.searched


def test_a_point_with_too_few_iterations_is_none():
    made = plan(rungs=8, search=("lanes", "horizon"))
    with pytest.raises(UsageError, match=r"64 lanes × 512 steps leave 2 iterations, fewer than 8"):
        made.at({"training.lanes": 64, "training.horizon": 512})
    coarse = plan(rungs=8, search=("lanes",), steps=512, horizon=512)
    assert (
        coarse.at(space.start(coarse.base, coarse.searched)) == coarse.base
    )  # what the user starts from is never refused


def test_the_result_is_a_config_with_the_seeds_of_the_search(tmp_path: Path):
    made = plan("arm-reach", search=WHOLE, seed=5)
    point = {**space.start(made.base, made.searched), "training.lanes": 8, "policy.hidden": "32 32"}
    (tmp_path / "best.toml").write_text(
        configuration.to_toml({**plans.result_tables(made, point), "run": {"trial": 3}})
    )
    tables = tables_from_file(tmp_path / "best.toml")
    assert tables["training"]["workers"] == "none"  # what the machine chooses is left to the machine
    assert "every" not in tables["evaluation"]
    found = Experiment.from_table(tables)
    wanted = made.at(point)
    assert (found.training.seed, found.policy.hidden, found.training.lanes) == (5, (32, 32), 8)
    assert dataclasses.replace(found, evaluation=wanted.evaluation, checkpoints=wanted.checkpoints) == wanted

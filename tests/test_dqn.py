"""DQN, written outside the package (tests/dqn.py), fits through the seams: no loop, learner or collector knows of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from dqn import DQN

from pistar.testing import check_algorithm


def test_dqn_keeps_the_contract_and_learns_where_credit_is_needed() -> None:
    check_algorithm(DQN(), quick=True)


@pytest.mark.slow
def test_dqn_learns_cartpole() -> None:
    check_algorithm(DQN())


def test_nothing_in_the_package_knows_of_it() -> None:
    package = Path(__file__).parents[1] / "pistar"
    named = [path for path in package.rglob("*.py") if "dqn" in path.read_text().lower()]
    assert named == []


def test_it_is_as_short_as_is_claimed() -> None:
    tree = ast.parse(Path(__file__).with_name("dqn.py").read_text())
    lines = [
        line
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    ]
    assert len(lines) <= 95

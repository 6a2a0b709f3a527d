"""The list of mutants fits the library as it stands; `make mutants` tells whether tests notice them."""

from __future__ import annotations

import dataclasses

import pytest
from mutants import Mutant, listed, problem

MUTANTS = listed()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_can_be_applied_compiles_and_names_tests_that_exist(mutant: Mutant) -> None:
    assert problem(mutant) is None
    assert mutant.file.startswith("pistar/")
    assert mutant.original.count("\n") <= 1  # a line, or two that change places


def test_mutants_that_have_gone_stale_are_noticed() -> None:
    sound = MUTANTS[0]
    broken = [
        ({"original": "no such text"}, "found it 0 times"),
        ({"original": "def "}, "times; if the library has changed"),
        ({"file": "pistar/nowhere.py"}, "No such file"),
        ({"replacement": sound.original}, "replacement that differs"),
        ({"replacement": "(" + sound.replacement}, "does not compile"),
        ({"tests": ("tests/test_objectives.py::test_nothing",)}, "there is no test"),
        ({"tests": ()}, "at least one test"),
    ]
    for change, words in broken:
        assert words in str(problem(dataclasses.replace(sound, **change))), change

"""Rows of a rollout: what the environment reports about itself, in whichever form it comes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from pistar.envs.environment import Scalars, Step
from pistar.storage import Storage

LANES = 3


def step_of(t: int, stacked: bool) -> Step:
    info = torch.full((2, LANES), float(t), dtype=torch.float64)
    names, flags = ("distance", "success"), torch.zeros(LANES, dtype=torch.bool)
    scalars = Scalars(names, info) if stacked else dict(zip(names, info, strict=True))
    return Step(torch.zeros(LANES, 2), torch.zeros(LANES), flags, flags, info=scalars)


@pytest.mark.parametrize("forms", list(itertools.product([False, True], repeat=4)))
def test_the_means_are_of_all_steps_in_whichever_form_each_reports(forms: tuple[bool, ...]) -> None:
    """A wrapper may give a dict where the world below gives one tensor, in some steps and not in others."""
    observation: Tensor = torch.zeros(LANES, 2)
    storage = Storage(len(forms), LANES, observation, torch.device("cpu"))
    for t, stacked in enumerate(forms):
        storage.before(t, observation)
        storage.after(t, step_of(t, stacked))
    assert storage.means() == {"distance": 1.5, "success": 1.5}

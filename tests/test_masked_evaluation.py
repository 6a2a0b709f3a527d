"""Where a policy has a mask, all who act in its task keep to it: evaluation, baselines, what is watched, the first steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_composition import Cell, cells, experiment

from pistar.algorithms.ppo import PPO
from pistar.evaluation import Evaluator, controller, play
from pistar.session import Session
from pistar.tasks import baselines
from pistar.watching import Performance


class Judged(Cell):
    """A cell beside the random baseline, and drawn as one grey frame."""

    def environment(self, *args, **options):
        world = super().environment(*args, **options)
        world.render = lambda lane: np.full((60, 80, 3), 100, np.uint8)
        return world

    def baselines(self):
        return {"random": baselines.random}


MASKED = [
    Judged(memory=cell.memory, mask=True, observation=cell.observation, action=cell.action, agents=cell.agents)
    for cell in cells()
    if cell.mask and cell.observation == "box" and cell.agents == 1
]


@pytest.fixture(params=MASKED, ids=lambda cell: cell.name)
def cell(request: pytest.FixtureRequest) -> Judged:
    found: Judged = request.param
    return found


def policy_of(cell: Judged):
    session = Session(experiment(cell, PPO()))
    session.collector.start(40)  # its world raises where a forbidden action is taken
    with torch.no_grad():
        for parameter in session.policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return session.policy


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_policy_and_the_random_baseline_are_judged_by_allowed_actions(cell: Judged, deterministic: bool) -> None:
    judgement = Evaluator(cell, 20, 0, deterministic).judge(policy_of(cell), baselines=True)
    assert judgement.episodes == 20
    assert set(judgement.baselines) == {"random"}


def test_the_world_would_tell(cell: Judged) -> None:
    evaluator = Evaluator(cell, 20, 0)
    environment = evaluator.environment
    with pytest.raises(ValueError, match="a forbidden action was taken"):
        play(environment, baselines.random(environment, 0), 1, 0)
    policy = policy_of(cell)
    policy.mask = None
    with pytest.raises(ValueError, match="a forbidden action was taken"):
        play(environment, controller(policy, False, 0), 1, 0)


@pytest.mark.parametrize("deterministic", [True, False])
def test_what_is_watched_takes_allowed_actions(cell: Judged, deterministic: bool) -> None:
    performance = Performance(policy_of(cell), cell, deterministic=deterministic)
    assert len(list(performance.frames(episodes=5))) > 5
    assert len(performance.outcomes) == 5

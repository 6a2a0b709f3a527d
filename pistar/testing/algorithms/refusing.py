"""The rule that nothing is learned from numbers that are not finite."""

from __future__ import annotations

import math

from pistar.errors import EnvironmentFailure, NumericalError
from pistar.replay import Replay
from pistar.rollout import Rollout
from pistar.session import Session
from pistar.testing.algorithms.rules import violate
from pistar.testing.algorithms.trials import Trial, difference, kept, session, until_it_moves
from pistar.testing.algorithms.worlds import Bandit


def check_refusal(trial: Trial) -> None:
    """Does it refuse to learn from rewards that are not finite, and leave everything as it was?"""
    for reward in (math.nan, math.inf):
        with session(trial.experiment(Bandit(trial.actions))) as opened:
            until_it_moves(opened)
            experience = spoiled(opened, reward)
            before = kept(opened)["learner"]
            try:
                opened.algorithm.improve(opened.learner, experience, opened.state, opened.progress)
            except (NumericalError, EnvironmentFailure):
                after = kept(opened)["learner"]
            except Exception as error:
                violate("refusal", f"rewards that are all {reward} made it raise {error!r}, expected NumericalError")
            else:
                violate("refusal", f"rewards that were all {reward} were learned from, or passed over in silence")
            for what in ("parameters", "moments", "updates"):
                found = difference(before[what], after[what], what)
                if found:
                    violate("refusal", f"rewards that were all {reward} were refused only after an update: {found}")


def spoiled(opened: Session, reward: float) -> Rollout | Replay:
    """New experience, all of whose rewards are ``reward``; a collector would not have let it pass."""
    rollout = opened.collector.collect(opened.experiment.training.horizon)
    rollout.reward.fill_(reward)
    if opened.replay is None:
        return rollout
    replay = opened.replay.add(rollout)
    assert replay.storage is not None
    replay.storage.reward.fill_(reward)  # whatever is sampled
    return replay


CHECKS = (check_refusal,)

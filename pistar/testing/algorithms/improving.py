"""The rule that counts in the end: the policy gets better.

Each world is trained on for a modest number of steps, with one seed. The policy's own mode is then judged on whole
episodes, beside random actions on the same ones, and must reach the task's threshold.
"""

from __future__ import annotations

import dataclasses

from pistar import seeding
from pistar.evaluation import Evaluator
from pistar.tasks.gymnasium import Gymnasium
from pistar.tasks.task import Task
from pistar.testing.algorithms.rules import violate
from pistar.testing.algorithms.trials import Trial, iterate, session
from pistar.testing.algorithms.worlds import Bandit, Corridor

EPISODES = 50
BANDIT_STEPS = {"discrete": 10_000, "continuous": 30_000}  # numbers on a line take longer to tell apart than three arms
CORRIDOR_STEPS, CARTPOLE_STEPS = 40_000, 60_000
CARTPOLE_RETURN = 150.0  # random: 22; the best possible: 500


def check_small_worlds(trial: Trial) -> None:
    """Does it learn what to do where, and what pays only later?"""
    bandit, corridor = Bandit(trial.actions), Corridor(trial.actions)
    for task, steps in ((bandit, BANDIT_STEPS[trial.actions]), (corridor, CORRIDOR_STEPS)):
        assert task.threshold is not None
        check_improvement(trial, task, steps, task.threshold)


def check_cartpole(trial: Trial) -> None:
    """Does it learn to balance CartPole-v1 for a while?"""
    check_improvement(trial, Gymnasium("CartPole-v1", adapter="lanes"), CARTPOLE_STEPS, CARTPOLE_RETURN)


def check_improvement(trial: Trial, task: Task, steps: int, threshold: float) -> None:
    """Train, judge, compare."""
    modest = dataclasses.replace(trial, training={"steps": steps, **trial.training})
    experiment = modest.experiment(task)
    with session(experiment) as opened:
        for _ in range(experiment.training.iterations):
            iterate(opened)
        evaluator = Evaluator(task, EPISODES, seeding.derive(trial.seed, "check"))
        try:
            judgement = evaluator.judge(opened.policy, baselines=True)
        finally:
            evaluator.close()
    if judgement.mean < threshold:
        random = judgement.baselines["random"].mean
        violate(
            "improvement",
            f"on {opened.environment.name}, {experiment.training.steps} steps led to a mean return of "
            f"{judgement.mean:.3g} over {EPISODES} episodes; expected at least {threshold:g}, random actions get "
            f"{random:.3g}. If the settings do not suit it, pass others as training={{...}}",
        )

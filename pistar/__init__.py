"""pistar: the policy that maximises J(θ) = E[Σ γᵗ rₜ], climbed to by policy gradient.

::

    import pistar

    result = pistar.train("cartpole", steps=1e5, ppo={"clip": 0.1}, out="runs/pole")
    print(pistar.evaluate("runs/pole").mean)
    action, _ = pistar.load("runs/pole").act(observation)

The names below are all that is public at this level; each is imported from its module when it is first used, so that
``import pistar`` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Collector",
    "Environment",
    "Experiment",
    "Judgement",
    "Learner",
    "PistarError",
    "Policy",
    "Progress",
    "Result",
    "Rollout",
    "Schedule",
    "Spaces",
    "Step",
    "Task",
    "__version__",
    "evaluate",
    "load",
    "make_experiment",
    "resume",
    "train",
]

_HOME = {
    "Algorithm": "pistar.algorithms.algorithm",
    "Collector": "pistar.collector",
    "Environment": "pistar.envs.environment",
    "Experiment": "pistar.experiment",
    "Judgement": "pistar.judgement",
    "Learner": "pistar.learner",
    "PistarError": "pistar.errors",
    "Policy": "pistar.policy",
    "Progress": "pistar.training",
    "Result": "pistar.training",
    "Rollout": "pistar.rollout",
    "Schedule": "pistar.schedules",
    "Spaces": "pistar.envs.environment",
    "Step": "pistar.envs.environment",
    "Task": "pistar.tasks.task",
    "evaluate": "pistar.evaluation",
    "load": "pistar.artefact",
    "make_experiment": "pistar.api",
    "resume": "pistar.training",
    "train": "pistar.api",
}

if TYPE_CHECKING:
    from pistar.algorithms.algorithm import Algorithm
    from pistar.api import make_experiment, train
    from pistar.artefact import load
    from pistar.collector import Collector
    from pistar.envs.environment import Environment, Spaces, Step
    from pistar.errors import PistarError
    from pistar.evaluation import evaluate
    from pistar.experiment import Experiment
    from pistar.judgement import Judgement
    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.rollout import Rollout
    from pistar.schedules import Schedule
    from pistar.tasks.task import Task
    from pistar.training import Progress, Result, resume
else:  # a type checker that saw this function would believe in any name

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            from pistar.errors import nearest

            near = nearest(name, __all__)
            raise AttributeError(
                f"module 'pistar' has no attribute {name!r}" + (f"; did you mean {near!r}?" if near else "")
            )
        value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

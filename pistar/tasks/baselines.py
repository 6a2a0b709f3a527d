"""Controllers that any task can be compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pistar.seeding import derive

if TYPE_CHECKING:
    from pistar.envs.environment import Environment
    from pistar.tasks.task import Controller


def random(environment: Environment, seed: int) -> Controller:
    """Uniformly random actions from the action space's own stream."""
    # Imported here so that listing tasks needs no torch.
    from pistar.collector import random_action

    space = environment.spaces.action
    space.seed(derive(seed, "random baseline") % 2**31)
    return lambda observation: random_action(space, environment.lanes, environment.device)


def zero(environment: Environment, seed: int) -> Controller:
    """No action at all: the zero of a box."""
    import torch

    shape = (environment.lanes, *(environment.spaces.action.shape or ()))
    action = torch.zeros(shape, device=environment.device)

    def choose(observation: Any) -> Any:
        return action

    return choose

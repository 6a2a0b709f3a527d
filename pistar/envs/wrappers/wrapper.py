"""What every wrapper is: an environment that hands on all that it does not change."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pistar.envs.environment import Environment, State, Step, Tree
from pistar.errors import UsageError
from pistar.tree import leaves


class Wrapper(Environment):
    """Passes everything through; a subclass changes what it is about."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.name, self.spaces, self.lanes = environment.name, environment.spaces, environment.lanes
        self.restoring, self.device = environment.restoring, environment.device
        self.cuts_single_lanes, self.mask = environment.cuts_single_lanes, environment.mask
        self.agents, self.turn_based, self.groups = environment.agents, environment.turn_based, environment.groups

    def reset(self, seed: int) -> Tree:
        """As the contract says."""
        return self.environment.reset(seed)

    def step(self, action: Tree) -> Step:
        """As the contract says."""
        return self.environment.step(action)

    def cut(self, lanes: Tensor) -> Tree:
        """As the contract says."""
        return self.environment.cut(lanes)

    def own_state(self) -> State:
        """What the wrapper itself must keep."""
        return {}

    def restore_own(self, state: State, observation: Tree) -> Tree:
        """Take over ``own_state``'s result; from the wrapped environment's observation to the wrapper's."""
        return observation

    def save(self) -> State:
        """The state of the wrapped environment and of the wrapper."""
        return {"restoring": self.restoring, "wrapped": self.environment.save(), type(self).__name__: self.own_state()}

    def restore(self, state: State) -> Tree:
        """As the contract says."""
        own = type(self).__name__
        if own not in state or "wrapped" not in state:
            raise UsageError(f"the state was not saved by {own} around {self.name}; use the wrappers it was saved with")
        return self.restore_own(state[own], self.environment.restore(state["wrapped"]))

    def render(self, lane: int = 0) -> np.ndarray | None:
        """One RGB frame of a lane."""
        return self.environment.render(lane)

    def close(self) -> None:
        """Release what the wrapped environment holds."""
        self.environment.close()


def require_own_time(environment: Environment, what: str) -> None:
    """Refuse to count steps where a lane's time is not its own: agents act in turn."""
    if environment.turn_based:
        raise UsageError(
            f"the agents of {environment.name} act in turn, so that {what} has no meaning there; leave it out"
        )


def rows(lanes: Tensor, then: Tensor, otherwise: Tensor) -> Tensor:
    """Rows of ``then`` where ``lanes`` [B] is True, else of ``otherwise``."""
    return torch.where(lanes.view(-1, *[1] * (then.dim() - 1)), then, otherwise)


def paths(tree: Tree) -> list[tuple[str, ...]]:
    """Those of all leaves, in their order."""
    return [path for path, _ in leaves(tree)]

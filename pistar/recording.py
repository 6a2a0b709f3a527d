"""Whole episodes of a controller, kept as they were lived, for `pistar.demonstrations`.

As in an evaluation, every lane plays a fixed quota, so that short episodes are not recorded more often than long ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pistar.demonstrations import Episode
from pistar.envs.environment import Environment
from pistar.errors import EnvironmentFailure, UsageError
from pistar.evaluation import LONGEST_EPISODE, PolicyController
from pistar.tasks.task import Controller
from pistar.tree import Tree, map_leaves


class _Lane:
    """The running episode of one lane."""

    def __init__(self) -> None:
        self.observations: list[Tree] = []
        self.actions: list[Tree] = []
        self.rewards: list[float] = []
        self.after: Tree = None  # what followed the last step, where an entry that was ignored came next

    def end(self, final: Tree, terminated: bool) -> Episode:
        """The whole episode."""
        observation = map_leaves(lambda *x: np.stack(x), *self.observations, final)
        action = map_leaves(lambda *x: np.stack(x), *self.actions)
        return Episode(observation, action, np.asarray(self.rewards, np.float32), terminated)


def record(environment: Environment, choose: Controller, quota: int, seed: int) -> list[Episode]:
    """``quota`` whole episodes of every lane, lane by lane; ``choose`` maps an observation [B, ...] to an action.

    Raises UsageError for worlds whose agents act in turn or have different spaces: their rewards come between their actions,
    or their actions are of several kinds, and a file of episodes has no place for that.
    """
    if environment.turn_based or environment.groups:
        why = "agents of different spaces" if environment.groups else "agents that act in turn"
        raise UsageError(f"{environment.name} has {why}: their episodes cannot be recorded")
    lanes = [_Lane() for _ in range(environment.lanes)]
    done: list[list[Episode]] = [[] for _ in lanes]
    observation = environment.reset(seed)
    while any(len(episodes) < quota for episodes in done):
        action = choose(observation)
        seen, chosen = _arrays(observation), _arrays(action)  # copies: a step may overwrite what it gave before
        step = environment.step(action)
        final = None if step.final_observation is None else _arrays(step.final_observation)
        ended, terminated, reward = step.ended.cpu().numpy(), step.terminated.cpu().numpy(), step.reward.cpu().numpy()
        valid = np.ones(len(lanes), bool) if step.valid is None else step.valid.cpu().numpy()
        for b, lane in enumerate(lanes):
            if len(done[b]) >= quota:
                continue
            if valid[b]:
                lane.observations.append(_row(seen, b))
                lane.actions.append(_row(chosen, b))
                lane.rewards.append(float(reward[b]))
            elif lane.rewards and lane.after is None:
                lane.after = _row(seen, b)
            if ended[b] and lane.rewards:
                last = _row(final, b) if valid[b] else lane.after
                done[b].append(lane.end(last, bool(terminated[b])))
                lanes[b] = _Lane()
            elif len(lane.rewards) >= LONGEST_EPISODE:
                raise EnvironmentFailure(
                    f"{environment.name}: an episode has not ended after {LONGEST_EPISODE} steps, so it cannot be "
                    "recorded; give the environment a time limit"
                )
        observation = step.observation
        if isinstance(choose, PolicyController):
            choose.follow(step, environment.turn_based)
    return [episode for episodes in done for episode in episodes]


def _row(tree: Any, lane: int) -> Any:
    return map_leaves(lambda x: x[lane], tree)


def _arrays(tree: Any) -> Any:
    return map_leaves(lambda x: x.cpu().numpy().copy(), tree)

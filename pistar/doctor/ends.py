"""How episodes ended and what they paid, judged over the whole play."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from pistar.doctor.findings import Diagnosis, counted
from pistar.doctor.playing import Episode, Lane

LARGE, SMALL = 1e3, 1e-3  # rewards beyond these are hard on a value function
ALIKE = 3  # so many episodes of equal length are no accident


def check_ends(diagnosis: Diagnosis, environment: Any, lanes: list[Lane]) -> None:
    """Time limits: whether there is one, and whether it is told apart from the task's own end."""
    episodes = [episode for lane in lanes for episode in lane.episodes if not episode.broken]
    ended = [episode for episode in episodes if episode.ended]
    limit = time_limit(environment)
    longest = max((len(episode.actions) for episode in episodes), default=0)
    topic = "episodes"
    if not longest:
        return
    if not ended and limit is None:
        diagnosis.warn(
            topic,
            f"no episode ended within {longest} random steps, and no time limit is known",
            "give the registered id max_episode_steps (or --gymnasium.options.max_episode_steps N); in a class of your "
            "own count the steps and return truncated=True; without ends there are no returns to report",
        )
    elif not ended:
        diagnosis.ok(topic, f"none ended within {longest} random steps; the time limit is {limit}")
    if ended:
        _check_merged(diagnosis, ended, limit)
    if ended and diagnosis.clean(topic):
        lengths = [len(episode.actions) for episode in ended]
        kinds = f"{sum(e.terminated for e in ended)} terminated, {sum(e.truncated for e in ended)} truncated"
        limits = f"; time limit {limit}" if limit else ""
        diagnosis.ok(
            topic,
            f"{counted(len(ended), 'episode')} ended ({kinds}) after {min(lengths)} to {max(lengths)} steps{limits}",
        )


def _check_merged(diagnosis: Diagnosis, ended: list[Episode], limit: int | None) -> None:
    if len(ended) >= ALIKE and all(episode.terminated and episode.truncated for episode in ended):
        diagnosis.warn(
            "episodes",
            f"terminated and truncated are both True at all {len(ended)} ends, as if one `done` were given twice",
            "terminated: the task ended and nothing follows; truncated: it was only cut. Where both are set, pistar "
            "takes the episode as terminated and never looks at the value of its last state",
        )
        return
    lengths = [len(episode.actions) for episode in ended]
    last = max(lengths)
    at_last = [episode for episode, length in zip(ended, lengths, strict=True) if length == last]
    sudden = all(episode.terminated and not episode.truncated for episode in at_last)
    frequent = len(at_last) >= ALIKE and last > 1 and (len(at_last) == len(ended) or (last >= 20 and len(at_last) >= 5))
    if sudden and frequent and last != limit:
        diagnosis.warn(
            "episodes",
            f"{len(at_last)} of {len(ended)} episodes ended with terminated=True after exactly {last} steps, and none "
            "lasted longer: that looks like a time limit merged into terminated",
            "if the task would have gone on, return terminated=False, truncated=True there: then the return is "
            "bootstrapped from the value of the last state instead of from 0",
        )


def time_limit(environment: Any) -> int | None:
    """The steps of Gymnasium's TimeLimit, wherever in the stack of wrappers it sits."""
    layer, depth = environment, 0
    while layer is not None and depth < 100:
        limit = vars(layer).get("_max_episode_steps") if hasattr(layer, "__dict__") else None
        if isinstance(limit, int):
            return limit
        layer, depth = getattr(layer, "__dict__", {}).get("env"), depth + 1
    return None


def check_rewards(diagnosis: Diagnosis, lanes: list[Lane]) -> None:
    """Scale, and whether there is anything to learn from."""
    episodes = [episode for lane in lanes for episode in lane.episodes]
    rewards = np.array([reward for episode in episodes for reward in episode.rewards], np.float64)
    rewards = rewards[np.isfinite(rewards)]
    if not rewards.size:
        return
    topic, largest = "reward", float(np.abs(rewards).max())
    lengths = {len(episode.actions) for episode in episodes if episode.ended}
    if largest == 0:
        diagnosis.warn(
            topic,
            f"every one of {rewards.size} random steps was paid 0",
            "a sparse reward that random actions never meet teaches nothing: shape it, or start nearer to the goal",
        )
    elif largest > LARGE or largest < SMALL:
        diagnosis.warn(
            topic,
            f"the largest reward in {rewards.size} random steps is {largest:.3g} in size",
            "scale it to about 1 a step; pistar divides by the running deviation of the returns (--normalize-rewards, "
            "on by default), but rare outliers still upset that",
        )
    elif np.ptp(rewards) == 0 and len(lengths) == 1 and len(episodes) > ALIKE:
        diagnosis.warn(
            topic,
            f"every step is paid {rewards[0]:.4g} and every episode is equally long, so every return is the same",
            "random actions never met a better return: unless the task is known to be learnable, shape the reward",
        )
    if diagnosis.clean(topic):
        returns = [sum(episode.rewards) for episode in episodes if episode.ended]
        mean = f"; mean return of random actions {statistics.fmean(returns):.4g}" if returns else ""
        diagnosis.ok(topic, f"{rewards.min():.4g} to {rewards.max():.4g} a step{mean}")

"""What an evaluation says: returns of episodes, beside those of baselines on the same episodes.

Of a world that several agents share, one mean over its agents is one sample: agents of one world are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pistar.statistics import confidence
from pistar.tasks.task import Reference


@dataclass(frozen=True)
class Episodes:
    """Finished episodes, by lane and number: [B, quota] each."""

    returns: np.ndarray
    lengths: np.ndarray
    success: np.ndarray | None = None

    def of_worlds(self, agents: int, chosen: Sequence[int] | None = None) -> Episodes:
        """Means over the ``agents`` lanes that share a world, which are no independent samples: [B / agents, quota].

        Only over the ``chosen`` agents of each world, where these are given.
        """
        if agents == 1:
            return self

        def mean(x: np.ndarray) -> np.ndarray:
            worlds = x.reshape(-1, agents, x.shape[1])
            return np.asarray((worlds if chosen is None else worlds[:, list(chosen)]).mean(1))

        return Episodes(mean(self.returns), mean(self.lengths), None if self.success is None else mean(self.success))


@dataclass(frozen=True)
class Comparison:
    """A baseline on the same episodes; ``difference`` is policy minus baseline."""

    mean: float
    difference: float
    interval: tuple[float, float]  # 95 % of the mean paired difference


@dataclass(frozen=True)
class Share:
    """What the agents of one group had of the outcome: their mean return, and that under the baselines."""

    mean: float
    interval: tuple[float, float]  # 95 % of the mean
    baselines: dict[str, Comparison] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As `Judgement.to_json` has it."""
        baselines = {
            name: {"mean": c.mean, "difference": c.difference, "interval": list(c.interval)}
            for name, c in self.baselines.items()
        }
        return {"mean": self.mean, "interval": list(self.interval), "baselines": baselines}


@dataclass(frozen=True)
class Judgement:
    """The outcome of an evaluation; of several agents, the mean over all of a world, and each group's where they form groups."""

    task: str
    episodes: int
    mean: float
    interval: tuple[float, float]  # 95 % of the mean
    returns: tuple[float, ...]
    length: float
    success: float | None = None
    baselines: dict[str, Comparison] = field(default_factory=dict)
    reference: Reference | None = None
    groups: dict[str, Share] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The object that `pistar evaluate --json` prints."""
        result: dict[str, Any] = {
            "task": self.task,
            "episodes": self.episodes,
            "mean": self.mean,
            "interval": list(self.interval),
            "length": self.length,
            "baselines": Share(self.mean, self.interval, self.baselines).to_json()["baselines"],
        }
        if self.groups:
            result["groups"] = {name: share.to_json() for name, share in self.groups.items()}
        if self.success is not None:
            result["success"] = self.success
        if self.reference is not None:
            r = self.reference
            result["objective"] = {"policy": r.policy, "optimum": r.optimum, "random": r.random}
            result["fraction_of_optimum"] = r.fraction
        return result


def share(played: Episodes, baselines: dict[str, Episodes], agents: int, chosen: Sequence[int] | None = None) -> Share:
    """What all ``agents`` of a world, or the ``chosen`` of them, had of the policy's episodes and of the baselines'."""
    mine, compared = played.of_worlds(agents, chosen).returns, {}
    for name, each in baselines.items():
        theirs = each.of_worlds(agents, chosen).returns
        difference = mine - theirs
        compared[name] = Comparison(float(theirs.mean()), float(difference.mean()), confidence(difference))
    return Share(float(mine.mean()), confidence(mine), compared)

"""Rollouts collected ahead, with the parameters of k updates ago, so that collecting and learning overlap.

    iteration n learns from steps that were taken with the parameters and moments of update max(n − k, 0),  k = ``lag``

A `LaggedCollector` stands in the place of a `Collector`. It acts with a copy of the policy, and while iteration n learns, a
thread collects what iteration n + 1 will learn from: the environment and the kernels release Python's lock, so that two
cores are at work. Whether they really are changes no result: which parameters act is fixed by the lag and not by the clock
(IMPALA's actors take the newest that they can get, Espeholt et al. 2018, section 3). What is told of a rollout (steps,
returns, the scale of rewards) is told when it is learned from. A checkpoint holds the rollout that is ready and the
parameters that will still act, and a run resumed from it goes on bit for bit.

Left out: more than one rollout ahead, which would need a queue and gain nothing on two cores.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pistar.collector import Collector
from pistar.policy import Policy
from pistar.rollout import Rollout
from pistar.tree import map_leaves


class Snapshot(NamedTuple):
    """A policy as it stood after ``version`` updates."""

    version: int
    tensors: dict[str, Tensor]  # parameters and buffers, moments among them


class LaggedCollector:
    """Has a `Collector` collect for the iteration to come; ``collector`` is its own from now on."""

    def __init__(self, collector: Collector, lag: int, overlap: bool = True) -> None:
        self.environment, self.lag, self.overlap = collector.environment, lag, overlap
        self.policy, self.reward_scale = collector.policy, collector.reward_scale
        self.steps = 0  # these four as a Collector has them, of what has been handed out
        self.returns, self.lengths = collector.returns.copy(), collector.lengths.copy()
        self.episodes = 0
        self.info: dict[str, float] = {}
        self._collector, self._actor = collector, copy.deepcopy(collector.policy)
        self._updates = 0  # behind the policy that learns
        self._history: deque[Snapshot] = deque(maxlen=lag)  # the oldest acts next
        self._coming: Future[Rollout] | None = None
        self._raw: Tensor | None = None  # rewards of the last rollout that was handed out
        self._apart = False  # whether acting is known to leave torch's global random stream alone
        self._thread = ThreadPoolExecutor(1, "collecting")  # started by the first rollout that it is given
        self._detach()

    def _detach(self) -> None:
        """Let the collector act with the copy; rewards are scaled when they are handed out."""
        self._collector.policy, self._collector.reward_scale = self._actor, None

    def start(self, warm_up: int = 0) -> None:
        """As a Collector's; the first moments are the learning policy's."""
        self._collector.policy, self._collector.reward_scale = self.policy, self.reward_scale
        self._collector.start(warm_up)
        self._detach()

    def collect(self, horizon: int) -> Rollout:
        """The rollout for this iteration; the next one, of the same horizon, is begun.

        Raises what a Collector raises, when the rollout that is at fault is asked for.
        """
        if self._coming is None:
            self._history.extend([self._snapshot()] * self.lag)
            self._begin(horizon)
        rollout = self._wait()
        collector, self._raw = self._collector, rollout.reward
        self.steps, self.episodes, self.info = collector.steps, collector.episodes, collector.info
        self.returns, self.lengths = collector.returns.copy(), collector.lengths.copy()
        self._history.append(self._snapshot())
        self._begin(horizon)
        self._updates += 1  # by the time that anything is collected again
        if self.reward_scale is not None:
            rollout.reward = self._raw * self.reward_scale.factor
        return rollout

    def _begin(self, horizon: int) -> None:
        """Collect with the oldest parameters, in the thread where that changes nothing.

        A policy that draws from torch's global stream, as dropout does, would draw in an order that depends on the clock.
        Whether it does is seen in a rollout that is collected here: the first one, which has to be waited for anyway.
        """
        version, tensors = self._history[0]
        for name, tensor in _tensors(self._actor):
            tensor.copy_(tensors[name])
        if self.overlap and self._apart:
            self._coming = self._thread.submit(self._collect, horizon, version)
            return
        before = torch.get_rng_state()
        self._coming = _done(self._collect(horizon, version))
        self._apart = torch.equal(before, torch.get_rng_state())

    def _collect(self, horizon: int, version: int) -> Rollout:
        rollout = self._collector.collect(horizon)
        rollout.version = torch.full(rollout.shape, version, dtype=torch.int64, device=rollout.reward.device)
        return rollout

    def _wait(self) -> Rollout:
        """The rollout that is coming, once it is there."""
        assert self._coming is not None
        return self._coming.result()

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._updates, {name: tensor.clone() for name, tensor in _tensors(self.policy)})

    def absorb(self, rollout: Rollout) -> None:
        """As a Collector's."""
        weight = None if rollout.weight is None else rollout.weight.flatten()
        self.policy.absorb(map_leaves(lambda x: x.flatten(0, 1), rollout.observation), weight)
        if self.reward_scale is not None and self._raw is not None:
            counts = torch.ones_like(self._raw) if rollout.weight is None else rollout.weight
            self.reward_scale.update(self._raw, rollout.ended, counts)

    def cut(self, rollout: Rollout) -> None:
        """End every running episode at the end of what was last collected: the rollout after ``rollout``."""
        self._collector.cut(self._wait())

    def recent(self) -> tuple[float, float]:
        """Mean return and length of the last (at most 100) finished episodes; NaN before the first."""
        if not self.returns:
            return math.nan, math.nan
        return sum(self.returns) / len(self.returns), sum(self.lengths) / len(self.lengths)

    def state(self) -> dict[str, Any]:
        """Everything that ``load_state`` needs to go on as if never stopped; waits for the rollout that is coming."""
        ahead: dict[str, Any] = {
            "history": {str(i): snapshot._asdict() for i, snapshot in enumerate(self._history)},
            "updates": self._updates,
            "steps": self.steps,
            "returns": list(self.returns),
            "lengths": list(self.lengths),
        }
        if self._coming is not None:
            ahead["rollout"] = self._wait().to_state()
            ahead["episodes"], ahead["info"] = self._collector.episodes, self._collector.info
        state = {**self._collector.state(), "ahead": ahead}
        if self.reward_scale is not None:
            state["reward_scale"] = self.reward_scale.state()
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        collector, ahead = self._collector, state["ahead"]
        collector.load_state(state)
        history, constants = ahead["history"], self.policy.constants()
        for i in range(len(history)):  # files sort names: 10 before 2
            version, tensors = history[str(i)]["version"], history[str(i)]["tensors"]
            self._history.append(Snapshot(version, constants | tensors))
        self._updates, self.steps = int(ahead["updates"]), int(ahead["steps"])
        self.returns.extend(ahead["returns"])
        self.lengths.extend(ahead["lengths"])
        if self.reward_scale is not None:
            self.reward_scale.load_state(state["reward_scale"])
        if "rollout" in ahead:
            device = self.environment.device
            rollout = Rollout.from_state(ahead["rollout"])
            self._coming = _done(map_leaves(lambda x: x.to(device) if isinstance(x, Tensor) else x, rollout))
            collector.episodes, collector.info = int(ahead["episodes"]), dict(ahead["info"])

    def close(self) -> None:
        """Wait for the thread, so that nothing steps the environment any more."""
        self._thread.shutdown()


def _tensors(policy: Policy) -> Iterator[tuple[str, Tensor]]:
    """All that decides how a policy acts, detached, by name ("/" between parts, as checkpoints hold them)."""
    for name, parameter in policy.named_parameters():
        yield name.replace(".", "/"), parameter.detach()
    for name, buffer in policy.named_buffers():
        yield name.replace(".", "/"), buffer


def _done(rollout: Rollout) -> Future[Rollout]:
    """A rollout that need not be waited for."""
    future: Future[Rollout] = Future()
    future.set_result(rollout)
    return future

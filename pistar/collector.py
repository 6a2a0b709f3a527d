"""Steps an environment with a policy and fills rollouts.

Only the actor runs while acting (`pistar.acting`); values are computed afterwards, by the algorithms that want them.
Parameters and moments stand still from the first step of a rollout to its last.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pistar import acting, seeding, turns
from pistar.envs.allowed import random_steps
from pistar.envs.environment import Environment, Step
from pistar.episodes import finished
from pistar.graphs.acting_steps import ActingSteps
from pistar.graphs.capture import Capture
from pistar.normalization import RewardScale
from pistar.policy import Policy
from pistar.rollout import Rollout
from pistar.storage import Storage
from pistar.tree import Tree, map_leaves


class Collector:
    """Owns the running episodes, the noise stream, the reward scale and the episode statistics."""

    overlap = False  # whether it collects while the policy learns

    def __init__(
        self,
        environment: Environment,
        policy: Policy,
        *,
        seed: int,
        reward_scale: RewardScale | None = None,
        capture: Capture | None = None,
    ) -> None:
        self.environment, self.policy, self.reward_scale = environment, policy, reward_scale
        self.generator = torch.Generator(device=environment.device).manual_seed(seeding.derive(seed, "noise"))
        self.seed = seed
        self.steps = 0  # valid environment steps collected
        self.returns: deque[float] = deque(maxlen=100)  # of the last finished episodes, raw and undiscounted
        self.lengths: deque[int] = deque(maxlen=100)
        self.observation: Tree = None
        self.memory: Tree = None  # [B, ...] the policy's after the last step; None: it has none, or has not begun
        self.is_first = torch.ones(environment.lanes, dtype=torch.bool, device=environment.device)
        self.episodes = 0  # that ended in the last rollout
        self.info: dict[str, float] = {}  # the environment's own scalars, their means over the last rollout
        self.version: int | None = (
            None  # updates behind the policy, told to rollouts where it is not the one that learns
        )
        self._acting: acting.Acting | None = None  # chosen at the first step: the policy may be moved until then
        self._graphs = ActingSteps(capture)
        self._running = np.zeros((2, environment.lanes))  # return and length of each lane's running episode
        self._raw: tuple[Tensor, Tensor, Tensor | None] | None = None  # reward, ended, weight of the last rollout
        self._waiting: turns.Waiting | None = None  # where agents act in turn: actions whose outcome is still open
        self._storage: Storage  # of the rollout that is under way, as these three
        self._remembering: acting.RememberingActing | None = None
        self._finals: list[tuple[Tensor, Tree]] = []  # (flat positions t · B + b, last observations)
        self._first_row = self.is_first  # [B] where its first step begins an episode

    def start(self, warm_up: int = 0) -> None:
        """Begin the first episodes; before that, ``warm_up`` uncounted random steps give the first moments."""
        self._graphs.forget()
        if warm_up > 0:
            mask = self.policy.mask or self.environment.mask
            self.first_moments(*random_steps(self.environment, mask, self.seed, -(-warm_up // self.environment.lanes)))
        self.observation = map_leaves(torch.clone, self.environment.reset(seeding.derive(self.seed, "environment")))

    def first_moments(self, seen: Tree, reward: Tensor, ended: Tensor, valid: Tensor) -> None:
        """The moments of `random_steps`, before anything is learned."""
        weight = valid.float()
        self.policy.absorb(map_leaves(lambda x: x.flatten(0, 1), seen), weight.flatten())
        if self.reward_scale is not None:
            self.reward_scale.update(reward, ended, weight)
            self.reward_scale.discounted.zero_()

    def collect(self, horizon: int) -> Rollout:
        """The next ``horizon`` steps of every lane; where agents act in turn, about so many turns of each.

        Raises EnvironmentFailure where an observation or a reward is not finite, with its lane and step.
        """
        environment = self.environment
        if environment.turn_based:
            horizon *= environment.agents
        with torch.inference_mode(False), torch.no_grad():
            self.begin(horizon)
            if not self._replayed(horizon):
                for t in range(horizon):
                    self.take(t, environment.step(self.choose(t)))
            return self.finish()

    def begin(self, steps: int) -> None:
        """Make ready for a rollout of so many steps: then, for each, `choose` and `take`, and at last `finish`."""
        environment = self.environment
        if self._acting is None or self._acting.policy is not self.policy or not self._acting.fits():
            self._acting = acting.of(self.policy, environment.device)
        if isinstance(self._acting, acting.RememberingActing):
            self._acting.in_turn = environment.turn_based
            self._acting.recall(self.memory, self.is_first)
            self._remembering = self._acting
        else:
            self._remembering = None
        self._first_row, self._finals = self.is_first.clone(), []
        self._acting.begin(steps, environment.lanes, self.generator)
        self._storage = Storage(steps, environment.lanes, self.observation, environment.device)

    def _replayed(self, horizon: int) -> bool:
        """Take all steps of the rollout as CUDA graphs, where that can be done (`pistar.graphs`)."""
        if not isinstance(self._acting, acting.PlainActing):
            return False
        lived = self._graphs.live(self.environment, self.policy, self.observation, self._acting.noise, horizon)
        if lived is not None:
            self._storage, self._finals, self.observation, *chosen = lived
            self._acting.took(*chosen)
        return lived is not None

    def choose(self, t: int) -> Tree:
        """The action [B, ...] of step t."""
        assert self._acting is not None
        self._storage.before(t, self.observation)
        return self._acting.act(t, self.observation)

    def take(self, t: int, step: Step) -> None:
        """Record what step t led to."""
        self._storage.after(t, step)
        if step.final_observation is not None:
            index = step.ended.nonzero().squeeze(-1)
            if len(index):
                rows = map_leaves(lambda x: x[index], step.final_observation)
                self._finals.append((index + t * len(step.reward), rows))
        if self._remembering is not None:
            self._remembering.follow(step)
        self.observation = step.observation

    def finish(self) -> Rollout:
        """The rollout, once all its steps are taken."""
        assert self._acting is not None
        # The environment owns what it returned; the next rollout starts from a copy.
        self.observation = map_leaves(torch.clone, self.observation)
        action, log_prob = self._acting.finish()
        storage, remembering = self._storage, self._remembering
        storage.require_finite(self.environment, self.steps // self.environment.lanes)
        if remembering is not None:
            # Laid out as a checkpoint would give it back: the same numbers with other strides are multiplied otherwise.
            self.memory = map_leaves(lambda x: x.clone(memory_format=torch.contiguous_format), remembering.memory)
        if self.environment.turn_based:
            return self._fold(storage, action, log_prob)
        rollout = self._straight(storage, action, log_prob)
        if remembering is not None:
            rollout.memory, rollout.burn_in = remembering.memories(), self.policy.burn_in
        return rollout

    def _straight(self, storage: Storage, action: Tree, log_prob: Tensor) -> Rollout:
        """The rollout of a world where all act in every step."""
        raw, ended = storage.reward, storage.terminated | storage.truncated
        weight = None if bool(storage.valid.all()) else storage.valid.to(raw.dtype)
        # An ignored action's entry begins an episode too, so that memory is fresh before and after it.
        starts = ended | ~storage.valid
        is_first = torch.cat((self._first_row.unsqueeze(0), starts[:-1]))
        self.is_first = starts[-1].clone()
        self._raw = (raw, ended, weight)
        self._count(raw, ended, storage.valid)
        self.info, finals = storage.means(), self._finals
        if finals:
            final_index = torch.cat([index for index, _ in finals])
            final = map_leaves(lambda *x: torch.cat(x), *[rows for _, rows in finals])
        else:
            final_index = torch.zeros(0, dtype=torch.int64, device=raw.device)
            final = map_leaves(lambda x: x[:0].clone(), self.observation)
        return Rollout(
            observation=storage.observation,
            action=action,
            log_prob=log_prob,
            reward=raw if self.reward_scale is None else raw * self.reward_scale.factor,
            terminated=storage.terminated,
            truncated=storage.truncated & ~storage.terminated,
            is_first=is_first,
            weight=weight,
            last_observation=self.observation,
            final_observation=final,
            final_index=final_index,
            version=None if self.version is None else torch.full_like(raw, self.version, dtype=torch.int64),
        )

    def _fold(self, storage: Storage, action: Tree, log_prob: Tensor) -> Rollout:
        """The rollout of a turn-based world; see `pistar.turns`."""
        memory = None if self._remembering is None else self._remembering.memories()
        if self._waiting is None:
            first = (map_leaves(lambda x: x[0], tree) for tree in (storage.observation, action, log_prob, memory))
            self._waiting = turns.Waiting.nothing(*first)
        self._count(storage.reward, storage.terminated | storage.truncated, storage.valid)
        self.info = storage.means()
        rollout, self._waiting = turns.fold(
            storage,
            action,
            log_prob,
            self._finals,
            self.observation,
            self._waiting,
            memory=memory,
            segment=self.policy.segment,
            burn_in=self.policy.burn_in,
            version=self.version,
        )
        self.is_first = torch.from_numpy(self._waiting.fresh.copy()).to(self.is_first.device)
        self._raw = (rollout.reward, rollout.ended, rollout.weight)
        scale = 1.0 if self.reward_scale is None else self.reward_scale.factor
        return dataclasses.replace(rollout, reward=rollout.reward * scale)

    def absorb(self, rollout: Rollout) -> None:
        """Move the moments of observations and rewards; called once the rollout has been learned from."""
        weight = None if rollout.weight is None else rollout.weight.flatten()
        self.policy.absorb(map_leaves(lambda x: x.flatten(0, 1), rollout.observation), weight)
        if self.reward_scale is not None and self._raw is not None:
            reward, ended, raw_weight = self._raw
            self.reward_scale.update(reward, ended, torch.ones_like(reward) if raw_weight is None else raw_weight)

    def cut(self, rollout: Rollout) -> None:
        """End every running episode at the end of ``rollout``, as truncated, and start the next ones."""
        running = ~(rollout.terminated[-1] | rollout.truncated[-1])
        last = (rollout.shape[0] - 1) * rollout.shape[1]
        index = running.nonzero().squeeze(-1)
        rollout.truncated[-1] |= running
        rollout.final_index = torch.cat((rollout.final_index, index + last))
        rollout.final_observation = map_leaves(
            lambda old, now: torch.cat((old, now[index])), rollout.final_observation, rollout.last_observation
        )
        if self._raw is not None:
            self._raw[1][-1] = True
        everyone = torch.ones_like(running)
        self.observation = map_leaves(torch.clone, self.environment.cut(everyone))
        rollout.last_observation = self.observation
        self.is_first = everyone
        self._running[:] = 0.0
        self._waiting = None

    def _count(self, reward: Tensor, ended: Tensor, valid: Tensor) -> None:
        """Episode returns and lengths, in raw rewards."""
        counted = reward if self.environment.turn_based else reward * valid
        rewards = counted.double().cpu().numpy()
        ends, counts = ended.cpu().numpy(), valid.cpu().numpy()
        self.steps += int(counts.sum())
        most = int(self.returns.maxlen or 0)
        returns, lengths, self._running = finished(rewards, ends, counts, self._running, most)
        self.returns.extend(returns)
        self.lengths.extend(lengths)
        self.episodes = int(ends.sum())

    def recent(self) -> tuple[float, float]:
        """Mean return and length of the last (at most 100) finished episodes; NaN before the first."""
        if not self.returns:
            return math.nan, math.nan
        return sum(self.returns) / len(self.returns), sum(self.lengths) / len(self.lengths)

    def close(self) -> None:
        """Nothing steps the environment after this; it is not closed."""

    def state(self) -> dict[str, Any]:
        """Everything that ``load_state`` needs to go on as if never stopped."""
        state: dict[str, Any] = {
            "environment": self.environment.save(),
            "generator": self.generator.get_state(),
            "steps": self.steps,
            "returns": list(self.returns),
            "lengths": list(self.lengths),
            "is_first": self.is_first,
            "running": torch.from_numpy(self._running.copy()),
        }
        if self.memory is not None:
            state["memory"] = self.memory
        if self.reward_scale is not None:
            state["reward_scale"] = self.reward_scale.state()
        if self._waiting is not None:
            state["waiting"] = self._waiting.to_state()
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        self._graphs.forget()
        self.observation = map_leaves(torch.clone, self.environment.restore(state["environment"]))
        self.generator.set_state(state["generator"])
        self.steps = int(state["steps"])
        self.returns.extend(state["returns"])
        self.lengths.extend(state["lengths"])
        self.is_first = state["is_first"].to(self.environment.device)
        self.memory = map_leaves(lambda x: x.to(self.environment.device), state.get("memory"))
        self._running = state["running"].numpy().copy()
        if self.reward_scale is not None:
            self.reward_scale.load_state(state["reward_scale"])
        self._waiting = turns.Waiting(**state["waiting"]) if "waiting" in state else None

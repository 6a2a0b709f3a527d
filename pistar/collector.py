"""Steps an environment with a policy and fills rollouts.

Only the actor runs while acting (`pistar.acting`); values are computed afterwards, by the algorithms that want them.
Parameters and moments stand still from the first step of a rollout to its last.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pistar import acting, seeding
from pistar.envs.allowed import mask_in, random_action
from pistar.envs.environment import Environment
from pistar.envs.wrappers import begins
from pistar.errors import EnvironmentFailure
from pistar.normalization import RewardScale
from pistar.policy import Policy
from pistar.rollout import Rollout
from pistar.storage import Storage
from pistar.tree import Tree, leaves, map_leaves


class Collector:
    """Owns the running episodes, the noise stream, the reward scale and the episode statistics."""

    overlap = False  # whether it collects while the policy learns

    def __init__(
        self, environment: Environment, policy: Policy, *, seed: int, reward_scale: RewardScale | None = None
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
        self._acting: acting.Acting | None = None  # chosen at the first step: the policy may be moved until then
        self._running = np.zeros((2, environment.lanes))  # return and length of each lane's running episode
        self._raw: tuple[Tensor, Tensor, Tensor | None] | None = None  # reward, ended, weight of the last rollout

    def start(self, warm_up: int = 0) -> None:
        """Begin the first episodes; before that, ``warm_up`` uncounted random steps give the first moments."""
        if warm_up > 0:
            self._warm_up(-(-warm_up // self.environment.lanes))
        self.observation = map_leaves(torch.clone, self.environment.reset(seeding.derive(self.seed, "environment")))

    def _warm_up(self, steps: int) -> None:
        """Random actions, uniform over what is allowed of the space (standard normal where it has no bounds)."""
        space = self.environment.spaces.action
        space.seed(seeding.derive(self.seed, "warm-up", "actions") % 2**31)
        observation = self.environment.reset(seeding.derive(self.seed, "warm-up"))
        seen, rewards, ended, valid = [], [], [], []
        for _ in range(steps):
            seen.append(map_leaves(torch.clone, observation))
            mask = mask_in(observation, self.policy.mask or self.environment.mask)
            step = self.environment.step(random_action(space, self.environment.lanes, self.environment.device, mask))
            rewards.append(step.reward.clone())
            ended.append(step.ended.clone())
            valid.append(torch.ones_like(step.ended) if step.valid is None else step.valid.clone())
            observation = step.observation
        weight = torch.stack(valid).float()
        self.policy.absorb(map_leaves(lambda *x: torch.cat(x), seen[0], *seen[1:]), weight.flatten())
        if self.reward_scale is not None:
            reward = torch.stack(rewards)
            self.reward_scale.update(reward, torch.stack(ended), weight)
            self.reward_scale.discounted.zero_()

    def collect(self, horizon: int) -> Rollout:
        """The next ``horizon`` steps of every lane.

        Raises EnvironmentFailure where an observation or a reward is not finite, with its lane and step.
        """
        environment, lanes = self.environment, self.environment.lanes
        finals: list[tuple[Tensor, Tree]] = []
        first_row = self.is_first.clone()
        with torch.inference_mode(False), torch.no_grad():
            if self._acting is None or self._acting.policy is not self.policy or not self._acting.fits():
                self._acting = acting.of(self.policy, environment.device)
            remembering = self._acting if isinstance(self._acting, acting.RememberingActing) else None
            if remembering is not None:
                remembering.recall(self.memory, self.is_first)
            self._acting.begin(horizon, lanes, self.generator)
            storage = Storage(horizon, lanes, self.observation, environment.device)
            for t in range(horizon):
                storage.before(t, self.observation)
                step = environment.step(self._acting.act(t, self.observation))
                storage.after(t, step)
                if step.final_observation is not None:
                    index = step.ended.nonzero().squeeze(-1)
                    if len(index):
                        finals.append((index + t * lanes, map_leaves(lambda x, i=index: x[i], step.final_observation)))
                if remembering is not None:
                    remembering.forget(begins(step))
                self.observation = step.observation
            # The environment owns what it returned; the next rollout starts from a copy.
            self.observation = map_leaves(torch.clone, self.observation)
            action, log_prob = self._acting.finish()
        rollout = self._finish(storage, action, log_prob, finals, first_row)
        if remembering is not None:
            # Laid out as a checkpoint would give it back: the same numbers with other strides are multiplied otherwise.
            self.memory = map_leaves(lambda x: x.clone(memory_format=torch.contiguous_format), remembering.memory)
            rollout.memory = remembering.memories()
            rollout.burn_in = self.policy.burn_in
        return rollout

    def _finish(
        self, storage: Storage, action: Tree, log_prob: Tensor, finals: list[tuple[Tensor, Tree]], first_row: Tensor
    ) -> Rollout:
        self._check(storage)
        raw, ended = storage.reward, storage.terminated | storage.truncated
        weight = None if bool(storage.valid.all()) else storage.valid.to(raw.dtype)
        # An ignored action's entry begins an episode too, so that memory is fresh before and after it.
        starts = ended | ~storage.valid
        is_first = torch.cat((first_row.unsqueeze(0), starts[:-1]))
        self.is_first = starts[-1].clone()
        self._raw = (raw, ended, weight)
        self._count(raw, ended, storage.valid)
        self.info = storage.means()
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
            streams={},
        )

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
            lambda old, now: torch.cat((old, now[index])), rollout.final_observation, self.observation
        )
        if self._raw is not None:
            self._raw[1][-1] = True
        everyone = torch.ones_like(running)
        self.observation = map_leaves(torch.clone, self.environment.cut(everyone))
        rollout.last_observation = self.observation
        self.is_first = everyone
        self._running[:] = 0.0

    def _check(self, storage: Storage) -> None:
        """Name the first lane and step whose reward or observation is not finite."""
        for what, tensor in (
            ("reward", storage.reward),
            *(("/".join(("observation", *p)), x) for p, x in leaves(storage.observation)),
        ):
            if tensor.is_floating_point() and not math.isfinite(float(tensor.sum())):
                bad = ~torch.isfinite(tensor).flatten(2).all(-1) if tensor.dim() > 2 else ~torch.isfinite(tensor)
                if bool(bad.any()):
                    t, lane = (int(i) for i in bad.nonzero()[0])
                    raise EnvironmentFailure(
                        f"{self.environment.name}: {what} of lane {lane} is not finite at step {self.steps // self.environment.lanes + t} "
                        f"({tensor[t, lane].tolist()}); expected finite numbers. Nothing was learned from this rollout and the last "
                        f"checkpoint stands; `pistar doctor` examines the environment",
                        lane,
                        self.steps // self.environment.lanes + t,
                    )

    def _count(self, reward: Tensor, ended: Tensor, valid: Tensor) -> None:
        """Episode returns and lengths, in raw rewards."""
        rewards = (reward * valid).double().cpu().numpy()
        ends, counts = ended.cpu().numpy(), valid.cpu().numpy()
        self.steps += int(counts.sum())
        total = np.concatenate((np.zeros((1, rewards.shape[1])), rewards.cumsum(0)))
        length = np.concatenate((np.zeros((1, rewards.shape[1])), counts.cumsum(0)))
        origin = -self._running  # so that total - origin is the running return, whatever came before the rollout
        for t, lane in zip(*np.nonzero(ends), strict=True):
            self.returns.append(float(total[t + 1, lane] - origin[0, lane]))
            self.lengths.append(int(length[t + 1, lane] - origin[1, lane]))
            origin[:, lane] = total[t + 1, lane], length[t + 1, lane]
        self._running = np.stack((total[-1], length[-1])) - origin
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
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
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

"""Recorded episodes in the shape of a rollout, and how well a policy does what they show.

Episodes stand one after another on a few lanes, so that memories, masks, burn-in and values are what they are in training.
The lanes are filled up with steps of weight 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pistar import estimators, objectives, seeding
from pistar.demonstrations import Episode
from pistar.following import follow
from pistar.policy import Policy, as_batch
from pistar.rollout import Batch, Rollout
from pistar.tree import Tree, leaves, map_leaves

CHUNK = 4096  # steps that are judged at once


class Lessons:
    """Recorded steps as losses see them, with a memory as the policy now has it and targets of the critic as it now is."""

    def __init__(self, policy: Policy, taught: Rollout, held: Rollout | None, discount: float) -> None:
        self.policy, self.taught, self.held, self.discount = policy, taught, held, discount

    def batch(self, rollout: Rollout | None = None) -> Batch:
        """All steps (None: those that are taught)."""
        rollout = self.taught if rollout is None else rollout
        if self.policy.initial_memory(1) is not None:
            rollout.memory = follow(self.policy, rollout.observation, rollout.is_first).starts
        batch = rollout.batch(torch.ones_like(rollout.reward), self._targets(rollout))
        if rollout.memory is None and batch.weight is not None:  # single steps: what only fills up is left out
            real = batch.weight > 0
            batch = map_leaves(lambda x: x[real].contiguous(), batch)
            batch.weight = None
        return batch

    def _targets(self, rollout: Rollout) -> Tensor:
        """Discounted returns [T, B], bootstrapped where an episode was cut."""
        if "critic" not in self.policy.parts():
            return torch.zeros_like(rollout.reward)
        value, following = rollout.values(self.policy)
        ends = (rollout.terminated, rollout.truncated)
        return value + estimators.gae(rollout.reward, value, following, *ends, self.discount, 1.0)

    def judge(self) -> dict[str, float]:
        """How likely the recorded actions are and how far the policy's own are from them, held out where anything is."""
        batch = self.batch(self.taught if self.held is None else self.held)
        totals: dict[str, float] = {}
        counted = 0.0
        with torch.no_grad():
            for some in batch.minibatches(CHUNK, torch.Generator(device=batch.target.device).manual_seed(0)):
                count = some.target.numel() if some.weight is None else float(some.weight.sum())
                for name, mean in self._compare(some).items():
                    totals[name] = totals.get(name, 0.0) + mean * count
                counted += count
        return {name: total / counted for name, total in totals.items()}

    def _compare(self, batch: Batch) -> dict[str, float]:
        now = self.policy.evaluate(batch.observation, batch.action)
        found = {"log_likelihood": float(objectives.weighted_mean(now.log_prob, batch.weight))}
        if now.value is not None:
            found["value_error"] = float(objectives.squared_error(now.value, batch.target, batch.weight))
        mine, theirs = (self.policy.head.to_environment(x) for x in (now.distribution.mode(), batch.action))
        return {**found, **agreement(mine, theirs, batch.weight)}


def agreement(mine: Tree, theirs: Tree, weight: Tensor | None) -> dict[str, float]:
    """``accuracy``: share of discrete entries that are equal; ``action_error``: mean |difference| of continuous ones."""
    equal, apart = [], []
    for (_, one), (_, other) in zip(leaves(mine), leaves(theirs), strict=True):
        shape = one.shape if weight is None else weight.shape
        lead = one.dim() if weight is None else weight.dim()
        counts = None if weight is None else weight.view(*shape, *[1] * (one.dim() - lead)).expand(one.shape)
        if one.is_floating_point():
            apart.append(float(objectives.weighted_mean((one - other).abs(), counts)))
        else:
            equal.append(float(objectives.weighted_mean((one == other).float(), counts)))
    found = {"accuracy": sum(equal) / len(equal)} if equal else {}
    return {**found, "action_error": sum(apart) / len(apart)} if apart else found


def split(episodes: list[Episode], held_out: float, seed: int) -> tuple[list[Episode], list[Episode]]:
    """Episodes to learn from, and the rest, chosen by chance: at least one of each where anything is to be held out."""
    count = min(max(1, round(held_out * len(episodes))), len(episodes) - 1) if held_out > 0 else 0
    order = np.random.default_rng(seeding.derive(seed, "held out")).permutation(len(episodes))
    chosen = set(order[:count].tolist())
    return (
        [episode for k, episode in enumerate(episodes) if k not in chosen],
        [episode for k, episode in enumerate(episodes) if k in chosen],
    )


def pack(episodes: list[Episode], policy: Policy) -> Rollout:
    """Episodes one after another on as few lanes as the longest needs, each lane filled up with steps of weight 0."""
    lengths = [len(episode) for episode in episodes]
    lanes = max(1, min(len(episodes), -(-sum(lengths) // max(lengths))))
    places: list[list[int]] = [[] for _ in range(lanes)]
    loads = [0] * lanes
    for k in sorted(range(len(episodes)), key=lambda k: (-lengths[k], k)):
        lane = loads.index(min(loads))
        places[lane].append(k)
        loads[lane] += lengths[k]
    steps = -(-max(loads) // policy.segment) * policy.segment
    return _filled(episodes, places, steps, policy)


def _filled(episodes: list[Episode], places: list[list[int]], steps: int, policy: Policy) -> Rollout:
    device = next(policy.parameters()).device
    tensors = [as_batch(policy.spaces.observation, e.observation)[1] for e in episodes]
    actions = [policy.head.from_environment(_to(as_batch(policy.spaces.action, e.action)[1], device)) for e in episodes]
    shape = (steps, len(places))

    def room(x: Tensor) -> Tensor:
        return torch.zeros((*shape, *x.shape[1:]), dtype=x.dtype, device=device)

    observation, action = map_leaves(room, tensors[0]), map_leaves(room, actions[0])
    reward, weight = torch.zeros(shape), torch.zeros(shape)
    terminated, truncated = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    is_first = torch.ones(shape, dtype=torch.bool)
    finals, index = [], []
    for lane, chosen in enumerate(places):
        t = 0
        for k in chosen:
            rows = slice(t, t + len(episodes[k]))
            _put(observation, map_leaves(lambda x: x[:-1], tensors[k]), rows, lane)
            _put(action, actions[k], rows, lane)
            reward[rows, lane] = torch.as_tensor(np.asarray(episodes[k].reward, np.float32))
            weight[rows, lane], is_first[t + 1 : rows.stop, lane] = 1.0, False
            t = rows.stop
            terminated[t - 1, lane], truncated[t - 1, lane] = episodes[k].terminated, not episodes[k].terminated
            finals.append(map_leaves(lambda x: x[-1:], tensors[k]))
            index.append((t - 1) * len(places) + lane)
    return Rollout(
        observation=observation,
        action=action,
        log_prob=torch.zeros(shape, device=device),
        reward=reward.to(device),
        terminated=terminated.to(device),
        truncated=truncated.to(device),
        is_first=is_first.to(device),
        weight=weight.to(device),
        last_observation=map_leaves(lambda x: x[-1].clone(), observation),
        final_observation=_to(map_leaves(lambda *x: torch.cat(x), finals[0], *finals[1:]), device),
        final_index=torch.tensor(index, device=device),
        burn_in=policy.burn_in,
    )


def _put(rows_of: Tree, values: Tree, rows: slice, lane: int) -> None:
    for (_, place), (_, value) in zip(leaves(rows_of), leaves(values), strict=True):
        place[rows, lane] = value.to(place.device)


def _to(tree: Tree, device: Any) -> Tree:
    return map_leaves(lambda x: x.to(device), tree)

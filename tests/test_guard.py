"""The guard: what the acting path believed of its actions is what learning is told of them.

For every policy kind, action space and observation kind, across resets, memories, masks, updates and moving moments, the
log-probability in the rollout equals the one that ``evaluate`` computes anew. The second half breaks the acting path in the ways that
happen in practice, and requires that the same comparison notices.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from composed_world import ComposedWorld, spaces_of
from gymnasium import spaces
from torch import Tensor

from pistar.acting import RememberingActing
from pistar.collector import Collector
from pistar.envs.environment import Environment, Spaces, State, Step
from pistar.errors import UnsupportedSpace
from pistar.families import FAMILIES
from pistar.learner import Learner
from pistar.policies import POLICIES
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.rollout import Rollout
from pistar.tree import Tree, leaves, map_leaves

LANES, HORIZON = 5, 24
ACCURACY = {torch.float32: 1e-4, torch.float64: 1e-10}


class Drift(Environment):
    """Observations that drift with time, far from mean 0 and deviation 1; episodes end at different ages per lane.

    In ``next_step`` mode it answers as Gymnasium's autoreset of that name: last observation, then an ignored action.
    """

    name, restoring = "drift", "state"

    def __init__(self, spaces_: Spaces, dtype: torch.dtype, next_step: bool = False) -> None:
        self.spaces, self.lanes, self.dtype, self.next_step = spaces_, LANES, dtype, next_step
        self.actions: list[Tree] = []

    def reset(self, seed: int) -> Tree:
        self.generator = torch.Generator().manual_seed(seed % 2**31)
        self.time, self.age = 0, torch.zeros(LANES, dtype=torch.int64)
        self.waiting = torch.zeros(LANES, dtype=torch.bool)
        return self._observe(self.spaces.observation)

    def _observe(self, space: spaces.Space[Any]) -> Tree:
        if isinstance(space, spaces.Dict):
            return {key: self._observe(child) for key, child in space.spaces.items()}
        if isinstance(space, spaces.Discrete):
            return torch.randint(int(space.n), (LANES,), generator=self.generator)
        x = torch.randn(LANES, *(space.shape or ()), generator=self.generator, dtype=torch.float64)
        return (3.0 * x + 0.1 * self.time + 5.0).clamp(-50.0, 50.0).to(self.dtype)

    def step(self, action: Tree) -> Step:
        self.actions.append(map_leaves(torch.clone, action))
        self.time, self.age = self.time + 1, self.age + 1
        valid = ~self.waiting
        self.age[self.waiting] = 0
        ended = (self.age >= 2 + torch.arange(LANES)) & valid
        terminated = ended & (torch.arange(LANES) % 2 == 0)
        last, observation = self._observe(self.spaces.observation), None
        if self.next_step:
            self.waiting = ended
        else:
            observation = self._observe(self.spaces.observation)
            observation = map_leaves(lambda new, old: torch.where(over(ended, new), new, old), observation, last)
            self.age[ended] = 0
        return Step(
            observation=last if observation is None else observation,
            reward=torch.randn(LANES, generator=self.generator),
            terminated=terminated,
            truncated=ended & ~terminated,
            final_observation=None if self.next_step else last,
            valid=valid if self.next_step else None,
        )

    def cut(self, lanes: Tensor) -> Tree:
        self.age[lanes] = 0
        return self._observe(self.spaces.observation)

    def save(self) -> State:
        raise NotImplementedError

    def restore(self, state: State) -> Tree:
        raise NotImplementedError


def over(mask: Tensor, x: Tensor) -> Tensor:
    """[B] as [B, 1, ...], to go with x."""
    return mask.view(-1, *[1] * (x.dim() - 1))


BOX = spaces.Box(-50.0, 50.0, (3,), np.float32)
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "box": BOX,
    "matrix": spaces.Box(-50.0, 50.0, (2, 2), np.float32),
    "dict": spaces.Dict(
        {"mode": spaces.Discrete(3), "position": BOX, "scale": spaces.Box(-50.0, 50.0, (), np.float32)}
    ),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(4, start=2),
    "box": spaces.Box(np.array([-1.0, 0.2], np.float32), np.array([1.0, 0.4], np.float32)),
    "multi-discrete": spaces.MultiDiscrete([2, 3, 4]),
    "multi-binary": spaces.MultiBinary(3),
    "dict": spaces.Dict({"gear": spaces.Discrete(3), "pedal": spaces.Box(-1.0, 1.0, (2,), np.float32)}),
    "tuple": spaces.Tuple((spaces.MultiBinary(2), spaces.Dict({"aim": spaces.Box(0.0, 9.0, (1,), np.float32)}))),
}
VARIANTS: dict[str, list[dict[str, Any]]] = {  # settings of a kind that change how it acts
    "mlp": [
        {},
        {"squash": True},
        *({"distribution": name} for name in FAMILIES.names() if name not in ("gaussian", "squashed")),
        {"normalize": False, "critic": False, "hidden": (8,), "activation": "elu"},
        {"memory": "gru", "segment": 8, "memory_size": 16},
        {"memory": "lstm", "segment": 6, "burn_in": 4, "shared": False, "critic_hidden": (8,)},
        {"auxiliary_value": True},
    ],
    "linear-softmax": [
        {"features": "one-hot", "bins": (5,)},
        {"features": "tile-coding", "tilings": 4, "tiles": (3,), "critic": "linear"},
        {"features": "radial-basis", "centres": (3,), "critic": "mlp"},
        {"features": "polynomial", "degree": 3},
    ],
}


def build(kind: str, options: dict[str, Any], observation: str, action: str, dtype: torch.dtype) -> Policy:
    """A policy away from its careful start, but not saturated, so that actions matter; skips what the kind refuses."""
    generator = torch.Generator().manual_seed(0)
    lane = Spaces(OBSERVATIONS[observation], copy.deepcopy(ACTIONS[action]))
    try:
        policy: Policy = POLICIES.get(kind)(**options).build(lane, generator).to(dtype)
    except UnsupportedSpace as refusal:
        pytest.skip(str(refusal))
    shake(policy, 0.1)
    return policy


def shake(policy: Policy, size: float) -> None:
    """Move every parameter a little, as an update would."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(size * noise.to(parameter.dtype))


def collector_of(policy: Policy, dtype: torch.dtype, next_step: bool = False) -> Collector:
    return Collector(Drift(policy.spaces, dtype, next_step), policy, seed=3)


def gap(policy: Policy, rollout: Rollout) -> float:
    """The largest difference between what acting recorded and what learning computes."""
    batch = rollout.batch(torch.zeros(rollout.shape), torch.zeros(rollout.shape))
    with torch.no_grad():
        again = policy.evaluate(batch.observation, batch.action).log_prob
    return float((again - batch.log_prob).abs().max())


def update(policy: Policy, learner: Learner, rollout: Rollout) -> None:
    """One gradient step on the rollout, as any algorithm makes it."""
    batch = rollout.batch(torch.ones(rollout.shape), torch.zeros(rollout.shape))

    def loss(policy: Policy, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        now = policy.evaluate(batch.observation, batch.action)
        return now.log_prob.mean() - 0.1 * now.entropy.mean(), {}  # away from certainty, where nothing moves any more

    learner.descend(loss, batch, parts=["actor"])


def cases() -> list[Any]:
    return [
        pytest.param(kind, options, observation, action, id=f"{kind}{number}-{observation}-{action}")
        for kind in POLICIES.names()
        for number, options in enumerate(VARIANTS.get(kind, [{}]))
        for observation in OBSERVATIONS
        for action in ACTIONS
        if "distribution" not in options or action in ("box", "dict", "tuple")
        if kind != "linear-softmax" or (observation == "box" and action == "discrete")  # else refused, see its tests
    ]


@pytest.mark.parametrize(("kind", "options", "observation", "action"), cases())
@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("next_step", [False, True], ids=["same-step", "next-step"])
def test_acting_and_learning_agree(
    kind: str, options: dict[str, Any], observation: str, action: str, dtype: torch.dtype, next_step: bool
) -> None:
    policy = build(kind, options, observation, action, dtype)
    collector = collector_of(policy, dtype, next_step)
    collector.start(warm_up=50)
    learner = Learner(policy, learning_rate=0.01)
    resets, moved = 0, []
    for _ in range(2):
        rollout = collector.collect(HORIZON)
        assert rollout.log_prob.dtype == dtype
        assert gap(policy, rollout) <= ACCURACY[dtype]
        resets += int(rollout.ended.sum())
        update(policy, learner, rollout)
        moved.append(gap(policy, rollout))
        collector.absorb(rollout)
    # The comparison is not blind: a policy moves in some update, though one that is certain may hardly move in one.
    assert max(moved) > 10 * ACCURACY[dtype]
    assert resets > 2 * LANES


@pytest.mark.parametrize("kind", POLICIES.names())
def test_every_policy_kind_is_guarded(kind: str) -> None:
    assert kind in VARIANTS, f"add the settings of {kind} that change how it acts to VARIANTS"


@pytest.mark.parametrize("action", ACTIONS)
def test_the_environment_was_given_the_recorded_actions(action: str) -> None:
    policy = build("mlp", {}, "dict", action, torch.float32)
    collector = collector_of(policy, torch.float32)
    collector.start()
    rollout = collector.collect(HORIZON)
    environment = collector.environment
    assert isinstance(environment, Drift)
    given = map_leaves(lambda *x: torch.stack(x), environment.actions[0], *environment.actions[1:])
    for (_, found), (_, truth) in zip(leaves(given), leaves(policy.head.to_environment(rollout.action)), strict=True):
        assert torch.equal(found, truth)


# Mutants: each acts, or records, in a way that the comparison above must refuse.


def act_with_stale_weights(collector: Collector) -> Rollout:
    stale = copy.deepcopy(collector.policy)
    shake(collector.policy, 0.01)
    collector.policy = stale
    return collector.collect(HORIZON)


def act_with_stale_moments(collector: Collector) -> Rollout:
    stale = copy.deepcopy(collector.policy)
    collector.absorb(collector.collect(HORIZON))
    collector.policy = stale
    return collector.collect(HORIZON)


def absorb_before_learning(collector: Collector) -> Rollout:
    rollout = collector.collect(HORIZON)
    collector.absorb(rollout)
    return rollout


def absorb_while_acting(collector: Collector) -> Rollout:
    policy, outputs = collector.policy, collector.policy.outputs

    def absorbing(observation: Tree, *rest: Any) -> tuple[Tensor, Tree]:
        policy.absorb(observation)
        return outputs(observation, *rest)

    policy.outputs = absorbing  # type: ignore[method-assign, assignment]
    return collector.collect(HORIZON)


def record_what_the_environment_got(collector: Collector) -> Rollout:
    rollout = collector.collect(HORIZON)
    rollout.action = collector.policy.head.to_environment(rollout.action)
    return rollout


def record_the_next_observation(collector: Collector) -> Rollout:
    rollout = collector.collect(HORIZON)
    rollout.observation = rollout.next_observation()
    return rollout


def never_forget(collector: Collector) -> Rollout:
    collector.collect(HORIZON)
    acts = RememberingActing(collector.policy, torch.device("cpu"))
    acts.forget = lambda begins: None  # type: ignore[method-assign]
    collector._acting = acts
    return collector.collect(HORIZON)


def record_the_memory_after(collector: Collector) -> Rollout:
    rollout = collector.collect(HORIZON)
    rollout.memory = map_leaves(lambda x: x.roll(-1, 0), rollout.memory)
    return rollout


def begin_every_rollout_anew(collector: Collector) -> Rollout:
    collector.collect(HORIZON)
    collector.is_first[:] = False  # in the middle of an episode
    memory = collector.memory
    collector.memory = None
    rollout = collector.collect(HORIZON)
    rollout.memory = map_leaves(lambda x, first: torch.cat((first.unsqueeze(0), x[1:])), rollout.memory, memory)
    return rollout


def mask_of_another_lane(collector: Collector) -> Rollout:
    policy, outputs = collector.policy, collector.policy.outputs

    def mistaken(observation: Tree, *rest: Any) -> tuple[Tensor, Tree]:
        if isinstance(observation, dict):  # one step: acting
            observation = {**observation, "mask": map_leaves(lambda x: x.roll(1, 0), observation["mask"])}
        return outputs(observation, *rest)

    policy.outputs = mistaken  # type: ignore[method-assign, assignment]
    return collector.collect(HORIZON)


MUTANTS = [
    act_with_stale_weights,
    act_with_stale_moments,
    absorb_before_learning,
    absorb_while_acting,
    record_what_the_environment_got,
    record_the_next_observation,
]


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("observation", ["box", "dict"])
def test_the_guard_notices(mutant: Callable[[Collector], Rollout], dtype: torch.dtype, observation: str) -> None:
    policy = build("mlp", {}, observation, "box", dtype)
    collector = collector_of(policy, dtype)
    collector.start(warm_up=10)
    assert gap(policy, mutant(collector)) > 10 * ACCURACY[dtype]


# The same with a memory, and with a mask.


def remembering(dtype: torch.dtype, memory: str, mask: bool) -> Collector:
    """In a world of two agents per environment, one of which is silent at times."""
    lane = spaces_of("box", "mixed", mask)
    kind = MLP(memory=memory, segment=6, memory_size=8, mask="mask" if mask else None)
    policy = kind.build(lane, torch.Generator().manual_seed(0)).to(dtype)
    shake(policy, 0.3)
    collector = Collector(ComposedWorld(lane, 3, 2, dtype), policy, seed=3)
    collector.start(warm_up=10)
    return collector


def largest_gap(policy: Policy, rollout: Rollout) -> float:
    """As ``gap``, of the entries that count; infinite where one of them was thought impossible."""
    batch = rollout.batch(torch.zeros(rollout.shape), torch.zeros(rollout.shape))
    with torch.no_grad():
        again = policy.evaluate(batch.observation, batch.action).log_prob
    assert batch.weight is not None
    return float((again - batch.log_prob).abs()[batch.weight > 0].max())


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("memory", ["none", "gru", "lstm"])
@pytest.mark.parametrize("mask", [False, True], ids=["free", "mask"])
def test_acting_and_learning_agree_with_memory_and_mask(dtype: torch.dtype, memory: str, mask: bool) -> None:
    collector = remembering(dtype, memory, mask)
    learner = Learner(collector.policy, learning_rate=0.01)
    for _ in range(3):
        rollout = collector.collect(HORIZON)
        assert largest_gap(collector.policy, rollout) <= ACCURACY[dtype]
        update(collector.policy, learner, rollout)
        collector.absorb(rollout)


REMEMBERING_MUTANTS = [
    act_with_stale_weights,
    act_with_stale_moments,
    absorb_before_learning,
    record_the_next_observation,
    never_forget,
    record_the_memory_after,
    begin_every_rollout_anew,
    mask_of_another_lane,
]


@pytest.mark.parametrize("mutant", REMEMBERING_MUTANTS)
@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_the_guard_notices_what_is_wrong_with_memory_and_mask(
    mutant: Callable[[Collector], Rollout], dtype: torch.dtype, memory: str
) -> None:
    collector = remembering(dtype, memory, mask=mutant is mask_of_another_lane)
    if mutant is mask_of_another_lane:
        collector.environment._require_allowed = lambda action: None  # type: ignore[attr-defined]
    policy = collector.policy
    assert largest_gap(policy, mutant(collector)) > 10 * ACCURACY[dtype]

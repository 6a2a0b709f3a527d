"""Segments are the steps of a rollout in their order; what a policy computes along them is what it would step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from composed_world import ComposedWorld, spaces_of
from torch import Tensor

from pistar import segments, serialization
from pistar.collector import Collector
from pistar.errors import UsageError
from pistar.learner import Learner
from pistar.memories.memory import Memory
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.rollout import Rollout
from pistar.tree import Tree, leaves, map_leaves

LANES, HORIZON = 4, 12
TINY: dict[str, Any] = {"hidden": (5,), "memory_size": 6, "normalize": False}
KINDS = {
    "gru": MLP(memory="gru", segment=4, **TINY),
    "lstm": MLP(memory="lstm", segment=3, **TINY),
    "apart": MLP(memory="gru", segment=6, shared=False, **TINY),
    "burnt-in": MLP(memory="lstm", segment=4, burn_in=6, shared=False, **TINY),
}
by_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def collector(kind: MLP, agents: int = 1) -> Collector:
    spaces = spaces_of("box", "discrete", mask=False)
    policy = kind.build(spaces, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    made = Collector(ComposedWorld(spaces, LANES // agents, agents, torch.float64), policy, seed=0)
    made.start()
    made.collect(HORIZON)  # what follows begins in the middle of episodes
    return made


def step_by_step(policy: Policy, rollout: Rollout, memory: Tree) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs [T, B, ...], V(s) and V(s') [T, B], by acting's own step alone; ``memory`` is that before the rollout."""
    assert hasattr(policy, "trunk")
    outputs, here, after = [], [], torch.full(rollout.shape, torch.nan, dtype=torch.float64)
    finals = dict(zip(rollout.final_index.tolist(), rollout.final_observation, strict=True))

    def value(observation: Tree, memory: Tree, begins: Tensor) -> Tensor:
        """V of the next observation [B, ...], with all that is needed made by hand."""
        count = observation.shape[0]
        trunk = policy.trunk if policy.critic_trunk is None else policy.critic_trunk
        state = memory["actor" if policy.critic_trunk is None else "critic"]
        features, _ = trunk(observation, state, begins)
        assert features.shape[0] == count
        found: Tensor = policy.critic(features).squeeze(-1)
        return found

    for t in range(HORIZON):
        begins = rollout.is_first[t]
        here.append(value(rollout.observation[t], memory, begins))
        output, memory = policy.outputs(rollout.observation[t], memory, begins)
        outputs.append(output)
        last = t + 1 == HORIZON
        follows = rollout.last_observation if last else rollout.observation[t + 1]
        after[t] = value(follows, memory, torch.zeros(LANES, dtype=torch.bool) if last else rollout.is_first[t + 1])
        for lane in range(LANES):
            if t * LANES + lane in finals:
                mine = map_leaves(lambda x, lane=lane: x[lane : lane + 1], memory)
                final = finals[t * LANES + lane].unsqueeze(0)
                after[t, lane] = value(final, mine, torch.zeros(1, dtype=torch.bool))[0]
    return torch.stack(outputs), torch.stack(here), after


@by_kind
@torch.no_grad()
def test_values_and_outputs_are_those_of_stepping_through(kind: MLP) -> None:
    collecting = collector(kind)
    memory, policy = collecting.memory, collecting.policy
    rollout = collecting.collect(HORIZON)
    assert not bool(rollout.is_first[0].all())
    outputs, here, after = step_by_step(policy, rollout, memory)
    found = rollout.values(policy)
    torch.testing.assert_close(found[0], here, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1], after, rtol=0, atol=1e-12)
    whole = policy.outputs(rollout.sequence())[0]
    torch.testing.assert_close(whole, outputs, rtol=0, atol=1e-12)
    batch = rollout.batch(here, after)
    shape = batch.advantage.shape
    assert shape == (kind.segment, HORIZON // kind.segment * LANES)
    torch.testing.assert_close(
        policy.outputs(batch.observation)[0], segments.cut(outputs, kind.segment), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(policy.value(batch.observation), batch.advantage, rtol=0, atol=1e-12)
    evaluation = policy.evaluate(batch.observation, batch.action)
    torch.testing.assert_close(evaluation.log_prob, batch.log_prob, rtol=0, atol=1e-12)
    torch.testing.assert_close(evaluation.critic_value(), batch.advantage, rtol=0, atol=1e-12)


@by_kind
def test_minibatches_are_whole_segments_each_once(kind: MLP) -> None:
    rollout = collector(kind).collect(HORIZON)
    marks = torch.arange(HORIZON * LANES, dtype=torch.float64).view(HORIZON, LANES)
    batch = rollout.batch(marks, marks)
    seen = []
    with torch.no_grad():
        every = collector(kind).policy.evaluate(batch.observation, batch.action).log_prob
        by_mark = dict(zip(batch.advantage.flatten().tolist(), every.flatten().tolist(), strict=True))
        for part in batch.minibatches(2 * kind.segment + 1, torch.Generator().manual_seed(0)):
            assert part.advantage.shape == (kind.segment, 2)
            steps = torch.arange(kind.segment).unsqueeze(1) * LANES
            assert torch.equal(part.advantage, part.advantage[:1] + steps)  # consecutive steps of one lane
            again = collector(kind).policy.evaluate(part.observation, part.action).log_prob
            for mark, log_prob in zip(part.advantage.flatten().tolist(), again.flatten().tolist(), strict=True):
                assert log_prob == pytest.approx(by_mark[mark], abs=1e-12)
            seen += part.advantage.flatten().tolist()
    assert sorted(seen) == marks.flatten().tolist()


def test_backpropagation_ends_where_a_segment_begins() -> None:
    kind = KINDS["gru"]
    collecting = collector(kind)
    rollout = collecting.collect(HORIZON)
    rollout.is_first[:] = False
    rollout.observation.requires_grad_()
    batch = rollout.batch(rollout.reward, rollout.reward)
    outputs, _ = collecting.policy.outputs(batch.observation)
    outputs[kind.segment - 1].sum().backward()  # the last step of every segment
    reached = rollout.observation.grad.abs().sum((1, 2)) > 0
    assert bool(reached.all())
    rollout.observation.grad = None
    one = segments.cut(torch.ones(HORIZON, LANES), kind.segment)
    one[:, LANES:] = 0  # the first segment of every lane alone
    outputs, _ = collecting.policy.outputs(rollout.batch(rollout.reward, rollout.reward).observation)
    (outputs * one.unsqueeze(-1)).sum().backward()
    assert (rollout.observation.grad.abs().sum((1, 2)) > 0).tolist() == [True] * 4 + [False] * 8


def test_burn_in_brings_memory_up_to_date() -> None:
    kind = MLP(memory="gru", segment=4, burn_in=HORIZON, **TINY)
    collecting = collector(kind)
    collecting.is_first[:] = True  # so that nothing is carried in from before, which no burn-in could renew
    rollout = collecting.collect(HORIZON)
    policy = collecting.policy
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.5)
        batch = rollout.batch(rollout.reward, rollout.reward)
        fresh = policy.outputs(rollout.sequence())[0]
        burnt = policy.outputs(batch.observation)[0]
    torch.testing.assert_close(burnt, segments.cut(fresh, 4), rtol=0, atol=1e-12)


def test_the_memory_of_a_rollout_goes_on_into_the_next() -> None:
    collecting, whole = collector(KINDS["gru"]), collector(KINDS["gru"])
    parts = [collecting.collect(HORIZON // 3) for _ in range(3)]
    together = whole.collect(HORIZON)
    with torch.no_grad():
        apart = torch.cat([collecting.policy.outputs(part.sequence())[0] for part in parts])
    state = collecting.state()
    assert torch.equal(state["memory"]["actor"], collecting.memory["actor"])
    assert [part.memory["actor"].shape for part in parts] == [(1, LANES, 6)] * 3
    assert apart.shape == whole.policy.outputs(together.sequence())[0].shape


@by_kind
def test_unfinished_tails_hold_whole_segments_and_join_with_what_follows(kind: MLP) -> None:
    collecting = collector(kind)
    first = collecting.collect(HORIZON)
    tail = first.unfinished()
    assert tail is not None
    assert tail.shape[0] % kind.segment == 0
    assert tail.segment == kind.segment
    second = collecting.collect(HORIZON)
    joined = second.after(Rollout.from_state(tail.to_state()))
    heard = joined.weight > 0
    here, after = joined.values(collecting.policy)
    assert joined.segment == kind.segment
    both = [
        torch.cat(pair) for pair in zip(first.values(collecting.policy), second.values(collecting.policy), strict=True)
    ]
    for mine, truth in zip((here, after), both, strict=True):
        torch.testing.assert_close(mine[heard], truth[-joined.shape[0] :][heard], rtol=0, atol=1e-12)


def test_a_horizon_that_holds_no_whole_segments_is_refused() -> None:
    with pytest.raises(UsageError, match="16"):
        collector(MLP(memory="gru", segment=8, **TINY))


def test_bare_observations_are_refused() -> None:
    collecting = collector(KINDS["gru"])
    rollout = collecting.collect(HORIZON)
    for ask in (lambda p: p.value(rollout.observation), lambda p: p.evaluate(rollout.observation, rollout.action)):
        with pytest.raises(UsageError, match="sequence"):
            ask(collecting.policy)


def test_a_silent_agent_changes_nothing_that_is_learned() -> None:
    collecting = collector(KINDS["gru"], agents=2)
    rollout = collecting.collect(HORIZON)
    assert rollout.weight is not None
    assert not bool(rollout.weight.all())
    assert bool(rollout.weight.any(0).all())
    gradients = []
    for noise in (0.0, 9.0):
        changed = map_leaves(lambda x: x, rollout)
        changed.reward = rollout.reward + noise * (rollout.weight == 0)
        learner = Learner(collecting.policy)
        batch = changed.batch(changed.reward, changed.reward)

        def loss(policy: Policy, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
            now = policy.evaluate(batch.observation, batch.action)
            return -(now.log_prob * batch.advantage * batch.weight).sum(), {}

        learner.differentiate(loss, batch)
        gradients.append(learner.gradient.clone())
    assert torch.equal(*gradients)


class Turned(Memory):
    """Its state is a view: the transpose of what lies in memory."""

    def __init__(self, inputs: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.size = size
        self.weight_x, self.weight_h = (
            torch.nn.Parameter(torch.randn((size, n), generator=generator)) for n in (inputs, size)
        )

    def initial(self, lanes: int) -> Tensor:
        return self.weight_x.new_zeros((lanes, self.size))

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        after = torch.tanh(x @ self.weight_x.t() + state @ self.weight_h.t())
        return after, after.t().contiguous().t()


def test_a_memory_that_is_a_view_goes_on_bit_for_bit(tmp_path: Path) -> None:
    spaces, length = spaces_of("box", "discrete", mask=False), 2  # no episode ends in the first rollout
    kind = MLP(memory=f"{__name__}:Turned", segment=length, hidden=(8,), memory_size=8)
    policy = kind.build(spaces, torch.Generator().manual_seed(0))
    first, second = (Collector(ComposedWorld(spaces, 3, 1), policy, seed=0) for _ in range(2))
    first.start()
    for n in range(4):
        first.collect(length)
        path = tmp_path / f"{n}"
        serialization.write(path, first.state(), "test")
        second.load_state(serialization.read(path, "test")[0])
        for rollouts in [[each.collect(length) for each in (first, second)] for _ in range(2)]:
            for (where, mine), (_, theirs) in zip(*map(leaves, rollouts), strict=True):
                assert where[-1] == "burn_in" or torch.equal(mine, theirs), where

"""A batch as checkpoints hold it, and several of them as one; what a policy makes of a rollout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from composed_world import ComposedWorld, spaces_of

from pistar import serialization
from pistar.collector import Collector
from pistar.policies.mlp import MLP
from pistar.rollout import Batch, Rollout
from pistar.segments import Segments
from pistar.tree import leaves, map_leaves

KINDS = {
    "single steps": MLP(hidden=(5,)),
    "segments": MLP(hidden=(5,), memory="gru", memory_size=6, segment=4),
    "burnt in": MLP(hidden=(5,), memory="lstm", memory_size=6, segment=4, burn_in=6, shared=False),
}


def rollouts(kind: MLP, agents: int) -> list[Rollout]:
    """Three, one after the other; with two agents, some steps weigh 0 in each."""
    spaces = spaces_of("dict", "mixed", mask=True)
    kind = MLP(**{**vars(kind), "mask": "mask"})
    policy = kind.build(spaces, torch.Generator().manual_seed(0))
    collector = Collector(ComposedWorld(spaces, 2, agents), policy, seed=0)
    collector.start()
    return [collector.collect(12) for _ in range(3)]


@pytest.mark.parametrize("agents", [1, 2])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_batches_joined_from_a_file_are_all_their_steps_in_order(kind: MLP, agents: int, tmp_path: Path) -> None:
    batches = [rollout.batch(rollout.reward, rollout.reward + 1) for rollout in rollouts(kind, agents)]
    assert {batch.weight is None for batch in batches} == {agents == 1}
    serialization.write(tmp_path / "file", {str(i): batch.to_state() for i, batch in enumerate(batches)}, "test")
    states = serialization.read(tmp_path / "file", "test")[0]
    whole = Batch.joined(states[str(i)] for i in range(3))
    along = 1 if isinstance(whole.observation, Segments) else 0
    assert (along == 1) == (kind.memory != "none")
    counted = [
        Batch(**{**vars(batch), "weight": torch.ones_like(batch.target) if agents == 1 else batch.weight})
        for batch in batches
    ]
    expected = map_leaves(lambda *each: torch.cat(each, along), *counted)
    mine, theirs = dict(leaves(whole)), dict(leaves(expected))
    assert set(mine) == set(theirs)
    for path, leaf in theirs.items():
        assert torch.equal(mine[path], leaf), path


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_one_pass_gives_the_values_and_the_log_probabilities_of_two(kind: MLP, shared: bool) -> None:
    spaces = spaces_of("image", "mixed", mask=False)
    kind = MLP(**{**vars(kind), "shared": shared, "kernels": (3,), "strides": (1,), "filters": (2,)})
    policy = kind.build(spaces, torch.Generator().manual_seed(0))
    collector = Collector(ComposedWorld(spaces, 2, 2), policy, seed=0)
    collector.start()
    rollout = collector.collect(24)
    assert len(rollout.final_index) > 0
    together = rollout.values_and_log_probs(policy)
    for mine, theirs in zip(together, (*rollout.values(policy), rollout.log_probs(policy)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    assert not any(x.requires_grad for x in together)


def test_weights_are_joined_where_only_some_batches_have_them() -> None:
    steps = torch.arange(4.0)
    weights = (None, torch.tensor([1.0, 0.0, 1.0, 0.0]))
    whole = Batch.joined(Batch(steps, steps, steps, steps, steps, weight).to_state() for weight in weights)
    assert whole.weight is not None
    assert whole.weight.tolist() == [1, 1, 1, 1, 1, 0, 1, 0]
    assert whole.target.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_an_entry_called_segments_is_no_segments() -> None:
    steps = torch.arange(4.0)
    batch = Batch({"segments": steps}, steps, steps, steps, steps)
    assert Batch.joined([batch.to_state()]).observation["segments"].tolist() == [0, 1, 2, 3]

"""The ring holds the newest steps, each with the successor that really followed it, and comes back from a file whole."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pistar import serialization
from pistar.errors import UsageError
from pistar.replay import Replay, Transitions
from pistar.rollout import Rollout
from pistar.tree import leaves

LANES = 3


class Lives:
    """A world that only counts: observations say (lane, episode, age), so that a successor can be told from a stranger.

    Lane b's episodes last b + 2 steps; those of even number terminate, the others are truncated. ``ignored`` plays a
    backend that resets on the next step: it shows the last observation, and then an entry whose action it ignores.
    """

    def __init__(self, ignored: bool = False, lanes: int = LANES) -> None:
        self.ignored, self.lanes, self.clock = ignored, lanes, 0
        self.episode, self.age = [0] * lanes, [0] * lanes
        self.waiting = [False] * lanes

    def observe(self, lane: int) -> list[float]:
        return [float(lane), float(self.episode[lane]), float(self.age[lane])]

    def rollout(self, steps: int) -> Rollout:
        shape = (steps, self.lanes)
        observation, number, weight = torch.zeros(*shape, 3), torch.zeros(shape), torch.ones(shape)
        terminated, truncated = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        finals: list[tuple[int, list[float]]] = []
        for t in range(steps):
            for lane in range(self.lanes):
                observation[t, lane] = torch.tensor(self.observe(lane))
                number[t, lane] = self.clock + 0.1 * lane
                if self.waiting[lane]:
                    weight[t, lane], self.waiting[lane] = 0.0, False
                    self.episode[lane], self.age[lane] = self.episode[lane] + 1, 0
                    continue
                self.age[lane] += 1
                if self.age[lane] == lane + 2:
                    (truncated if self.episode[lane] % 2 else terminated)[t, lane] = True
                    if self.ignored:
                        self.waiting[lane] = True
                    else:
                        finals.append((t * self.lanes + lane, self.observe(lane)))
                        self.episode[lane], self.age[lane] = self.episode[lane] + 1, 0
            self.clock += 1
        return Rollout(
            observation={"life": observation},
            action=number.long(),
            log_prob=torch.zeros(shape),
            reward=number,
            terminated=terminated,
            truncated=truncated,
            is_first=torch.zeros(shape, dtype=torch.bool),
            weight=weight if self.ignored else None,
            last_observation={"life": torch.tensor([self.observe(lane) for lane in range(self.lanes)])},
            final_observation={"life": torch.tensor([row for _, row in finals]).view(-1, 3)},
            final_index=torch.tensor([index for index, _ in finals], dtype=torch.int64),
        )


def contents(replay: Replay) -> Tensor:
    """The rewards in the ring, which number the steps: [size, B], oldest first."""
    assert replay.storage is not None
    return replay.storage.reward[: replay.size].roll(-(replay.position % replay.size), 0)


lengths = st.lists(st.integers(1, 12), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60)
@given(lengths=lengths, capacity=st.integers(1, 15))
def test_the_ring_holds_the_newest_steps_in_their_order(lengths: list[int], capacity: int) -> None:
    world, replay, seen = Lives(), Replay(capacity, seed=0), []
    for steps in lengths:
        rollout = world.rollout(steps)
        assert replay.add(rollout) is replay
        seen.append(rollout.reward)
        assert torch.equal(contents(replay), torch.cat(seen)[-capacity:])
        assert replay.size == min(capacity, len(torch.cat(seen)))
        assert replay.new == steps * LANES


@settings(deadline=None, max_examples=60)
@given(lengths=lengths, capacity=st.integers(1, 15), ignored=st.booleans())
def test_no_transition_crosses_an_end(lengths: list[int], capacity: int, ignored: bool) -> None:
    world, replay = Lives(ignored), Replay(capacity, seed=1)
    for steps in lengths:
        replay.add(world.rollout(steps))
        batch = replay.sample(200)
        counted = batch.weight > 0
        here, there = (tree["life"][counted] for tree in (batch.observation, batch.next_observation))
        assert torch.equal(there, here + torch.tensor([0.0, 0.0, 1.0]))  # same lane, same episode, one step older
        last = there[:, 2] == there[:, 0] + 2
        assert torch.equal(batch.terminated[counted], last & (here[:, 1] % 2 == 0))  # a truncation is no end
        assert ignored or bool(counted.all())


def test_entries_that_were_ignored_weigh_nothing_and_only_they() -> None:
    world, replay = Lives(ignored=True), Replay(40, seed=0)
    rollout = world.rollout(40)
    replay.add(rollout)
    assert replay.storage is not None
    assert rollout.weight is not None
    assert 0 < int((rollout.weight == 0).sum()) < 40
    assert torch.equal(replay.storage.weight, rollout.weight)


def test_every_stored_step_is_drawn_equally_often_and_no_other() -> None:
    world, replay = Lives(), Replay(8, seed=2)
    for steps in (3, 2):  # 5 of 8 rows are filled
        replay.add(world.rollout(steps))
    drawn = Counter(round(value, 1) for value in replay.sample(30_000).reward.tolist())
    assert set(drawn) == {round(t + 0.1 * lane, 1) for t in range(5) for lane in range(LANES)}
    expected = 30_000 / 15  # a binomial of deviation 43
    assert all(abs(count - expected) < 5 * 43 for count in drawn.values())


def test_a_sample_is_a_copy() -> None:
    replay = Replay(8, seed=0).add(Lives().rollout(4))
    batch, before = replay.sample(20), contents(replay).clone()
    batch.reward.fill_(-1.0)
    assert torch.equal(contents(replay), before)


def through_a_file(state: dict[str, Any], path: Path) -> dict[str, Any]:
    serialization.write(path, state, "test")
    return serialization.read(path, "test")[0]


def same(one: Transitions, two: Transitions) -> bool:
    return all(torch.equal(mine, theirs) for (_, mine), (_, theirs) in zip(leaves(one), leaves(two), strict=True))


@pytest.mark.parametrize("lengths", [[], [3], [5, 4]], ids=["empty", "partly filled", "gone round"])
def test_it_continues_from_a_file_bit_for_bit(lengths: list[int], tmp_path: Path) -> None:
    worlds, replay = [Lives(), Lives()], Replay(7, seed=3)
    for steps in lengths:
        replay.add(worlds[0].rollout(steps))
        worlds[1].rollout(steps)
        replay.sample(5)
    other = Replay(7, seed=3 if not lengths else 99)
    other.load_state(through_a_file(replay.state(), tmp_path / "replay"))
    for steps in (1, 4, 9):
        for world, each in zip(worlds, (replay, other), strict=True):
            each.add(world.rollout(steps))
        assert same(replay.sample(50), other.sample(50))
        assert (replay.size, replay.position, replay.new) == (other.size, other.position, other.new)


def test_two_that_continue_from_one_state_do_not_disturb_each_other() -> None:
    first = Replay(4, seed=0).add(Lives().rollout(3))
    state = first.state()
    second, third = Replay(4, seed=0), Replay(4, seed=0)
    second.load_state(state)
    third.load_state(state)
    before = contents(third).clone()
    second.add(Lives().rollout(4))
    assert torch.equal(contents(third), before)
    assert torch.equal(contents(first), before)


def test_equal_seeds_draw_alike_whatever_the_process_draws() -> None:
    drawn = []
    for noise in (0, 1):
        torch.manual_seed(noise)
        drawn.append(Replay(8, seed=5).add(Lives().rollout(6)).sample(40))
    assert same(*drawn)
    other = Replay(8, seed=6).add(Lives().rollout(6)).sample(40)
    assert not same(drawn[0], other)


def test_a_ring_without_room_or_content_is_refused() -> None:
    with pytest.raises(UsageError, match="replay_capacity"):
        Replay(0, seed=0)
    with pytest.raises(UsageError, match="add a rollout"):
        Replay(3, seed=0).sample(1)

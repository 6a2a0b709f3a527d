"""Random actions and those of examinations are allowed ones, and nothing else about them changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.envs import counter_random
from pistar.envs.allowed import OnlyAllowed, made_allowed, mask_in, random_action
from pistar.envs.environment import Environment, Spaces, State, Step
from pistar.errors import UnknownName, UnsupportedSpace
from pistar.heads import action_head
from pistar.tasks import baselines
from pistar.testing import ContractViolation, check_environment
from pistar.tree import Tree, map_leaves

Space = spaces.Space[Any]
PEDAL = spaces.Box(-1.0, 1.0, (2,), np.float32)
SPACES: dict[str, tuple[Space, dict[str, int] | int]] = {  # and how many numbers a mask of it has, by part
    "discrete": (spaces.Discrete(4, start=2), 4),
    "indices": (spaces.MultiDiscrete([2, 3], start=[1, -1]), 5),
    "grid of indices": (spaces.MultiDiscrete([[2, 3], [4, 2]]), 11),
    "bits": (spaces.MultiBinary((2, 2)), 4),
    "dict": (spaces.Dict({"gear": spaces.Discrete(3), "pedal": PEDAL}), {"gear": 3}),
    "tuple": (spaces.Tuple((PEDAL, spaces.Discrete(3))), {"1": 3}),
}
by_space = pytest.mark.parametrize(("space", "numbers"), SPACES.values(), ids=SPACES)


def masks(numbers: dict[str, int] | int, lanes: int, seed: int = 0) -> Tree:
    if isinstance(numbers, dict):
        return {name: masks(count, lanes, seed) for name, count in numbers.items()}
    return torch.randint(2, (lanes, numbers), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


def probability(space: Space, action: Tree, mask: Tree) -> Tensor:
    """π(a) [B] of the policy that knows nothing but the mask, as learning computes it."""
    head = action_head(space)
    outputs = head.forbid(
        torch.zeros(len(next(iter(mask.values())) if isinstance(mask, dict) else mask), head.size), mask
    )
    return head(outputs).log_prob(head.from_environment(action)).exp()


@by_space
def test_what_is_drawn_is_allowed(space: Space, numbers: Any) -> None:
    lanes = 200
    mask = masks(numbers, lanes)
    space.seed(0)
    action = random_action(space, lanes, torch.device("cpu"), mask)
    assert (probability(space, action, mask) > 0).all()
    rows = [map_leaves(lambda x, lane=lane: x[lane].numpy(), action) for lane in range(lanes)]
    assert all(space.contains(row) for row in rows)
    free = random_action(space, lanes, torch.device("cpu"))
    assert (probability(space, free, mask) == 0).any()


def test_allowed_choices_are_drawn_equally_often() -> None:
    lanes, space = 30_000, spaces.Discrete(4, start=2)
    space.seed(0)
    for mask, expected in (([0, 1, 0, 1], {3, 5}), ([1, 1, 1, 0], {2, 3, 4}), ([0, 0, 0, 0], {2, 3, 4, 5})):
        drawn = random_action(space, lanes, torch.device("cpu"), torch.tensor(mask).expand(lanes, 4))
        values, counts = drawn.unique(return_counts=True)
        assert set(values.tolist()) == expected
        share = 1 / len(expected)
        assert ((counts - lanes * share).abs() < 5 * (lanes * share * (1 - share)) ** 0.5).all()


def test_without_a_mask_the_space_draws_as_it_always_did() -> None:
    for space, _ in SPACES.values():
        space.seed(3)
        drawn = random_action(space, 5, torch.device("cpu"))
        space.seed(3)
        samples = [space.sample() for _ in range(5)]
        stacked = map_leaves(lambda *x: torch.as_tensor(np.stack(x)), samples[0], *samples[1:])
        map_leaves(torch.testing.assert_close, drawn, stacked)


@by_space
def test_an_allowed_action_stays_and_any_other_becomes_one(space: Space, numbers: Any) -> None:
    lanes = 300
    mask = masks(numbers, lanes)
    space.seed(1)
    action = random_action(space, lanes, torch.device("cpu"))
    before = map_leaves(torch.clone, action)
    made = made_allowed(space, action, mask)
    map_leaves(lambda x, y: torch.testing.assert_close(x, y, rtol=0, atol=0), action, before)  # and its type
    assert (probability(space, made, mask) > 0).all()
    fine = probability(space, action, mask) > 0
    assert 0 < int(fine.sum()) < lanes
    map_leaves(lambda x, y: torch.testing.assert_close(x[fine], y[fine], rtol=0, atol=0), made, action)


def test_forbidden_indices_move_up_to_the_next_one_round_and_round() -> None:
    mask = torch.tensor([[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]])
    made = made_allowed(spaces.Discrete(4, start=5), torch.tensor([5, 7, 6, 7]), mask)
    assert made.tolist() == [7, 5, 6, 8]


def test_a_mask_of_what_has_no_choices_is_refused() -> None:
    for call in (random_action, lambda space, lanes, device, mask: made_allowed(space, torch.zeros((lanes, 2)), mask)):
        with pytest.raises(UnsupportedSpace, match=r"of which Box.* has none; leave its mask out"):
            call(PEDAL, 2, torch.device("cpu"), torch.ones((2, 2)))


def test_a_mask_that_is_not_there_is_named() -> None:
    with pytest.raises(UnknownName, match=r"'legla'.*'legal'"):
        mask_in({"legal": torch.ones(1)}, "legla")
    with pytest.raises(UnknownName, match="'legal'"):
        mask_in(torch.ones(1), "legal")


# Worlds.


class Doors(Environment):
    """Three doors, some of them locked, which ones is a function of seed, lane, episode and step; a locked one fails."""

    name, restoring, mask = "doors", "state", "open"

    def __init__(self, lanes: int) -> None:
        self.lanes, self._lane = lanes, torch.arange(lanes)
        seen = spaces.Dict({"open": spaces.MultiBinary(3), "sum": spaces.Box(-np.inf, np.inf, (1,), np.float32)})
        self.spaces = Spaces(seen, spaces.Discrete(3))

    def _open(self) -> Tensor:
        drawn = counter_random.uniform(self._seed, self._lane, self._episode * 100 + self._age, 3)
        return drawn >= drawn.amax(-1, keepdim=True).clamp(max=0.5)  # one of them always is

    def _look(self) -> Tree:
        return {"open": self._open().to(torch.int8), "sum": self._sum.clone().unsqueeze(-1)}

    def _begin(self, lanes: Tensor) -> None:
        self._episode = self._episode + lanes
        self._age, start = (
            self._age.masked_fill(lanes, 0),
            counter_random.uniform(self._seed, self._lane, self._episode, 1),
        )
        self._sum = torch.where(lanes, start[:, 0].float(), self._sum)

    def reset(self, seed: int) -> Tree:
        self._seed, self._age, self._episode = seed, torch.zeros_like(self._lane), torch.full_like(self._lane, -1)
        self._sum = torch.zeros(self.lanes)
        self._begin(torch.ones(self.lanes, dtype=torch.bool))
        return self._look()

    def step(self, action: Tensor) -> Step:
        if not bool(self._open().gather(1, action.unsqueeze(1)).all()):
            raise ValueError("this door is locked")
        self._sum, self._age = self._sum + action, self._age + 1
        ended, final, reward = self._age >= 4 + self._lane % 2, self._look(), action.float()
        self._begin(ended)
        return Step(self._look(), reward, torch.zeros_like(ended), ended, final)

    def cut(self, lanes: Tensor) -> Tree:
        self._begin(lanes)
        return self._look()

    def save(self) -> State:
        state = {name: getattr(self, name).clone() for name in ("_age", "_episode", "_sum")}
        return {**state, "seed": self._seed}

    def restore(self, state: State) -> Tree:
        self._seed = state["seed"]
        for name in ("_age", "_episode", "_sum"):
            setattr(self, name, state[name].clone())
        return self._look()


def test_a_world_with_a_mask_is_examined_with_allowed_actions() -> None:
    check_environment(Doors, lanes=3, steps=30)


class Silent(Doors):
    """Does not tell that it has a mask."""

    mask = None


def test_examined_as_if_it_had_none_it_fails() -> None:
    with pytest.raises(ValueError, match="this door is locked"):
        check_environment(Silent, lanes=3, steps=30)


def test_a_mask_that_does_not_fit_is_a_breach() -> None:
    class Other(Doors):
        mask = "sum"

    with pytest.raises(ContractViolation, match=r"mask is 'sum': .*MultiBinary\(3\)"):
        check_environment(Other, lanes=3, steps=30)


def test_the_random_baseline_chooses_among_all_that_is_allowed_and_nothing_else() -> None:
    world = Doors(50)
    choose, observation, chosen = baselines.random(world, 0), world.reset(0), []
    for _ in range(20):
        chosen.append(choose(observation))
        observation = world.step(chosen[-1]).observation
    assert torch.stack(chosen).unique().tolist() == [0, 1, 2]


def test_only_a_world_with_a_mask_is_wrapped() -> None:
    plain = Silent(2)
    assert OnlyAllowed.around(plain) is plain
    assert isinstance(OnlyAllowed.around(Doors(2)), OnlyAllowed)

"""GRU and LSTM are torch's own, with resets; their written gradients are those of a recorded graph; acting is learning."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pistar.memories.gru import GRU
from pistar.memories.lstm import LSTM
from pistar.memories.memory import Memory, forget
from pistar.tree import Tree, leaves, map_leaves

STEPS, ROWS, INPUTS, SIZE = 9, 5, 3, 4
KINDS = [GRU, LSTM]
by_kind = pytest.mark.parametrize("kind", KINDS)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(kind: Any) -> Memory:
    memory: Memory = kind(INPUTS, SIZE, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for number, parameter in enumerate(memory.parameters()):
            parameter.add_(0.3 * normal(*parameter.shape, seed=number))
    return memory


def example(memory: Memory) -> tuple[Tensor, Tree, Tensor]:
    """Inputs, a state that is not zero, and episodes that begin anywhere, at the first step of some rows too."""
    first = torch.zeros((STEPS, ROWS), dtype=torch.bool)
    first[0, 1] = first[3, 1] = first[3, 2] = first[4, 2] = first[STEPS - 1, 3] = True
    state = map_leaves(lambda x: normal(*x.shape, seed=7).requires_grad_(), memory.initial(ROWS))
    return normal(STEPS, ROWS, INPUTS, seed=8).requires_grad_(), state, first


def step_by_step(memory: Memory, x: Tensor, state: Tree, first: Tensor) -> tuple[Tensor, Tree]:
    return Memory.forward(memory, x, state, first)


@by_kind
def test_without_resets_it_is_torchs_own(kind: Any) -> None:
    memory = make(kind)
    theirs: Any = (nn.GRU if kind is GRU else nn.LSTM)(INPUTS, SIZE).double()
    bias_x, bias_h = (memory.bias_x, memory.bias_h) if isinstance(memory, GRU) else (memory.bias, torch.zeros(4 * SIZE))
    with torch.no_grad():
        for mine, other in (
            (memory.weight_x, theirs.weight_ih_l0),
            (memory.weight_h, theirs.weight_hh_l0),
            (bias_x, theirs.bias_ih_l0),
            (bias_h, theirs.bias_hh_l0),
        ):
            other.copy_(mine)
    x, state, first = example(memory)
    begun = state.unsqueeze(0) if isinstance(state, Tensor) else (state["h"].unsqueeze(0), state["c"].unsqueeze(0))
    torch.testing.assert_close(memory(x, state, torch.zeros_like(first))[0], theirs(x, begun)[0])


@by_kind
def test_learning_is_acting_step_by_step(kind: Any) -> None:
    memory = make(kind)
    x, state, first = example(memory)
    together, alone = memory(x, state, first), step_by_step(memory, x, state, first)
    for (_, mine), (_, theirs) in zip(leaves(together), leaves(alone), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-14)


@by_kind
def test_an_episode_knows_nothing_of_the_one_before(kind: Any) -> None:
    memory = make(kind)
    x, state, first = example(memory)
    whole = memory(x, state, first)[0][3:, 1]
    fresh = memory(x[3:, 1:2], memory.initial(1), torch.zeros((STEPS - 3, 1), dtype=torch.bool))[0][:, 0]
    torch.testing.assert_close(whole, fresh, rtol=0, atol=1e-14)
    poisoned = map_leaves(lambda s: torch.full_like(s, torch.nan), state)
    assert bool(memory(x, poisoned, torch.ones_like(first))[0].isfinite().all())


@by_kind
def test_the_gradient_is_that_of_a_recorded_graph(kind: Any) -> None:
    memory = make(kind)
    x, state, first = example(memory)
    wanted = [x, *memory.parameters(), *(leaf for _, leaf in leaves(state))]
    direction = normal(STEPS, ROWS, SIZE, seed=9)
    mine = torch.autograd.grad((memory(x, state, first)[0] * direction).sum(), wanted)
    theirs = torch.autograd.grad((step_by_step(memory, x, state, first)[0] * direction).sum(), wanted)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
        assert float(other.abs().max()) > 0


@by_kind
def test_gradients_of_gradients_and_traced_code_take_torchs_way(kind: Any) -> None:
    memory = make(kind)
    x, state, first = example(memory)
    short, begun, fixed = (
        x[:4, :2].detach().requires_grad_(),
        map_leaves(lambda s: s[:2].detach(), state),
        first[:4, :2],
    )
    assert torch.autograd.gradgradcheck(lambda x: memory(x, begun, fixed)[0], (short,))
    along = torch.func.jvp(lambda x: memory(x, begun, fixed)[0], (short.detach(),), (normal(4, 2, INPUTS),))[1]
    step = 1e-6
    with torch.no_grad():
        ends = [memory(short + sign * step * normal(4, 2, INPUTS), begun, fixed)[0] for sign in (1, -1)]
    torch.testing.assert_close(along, (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-8)


@by_kind
def test_what_is_remembered_carries_no_gradient(kind: Any) -> None:
    memory = make(kind)
    assert not any(leaf.requires_grad for _, leaf in leaves(memory(*example(memory))[1]))


@by_kind
def test_weights_are_drawn_from_the_generator_alone(kind: Any) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, other = (kind(INPUTS, SIZE, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    square = one.weight_h.view(-1, SIZE, SIZE)
    torch.testing.assert_close(square @ square.transpose(1, 2), torch.eye(SIZE).expand_as(square))


def test_forgetting_leaves_the_given_state_alone() -> None:
    state = {"h": torch.ones(3, 2)}
    kept = copy.deepcopy(state)
    after = forget(state, torch.tensor([True, False, True]))
    assert after["h"].tolist() == [[0, 0], [1, 1], [0, 0]]
    assert torch.equal(state["h"], kept["h"])

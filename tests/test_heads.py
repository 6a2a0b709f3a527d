from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.errors import UnsupportedSpace, UsageError
from pistar.heads import (
    HIGHEST_LOG_STD,
    LOWEST_LOG_STD,
    CategoricalHead,
    GaussianHead,
    Head,
    JointHead,
    action_head,
)
from pistar.policy import as_numpy
from pistar.tree import Tree, leaves, map_leaves

INFINITY = float("inf")
GRID_START = np.array([[0, 5], [-2, 1]])
NESTED = spaces.Dict({
    "gear": spaces.Discrete(5, start=-1),
    "pedals": spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 3.0], np.float32)),
    "rest": spaces.Tuple((
        spaces.MultiBinary([2, 2]),
        spaces.MultiDiscrete(np.array([[2, 3], [4, 1]]), start=GRID_START),
        spaces.Dict({"deep": spaces.Box(-2.0, 1.0, (2, 2), np.float64)}),
    )),
})  # fmt: skip
SPACES: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(4),
    "discrete from 3": spaces.Discrete(4, start=3, dtype=np.int32),
    "multi-discrete": spaces.MultiDiscrete([2, 3, 4]),
    "multi-discrete grid": spaces.MultiDiscrete(np.array([[2, 3], [4, 1]]), start=GRID_START, dtype=np.int32),
    "multi-binary": spaces.MultiBinary(3),
    "multi-binary grid": spaces.MultiBinary([2, 3]),
    "box": spaces.Box(-1.0, 1.0, (3,), np.float32),
    "asymmetric box": spaces.Box(np.array([-2.0, 0.1, 7.0], np.float32), np.array([0.3, 0.2, 1e6], np.float32)),
    "matrix box": spaces.Box(-3.0, 5.0, (2, 3), np.float32),
    "scalar box": spaces.Box(-3.0, 5.0, (), np.float32),
    "double box": spaces.Box(np.array([0.1, -1 / 3]), np.array([0.7, 1 / 3]), dtype=np.float64),
    "half box": spaces.Box(-0.1, 0.3, (2,), np.float16),
    "unbounded box": spaces.Box(-INFINITY, INFINITY, (2,), np.float32),
    "half-bounded box": spaces.Box(np.array([0.5, -INFINITY], np.float32), np.array([INFINITY, 2.0], np.float32)),
    "point box": spaces.Box(np.array([0.5, -1.0], np.float32), np.array([0.5, 1.0], np.float32)),
    "nested": NESTED,
    "tuple": spaces.Tuple((spaces.Discrete(3), spaces.Box(-1.0, 1.0, (1,), np.float32))),
}
UNBOUNDED = ("unbounded box", "half-bounded box")
by_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
by_space_and_squash = pytest.mark.parametrize(
    ("space", "squash"),
    [
        pytest.param(space, squash, id=f"{name}{' squashed' if squash else ''}")
        for name, space in SPACES.items()
        for squash in (False, True)
        if not (squash and name in UNBOUNDED)
    ],
)


def sample(head: Head, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, spread: float = 3.0) -> Tree:
    """Actions from outputs that are spread wide, so that bounds are met."""
    generator = torch.Generator().manual_seed(0)
    outputs = spread * torch.randn(*shape, head.size, generator=generator, dtype=dtype)
    with torch.no_grad():
        return head(outputs).sample(head.noise(shape, generator, dtype, "cpu"))


def entries(space: spaces.Space[Any], action: Tree, count: int) -> list[Any]:
    """A batch of environment actions as single NumPy elements."""
    batch = as_numpy(space, action)
    return [map_leaves(lambda x, i=i: x[i], batch) for i in range(count)]


def assert_contained(space: spaces.Space[Any], element: Any) -> None:
    assert space.contains(map_leaves(np.asarray, element)), f"{element} is not in {space}"


@by_space_and_squash
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sampled_actions_are_elements_of_the_space(space: spaces.Space[Any], dtype: torch.dtype, squash: bool) -> None:
    head = action_head(space, squash=squash).to(dtype)
    action = head.to_environment(sample(head, (64,), dtype))
    for element in entries(space, action, 64):
        assert_contained(space, element)
    for (path, leaf), (_, truth) in zip(leaves(action), leaves(as_tensors(space)), strict=True):
        assert leaf.dtype == truth.dtype, path
        assert leaf.shape == (64, *truth.shape), path


def as_tensors(space: spaces.Space[Any]) -> Tree:
    return map_leaves(lambda x: torch.as_tensor(np.asarray(x)), space.sample())


@by_space
def test_actions_may_have_any_leading_shape(space: spaces.Space[Any]) -> None:
    head = action_head(space)
    for shape in ((), (3,), (2, 3)):
        action = sample(head, shape)
        assert head(torch.zeros(*shape, head.size)).log_prob(action).shape == shape
        there = head.to_environment(action)
        back = head.from_environment(there)
        for (_, leaf), (_, truth) in zip(leaves(there), leaves(as_tensors(space)), strict=True):
            assert leaf.shape == (*shape, *truth.shape)
        for (_, found), (_, original) in zip(leaves(back), leaves(action), strict=True):
            assert found.shape == original.shape


@by_space_and_squash
def test_environment_actions_come_back(space: spaces.Space[Any], squash: bool) -> None:
    """to_environment ∘ from_environment is the identity on the space."""
    space.seed(0)
    head = action_head(space, squash=squash)
    samples = [space.sample() for _ in range(32)]
    batch = map_leaves(lambda *x: torch.as_tensor(np.stack(x)), samples[0], *samples[1:])
    again = head.to_environment(head.from_environment(batch))
    for (_, found), (_, truth) in zip(leaves(again), leaves(batch), strict=True):
        if truth.is_floating_point():
            coarse = truth.dtype == torch.float16
            torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-3 if coarse else 1e-5 * span(truth))
        else:
            assert torch.equal(found, truth)


def span(x: Tensor) -> float:
    return max(1.0, float(x.abs().max()))


def test_policy_actions_inside_the_bounds_come_back() -> None:
    for squash in (False, True):
        head = action_head(SPACES["asymmetric box"], squash=squash).double()
        action = torch.linspace(-0.99, 0.99, 33, dtype=torch.float64).unsqueeze(-1).expand(33, 3)
        there = head.to_environment(action)
        torch.testing.assert_close(head.from_environment(there), action, rtol=0, atol=1e-4)


def test_policy_indices_come_back() -> None:
    for name in ("discrete from 3", "multi-discrete grid", "multi-binary grid"):
        head = action_head(SPACES[name])
        action = sample(head, (50,))
        back = head.from_environment(head.to_environment(action))
        assert torch.equal(back, action)


def test_the_unit_interval_is_mapped_affinely_to_the_bounds_and_clipped_there() -> None:
    head = action_head(spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([4.0, 1.0], np.float32)))
    unit = torch.tensor([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [0.5, -0.5], [-9.0, 9.0]])
    expected = torch.tensor([[-2.0, 0.0], [1.0, 0.5], [4.0, 1.0], [2.5, 0.25], [-2.0, 1.0]])
    torch.testing.assert_close(head.to_environment(unit), expected)


def test_log_prob_is_that_of_the_unclipped_action() -> None:
    head = action_head(spaces.Box(-1.0, 1.0, (1,), np.float32))
    distribution = head(torch.zeros(2, 1))
    far, further = distribution.log_prob(torch.tensor([[2.0], [3.0]]))
    assert far > further


@pytest.mark.parametrize("limit", [INFINITY, float(np.finfo(np.float32).max)])
def test_unbounded_dimensions_are_passed_on(limit: float) -> None:
    head = action_head(spaces.Box(np.array([-limit, 0.5], np.float32), np.array([limit, limit], np.float32)))
    action = torch.tensor([[-1e6, -1e6], [1e6, 1e6]])
    assert head.to_environment(action).tolist() == [[-1e6, 0.5], [1e6, 1e6]]


@pytest.mark.parametrize("name", UNBOUNDED)
def test_squashing_without_bounds_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="finite bounds"):
        action_head(spaces.Dict({"part": SPACES[name]}), squash=True)


def test_squashed_bounds_come_back_as_finite_numbers() -> None:
    head = action_head(spaces.Box(-2.0, 2.0, (1,), np.float32), squash=True)
    back = head.from_environment(torch.tensor([[-2.0], [2.0]]))
    assert back.isfinite().all()
    assert head.to_environment(back).abs().min() > 1.999


# The deviation.


def test_log_std_is_bounded_and_comes_back_from_outside() -> None:
    head = action_head(spaces.Box(-1.0, 1.0, (2,), np.float32))
    assert isinstance(head, GaussianHead)
    for value, bound in ((-50.0, LOWEST_LOG_STD), (50.0, HIGHEST_LOG_STD)):
        with torch.no_grad():
            head.log_std.fill_(value)
        assert (head.bounded_log_std() == bound).all()
        for direction in (-1.0, 1.0):
            head.zero_grad()
            (direction * head.bounded_log_std().sum()).backward()  # type: ignore[no-untyped-call]
            assert head.log_std.grad is not None
            inwards = direction * value > 0  # descent moves against the gradient
            assert (head.log_std.grad == (direction if inwards else 0.0)).all()
    with torch.no_grad():
        head.log_std.fill_(0.3)
    assert torch.equal(head.bounded_log_std(), head.log_std)


def test_options_reach_every_nested_gaussian() -> None:
    head = action_head(NESTED, initial_log_std=0.25, squash=True)
    gaussians = [module for module in head.modules() if isinstance(module, GaussianHead)]
    assert len(gaussians) == 2
    assert all(g.squash and (g.log_std == 0.25).all() for g in gaussians)


@pytest.mark.parametrize("value", [-5.1, 2.1, float("nan")])
def test_an_initial_deviation_out_of_bounds_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match="initial_log_std"):
        action_head(spaces.Box(-1.0, 1.0, (1,), np.float32), initial_log_std=value)


# Structure.


def test_a_joint_head_gives_every_part_its_own_outputs() -> None:
    """Moving the outputs of one part changes the log-probability of that part alone."""
    head = action_head(NESTED)
    assert isinstance(head, JointHead)
    assert head.size == 5 + 2 + (4 + 10 + 4)
    outputs = torch.randn(head.size, generator=torch.Generator().manual_seed(1), requires_grad=True)
    action = sample(head, ())
    parts = head(outputs.detach()).components
    gear = head(outputs).components["gear"].log_prob(action["gear"])
    (gradient,) = torch.autograd.grad(gear, outputs)
    assert (gradient[:5] != 0).all()
    assert (gradient[5:] == 0).all()
    assert list(parts) == ["gear", "pedals", "rest"]
    assert isinstance(action["rest"], tuple)


@by_space
def test_noise_is_one_draw_that_a_rollout_can_replay_row_by_row(space: spaces.Space[Any]) -> None:
    head = action_head(space)
    noise = head.noise((5, 3), torch.Generator().manual_seed(0), torch.float32, "cpu")
    outputs = torch.randn(5, 3, head.size, generator=torch.Generator().manual_seed(1))
    together = head(outputs).sample(noise)
    for t in range(5):
        alone = head(outputs[t]).sample(map_leaves(lambda x, t=t: x[t], noise))
        for (_, row), (_, whole) in zip(leaves(alone), leaves(together), strict=True):
            assert torch.equal(row, whole[t])


@by_space
def test_buffers_are_no_part_of_the_artefact(space: spaces.Space[Any]) -> None:
    """Bounds follow from the space; a file that held them too could contradict it."""
    assert {name.rpartition(".")[2] for name in action_head(space).state_dict()} <= {"log_std"}


def test_unknown_spaces_are_refused_with_what_is_known() -> None:
    with pytest.raises(UnsupportedSpace, match=r"Text space \(known: Box, .*Tuple\).*register"):
        action_head(spaces.Text(5))
    with pytest.raises(UnsupportedSpace, match=r"Box of int32.*MultiDiscrete"):
        action_head(spaces.Box(0, 3, (2,), np.int32))
    with pytest.raises(UnsupportedSpace, match="Text"):
        action_head(spaces.Dict({"inside": spaces.Tuple((spaces.Text(5),))}))


def test_a_space_of_ones_own_gets_its_head_by_registering_it() -> None:
    class Coin(spaces.Space[int]):
        pass

    @action_head.register(Coin)
    def _(space: Coin, **options: Any) -> Head:
        return CategoricalHead(spaces.Discrete(2))

    assert action_head(Coin()).size == 2
    assert action_head(spaces.Dict({"coin": Coin(), "box": SPACES["box"]})).size == 5

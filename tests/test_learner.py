"""The learner against arithmetic done by hand: steps, parts, averages, clipping, and what it refuses."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from pistar import serialization
from pistar.envs.environment import Spaces
from pistar.errors import NumericalError, UnknownName, UsageError
from pistar.heads import action_head
from pistar.learner import Learner
from pistar.policy import Evaluation, Policy
from pistar.testing.algorithms.trials import difference
from pistar.tree import Tree

Loss = tuple[Tensor, dict[str, Tensor]]


class Numbers(Policy):
    """Nothing but parameters: two tensors of the actor, one of the critic, one that is tracked and not trained."""

    seen: Tensor

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        space = spaces.Discrete(2)
        self.spaces, self.kind = Spaces(spaces.Box(0.0, 1.0, (1,), np.float32), space), None
        self.head = action_head(space)
        self.a = nn.Parameter(torch.tensor([1.0, -2.0], dtype=dtype))
        self.b = nn.Parameter(torch.tensor([[3.0]], dtype=dtype))
        self.critic = nn.Parameter(torch.tensor([0.5], dtype=dtype))
        self.target = nn.Parameter(torch.tensor([4.0], dtype=dtype), requires_grad=False)
        self.register_buffer("seen", torch.zeros((), dtype=dtype))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return {"actor": [self.a, self.b], "critic": [self.critic], "target": [self.target]}

    def outputs(self, observation: Tree, memory: Tree = None, is_first: Tensor | None = None) -> tuple[Tensor, Tree]:
        raise NotImplementedError

    def evaluate(self, observation: Tree, action: Tree) -> Evaluation:
        raise NotImplementedError


CURVATURE = torch.tensor([2.0, 0.5, 1.0, 4.0], dtype=torch.float64)
GOAL = torch.tensor([0.0, 1.0, -1.0, 2.0], dtype=torch.float64)


def every(policy: Policy) -> Tensor:
    """Parameters that are trained, as the policy sees them: [4]."""
    return torch.cat([parameter.flatten() for parameter in policy.parameters() if parameter.requires_grad])


def quadratic(policy: Policy, batch: Any) -> Loss:
    """½ Σ c (θ − g)², whose gradient is c (θ − g)."""
    value = 0.5 * (CURVATURE * (every(policy) - GOAL) ** 2).sum()
    return value, {"value": value.detach()}


def slope(parameters: Tensor) -> Tensor:
    return CURVATURE * (parameters - GOAL)


def make(**options: Any) -> Learner:
    return Learner(Numbers(), **{"optimizer": "sgd", "learning_rate": 0.1, **options})


@pytest.fixture
def learner() -> Learner:
    return make()


def trained(learner: Learner) -> Tensor:
    return learner.parameters[:4].clone()


def snapshot(learner: Learner) -> dict[str, Any]:
    return copy.deepcopy({name: value for name, value in learner.state().items() if name != "generator"})


# Steps.


def test_the_policy_computes_with_the_learners_vector(learner: Learner) -> None:
    assert learner.parameters.tolist() == [1.0, -2.0, 3.0, 0.5, 4.0]
    learner.set("actor", torch.tensor([7.0, 8.0, 9.0], dtype=torch.float64))
    assert every(learner.policy).tolist() == [7.0, 8.0, 9.0, 0.5]
    assert learner.policy.b.shape == (1, 1)


def test_a_plain_step_is_that_of_the_formula(learner: Learner) -> None:
    before = trained(learner)
    metrics = learner.descend(quadratic, None)
    assert torch.allclose(trained(learner), before - 0.1 * slope(before), rtol=0, atol=1e-15)
    assert float(metrics["gradient_norm"]) == pytest.approx(float(slope(before).norm()), rel=1e-15)
    assert float(metrics["value"]) == pytest.approx(float(0.5 * (CURVATURE * (before - GOAL) ** 2).sum()))
    assert learner.updates == 1


def test_adam_is_adam() -> None:
    learner = make(optimizer="adam", learning_rate=0.05, adam_epsilon=1e-5)
    first = second = torch.zeros(4, dtype=torch.float64)
    expected = trained(learner)
    for step in range(1, 6):
        gradient = slope(expected)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        ratio = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-5)
        expected = expected - 0.05 * ratio
        learner.descend(quadratic, None)
        assert torch.allclose(trained(learner), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_arrives_at_the_minimum(optimizer: str) -> None:
    learner = make(optimizer=optimizer, learning_rate=0.2)
    for step in range(400):
        learner.set_learning_rate(0.2 * (1 - step / 400))
        learner.descend(quadratic, None)
    assert torch.allclose(trained(learner), GOAL, rtol=0, atol=1e-4)


# Parts.


def test_parts_that_are_not_asked_for_stand_still(learner: Learner) -> None:
    before = trained(learner)
    metrics = learner.descend(quadratic, None, parts=["critic"])
    assert torch.equal(trained(learner)[:3], before[:3])
    assert trained(learner)[3] == before[3] - 0.1 * slope(before)[3]
    assert float(metrics["gradient_norm"]) == abs(float(slope(before)[3]))  # of the parts that are stepped


def test_each_part_has_moments_of_its_own() -> None:
    together, apart = (make(optimizer="adam") for _ in range(2))
    for _ in range(5):
        together.descend(quadratic, None)
        apart.descend(quadratic, None, parts=["actor"])
    for _ in range(5):
        apart.descend(quadratic, None, parts=["critic"])
    assert torch.equal(together.parameters, apart.parameters)


def test_each_part_has_a_learning_rate_of_its_own(learner: Learner) -> None:
    before = trained(learner)
    learner.set_learning_rate(0.3)
    learner.set_learning_rate(0.0, "actor")
    learner.descend(quadratic, None)
    assert torch.equal(trained(learner)[:3], before[:3])
    assert trained(learner)[3] == before[3] - 0.3 * slope(before)[3]
    assert learner.learning_rates() == {"actor": 0.0, "critic": 0.3}


def test_a_slope_is_that_of_one_part_and_moves_nothing(learner: Learner) -> None:
    before = snapshot(learner)
    found, metrics = learner.slope(quadratic, None, "actor")
    assert found.tolist() == slope(trained(learner))[:3].tolist()
    assert set(metrics) == set(quadratic(learner.policy, None)[1])
    assert difference(before, snapshot(learner)) is None
    learner.gradient.zero_()
    assert found.tolist() == slope(trained(learner))[:3].tolist()  # a vector of its own


def test_set_replaces_one_part_and_vector_shows_it(learner: Learner) -> None:
    learner.set("critic", torch.tensor([-1.0], dtype=torch.float64))
    assert learner.parameters.tolist() == [1.0, -2.0, 3.0, -1.0, 4.0]
    view = learner.vector("actor")
    assert view.tolist() == [1.0, -2.0, 3.0]
    learner.set("actor", view + 1)
    assert view.tolist() == [2.0, -1.0, 4.0]
    assert learner.updates == 0


def test_a_part_that_is_not_there_is_named(learner: Learner) -> None:
    for ask in (learner.vector, lambda part: learner.track(part, "critic"), lambda part: learner.set(part, GOAL)):
        with pytest.raises(UnknownName, match="did you mean 'critic'"):
            ask("critics")


# Averages.


@pytest.mark.parametrize("rate", [0.0, 0.005, 0.3, 0.75, 1.0])
def test_tracking_is_polyaks_average(learner: Learner, rate: float) -> None:
    learner.track("target", "critic", rate)
    assert float(learner.vector("target")) == pytest.approx(4.0 + rate * (0.5 - 4.0), rel=1e-15)
    assert float(learner.vector("critic")) == 0.5


def test_tracking_again_and_again_forgets_geometrically_and_rate_one_copies(learner: Learner) -> None:
    for _ in range(7):
        learner.track("target", "critic", 0.2)
    assert float(learner.vector("target")) - 0.5 == pytest.approx(3.5 * 0.8**7, rel=1e-14)
    learner.track("target", "critic")
    assert torch.equal(learner.vector("target"), learner.vector("critic"))


def test_a_tracked_part_is_never_descended() -> None:
    learner = make(optimizer="adam")

    def loss(policy: Policy, batch: Any) -> Loss:
        return ((every(policy) - policy.target) ** 2).sum(), {}  # type: ignore[operator]

    learner.descend(loss, None)
    assert float(learner.vector("target")) == 4.0


# Clipping.


@pytest.mark.parametrize("limit", [0.01, 1.0, 4.0])
def test_a_gradient_that_is_too_long_is_scaled_to_the_limit(limit: float) -> None:
    learner = make(max_gradient_norm=limit)
    before = trained(learner)
    metrics = learner.descend(quadratic, None)
    taken, gradient = (before - trained(learner)) / 0.1, slope(before)
    assert limit < float(gradient.norm())
    assert float(taken.norm()) == pytest.approx(limit, rel=1e-6)
    assert torch.allclose(taken / taken.norm(), gradient / gradient.norm(), rtol=0, atol=1e-12)
    assert float(metrics["gradient_norm"]) == pytest.approx(float(gradient.norm()))  # as it was before


@pytest.mark.parametrize("limit", [0.0, 100.0])
def test_a_gradient_within_the_limit_is_left_alone(limit: float) -> None:
    clipped, free = make(max_gradient_norm=limit), make()
    for learner in (clipped, free):
        learner.descend(quadratic, None)
    assert torch.equal(clipped.parameters, free.parameters)


def test_the_limit_is_for_the_parts_that_are_stepped() -> None:
    learner = make(max_gradient_norm=7.0)
    before = trained(learner)
    assert float(slope(before)[3].abs()) < 7.0 < float(slope(before).norm())
    learner.descend(quadratic, None, parts=["critic"])
    assert trained(learner)[3] == before[3] - 0.1 * slope(before)[3]


# What it refuses.


def poisoned(name: str, value: float, gradient_too: bool) -> Any:
    """The quadratic, plus ``value`` times a parameter, or plus ``value`` alone."""

    def loss(policy: Policy, batch: Any) -> Loss:
        healthy, metrics = quadratic(policy, batch)
        factor = dict(policy.named_parameters())[name].flatten()[0] if gradient_too else 1.0
        return healthy + factor * value, metrics

    return loss


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("gradient_too", [True, False], ids=["gradient", "loss"])
@pytest.mark.parametrize(("name", "parts"), [("a", None), ("critic", None), ("critic", ["critic"])])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_what_is_not_finite_is_refused_and_nothing_moved(
    optimizer: str, name: str, parts: list[str] | None, gradient_too: bool, value: float
) -> None:
    learner = make(optimizer=optimizer, max_gradient_norm=0.5)
    for _ in range(3):
        learner.descend(quadratic, None)
    before = snapshot(learner)
    with pytest.raises(NumericalError, match="nothing was updated") as caught:
        learner.descend(poisoned(name, value, gradient_too), None, parts)
    assert difference(before, snapshot(learner)) is None
    what = f"the gradient is not finite after 3 updates.*first in {name}" if gradient_too else "the loss is not finite"
    assert caught.match(what)
    learner.descend(quadratic, None)  # and it can go on
    assert learner.updates == 4


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("gradient_too", [True, False])
def test_a_slope_that_is_not_finite_is_refused(gradient_too: bool, value: float, learner: Learner) -> None:
    with pytest.raises(NumericalError, match="not finite"):
        learner.slope(poisoned("a", value, gradient_too), None, "actor")


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_parameters_that_are_not_finite_are_not_set(value: float, learner: Learner) -> None:
    before = snapshot(learner)
    with pytest.raises(NumericalError, match="new parameters of the actor are not finite"):
        learner.set("actor", torch.tensor([0.0, value, 0.0]))
    assert difference(before, snapshot(learner)) is None


def test_an_infinite_loss_with_a_finite_gradient_is_refused(learner: Learner) -> None:
    """Huber's error of an infinite target has the gradient ± 1: it looks healthy and teaches nothing."""

    def loss(policy: Policy, batch: Any) -> Loss:
        return nn.functional.smooth_l1_loss(every(policy), torch.full_like(GOAL, math.inf)), {}

    before = snapshot(learner)
    with pytest.raises(NumericalError, match="the loss is not finite"):
        learner.descend(loss, None)
    assert difference(before, snapshot(learner)) is None


def test_a_norm_that_overflows_is_refused_too() -> None:
    learner = Learner(Numbers(torch.float32), optimizer="sgd", learning_rate=0.1)
    before = snapshot(learner)

    def loss(policy: Policy, batch: Any) -> Loss:
        change = every(policy) - every(policy).detach()  # 0, with the gradient 1
        return 3e38 * change.sum(), {}

    with pytest.raises(NumericalError, match="overflowed in the norm"):
        learner.descend(loss, None)
    assert difference(before, snapshot(learner)) is None


# Its state.


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_continues_from_a_file_bit_for_bit(optimizer: str, tmp_path: Path) -> None:
    def tilted(policy: Policy, tilt: Tensor) -> Loss:
        return quadratic(policy, None)[0] + (tilt * every(policy)).sum(), {}

    def go_on(learner: Learner) -> None:
        for _ in range(4):
            learner.descend(tilted, torch.rand(4, generator=learner.generator, dtype=torch.float64))
            learner.track("target", "critic", 0.1)
            learner.policy.seen.add_(1.0)  # type: ignore[operator]

    learner, other = make(optimizer=optimizer, seed=1), make(optimizer=optimizer, seed=2)
    go_on(learner)
    serialization.write(tmp_path / "learner", learner.state(), "test")
    other.load_state(serialization.read(tmp_path / "learner", "test")[0])
    for each in (learner, other):
        go_on(each)
    assert difference(learner.state(), other.state()) is None
    assert float(other.policy.seen) == 8.0  # type: ignore[arg-type]
    assert other.updates == 8


def test_minibatches_do_not_depend_on_what_the_process_draws() -> None:
    drawn = []
    for noise in (0, 1):
        torch.manual_seed(noise)
        drawn.append(torch.rand(3, generator=make(seed=4).generator))
    assert torch.equal(*drawn)


@pytest.mark.parametrize(
    ("parts", "count"), [({"actor": ["a", "b"]}, 0), ({"actor": ["a", "b", "critic"], "critic": ["critic"]}, 2)]
)
def test_a_parameter_in_no_part_or_in_two_is_refused(
    monkeypatch: pytest.MonkeyPatch, parts: dict[str, list[str]], count: int
) -> None:
    monkeypatch.setattr(
        Numbers, "parts", lambda self: {name: [getattr(self, each) for each in part] for name, part in parts.items()}
    )
    with pytest.raises(UsageError, match=rf"critic is in {count} of its parts"):
        Learner(Numbers())

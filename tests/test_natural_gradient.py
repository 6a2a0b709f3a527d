"""Fisher products against the matrix itself, whose expectations over actions are exact sums; and what is done with them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from pistar import natural_gradient, tabular
from pistar.algorithms.npg import NPG
from pistar.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Distribution,
    FeatureGaussian,
    Gaussian,
    Joint,
    MultiCategorical,
    SquashedGaussian,
)
from pistar.envs.environment import Spaces
from pistar.heads import HIGHEST_LOG_STD, LOWEST_LOG_STD
from pistar.learner import Learner
from pistar.policies.linear_softmax import LinearSoftmax
from pistar.policies.mlp import MLP
from pistar.policy import ActorCritic, Policy
from pistar.rollout import Rollout
from pistar.schedules import constant, linear
from pistar.tabular import FiniteMDP
from pistar.tree import Tree, leaves

STATES = 3
BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
ACTIONS: dict[str, tuple[spaces.Space[Any], dict[str, Any]]] = {
    "categorical": (spaces.Discrete(3), {}),
    "gaussian": (BOX, {}),
    "squashed": (BOX, {"squash": True}),
    "state-gaussian": (BOX, {"distribution": "state-gaussian"}),
    "gsde": (BOX, {"distribution": "gsde"}),
    "beta": (spaces.Box(-1.0, 1.0, (1,), np.float32), {"distribution": "beta"}),
    "bernoulli": (spaces.MultiBinary(2), {}),
    "multicategorical": (spaces.MultiDiscrete([2, 3]), {}),
    "joint": (spaces.Dict({"gear": spaces.Discrete(2), "pedal": BOX}), {}),
    "nested": (spaces.Tuple((spaces.MultiBinary(1), spaces.Tuple((spaces.Discrete(3), BOX)))), {}),
}
by_actions = pytest.mark.parametrize("name", ACTIONS)


def build(name: str, **options: Any) -> Policy:
    """A small policy in float64, far from its start."""
    space, own = ACTIONS[name]
    kind = MLP(hidden=(4,), critic_hidden=(3,), last_gain=1.0, normalize=False, **{**own, **options})
    generator = torch.Generator().manual_seed(0)
    policy = kind.build(Spaces(spaces.Box(-1.0, 1.0, (2,), np.float32), space), generator).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return policy


def observations(count: int = STATES, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn((count, 2), generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(dtype)


def distributed(observation: Tensor) -> Callable[[Policy], Distribution]:
    return lambda policy: policy.head(policy.outputs(observation)[0])


def support(distribution: Distribution, rows: int) -> list[tuple[Tree, Tensor]]:
    """Actions [rows, ...] and their probabilities [rows] with which expectations of quartic polynomials are exact."""
    if isinstance(distribution, Categorical):
        probability = distribution.logits.softmax(-1)
        return [(torch.full((rows,), i), probability[:, i]) for i in range(probability.shape[-1])]
    if isinstance(distribution, Bernoulli):
        one = distribution.logits.sigmoid()
        bits = itertools.product((0, 1), repeat=one.shape[-1])
        tensors = [torch.tensor(chosen, dtype=torch.int8).expand(rows, -1) for chosen in bits]
        return [(bit, torch.where(bit > 0, one, 1 - one).prod(-1)) for bit in tensors]
    if isinstance(distribution, FeatureGaussian):
        return support(distribution.marginal, rows)
    if isinstance(distribution, Beta):  # of one dimension; no polynomials, but the sum converges as fast on this grid
        grid = torch.linspace(-18.0, 18.0, 361, dtype=torch.float64)
        places = [u.expand(rows, 1) for u in grid]
        width = 0.1 / grid.cosh().square()
        return [(u, distribution.log_prob(u).exp() * w) for u, w in zip(places, width, strict=True)]
    if isinstance(distribution, Gaussian | SquashedGaussian):
        nodes, weights = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(5))
        weights = weights / weights.sum()
        found = []
        for index in itertools.product(range(5), repeat=distribution.mean.shape[-1]):
            chosen = torch.tensor(index)
            action = distribution.mean + distribution.log_std.exp() * nodes[chosen]
            found.append((action.detach(), weights[chosen].prod().expand(rows)))
        return found
    if isinstance(distribution, MultiCategorical):
        return [(torch.stack(action, -1), p) for action, p in support(distribution.joint, rows)]
    assert isinstance(distribution, Joint)
    named = isinstance(distribution.components, dict)
    parts = distribution.components.values() if named else distribution.components
    combined = []
    for choice in itertools.product(*(support(part, rows) for part in parts)):
        action: Any = tuple(each for each, _ in choice)
        probability = torch.stack([p for _, p in choice]).prod(0)
        combined.append((dict(zip(distribution.components, action, strict=True)) if named else action, probability))
    return combined


def exact_fisher(policy: Policy, observation: Tensor, weight: Tensor) -> Tensor:
    """Σ_s w_s E_a[∇log π ∇log πᵀ] / Σ w of the actor, one backward pass for each state and action."""
    actor = policy.parts()["actor"]
    size = sum(parameter.numel() for parameter in actor)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    with torch.no_grad():
        actions = support(distributed(observation)(policy), len(observation))
    for action, probability in actions:
        log_prob = distributed(observation)(policy).log_prob(action)
        for row in range(len(observation)):
            score = torch.cat([g.flatten() for g in torch.autograd.grad(log_prob[row], actor, retain_graph=True)])
            matrix += weight[row] / weight.sum() * probability[row] * torch.outer(score, score)
    return matrix


def as_matrix(product: natural_gradient.Product, size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.stack([product(column) for column in torch.eye(size, dtype=dtype)], dim=1)


@by_actions
def test_products_are_those_of_the_exact_fisher_matrix(name: str) -> None:
    policy, observation = build(name), observations()
    weight = torch.tensor([1.0, 0.0, 2.5], dtype=torch.float64)
    truth = exact_fisher(policy, observation, weight)
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    product = natural_gradient.fisher_product(policy, policy.parts()["actor"], distributed(observation), weight)
    found = as_matrix(product, len(truth))
    assert truth.abs().max() > 0.1
    # The polygamma functions of a Beta's divergence are good to ten digits.
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-9 if name == "beta" else 1e-12)
    assert all(torch.equal(old, new) for old, new in zip(before, policy.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in policy.parameters())


class Once(torch.autograd.Function):
    """Differentiable forwards, and backwards once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return x.exp()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * ctx.saved_tensors[0].exp()

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return tangents[0] * ctx.saved_tensors[0].exp()


class Recurrent(torch.nn.Module):
    """Outputs of a layer that torch cannot differentiate twice in single precision."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(2, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x.unsqueeze(0))[0].squeeze(0)  # type: ignore[no-any-return]


@by_actions
def test_forward_differentiation_finds_the_same(name: str) -> None:
    policy, observation = build(name), observations()
    actor = policy.parts()["actor"]
    outputs = {path: leaf for path, leaf in leaves(distributed(observation)(policy)) if leaf.requires_grad}
    vector = torch.randn(sum(p.numel() for p in actor), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one = natural_gradient.backwards_twice(outputs, actor)(vector)
    other = natural_gradient.forwards(policy, actor, distributed(observation))(vector)
    assert set(one) == set(outputs) <= set(other)
    for path, tangent in one.items():
        torch.testing.assert_close(tangent, other[path], rtol=0, atol=1e-12)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_layers_that_can_be_differentiated_but_once_are_differentiated_forwards(share: float) -> None:
    """Backwards, torch leaves out their second derivatives without a word."""
    policy, observation = build("gaussian"), observations()

    def once(policy: Policy) -> Distribution:
        raw = policy.outputs(observation)[0]
        return policy.head(share * Once.apply(raw) + (1 - share) * raw)

    def often(policy: Policy) -> Distribution:
        raw = policy.outputs(observation)[0]
        return policy.head(share * raw.exp() + (1 - share) * raw)

    actor = policy.parts()["actor"]
    size = sum(parameter.numel() for parameter in actor)
    found, truth = (as_matrix(natural_gradient.fisher_product(policy, actor, each), size) for each in (once, often))
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-12)


def test_so_are_memories_whose_library_knows_no_second_derivative() -> None:
    policy, observation = build("gaussian"), observations()
    assert isinstance(policy, ActorCritic)
    policy.actor = Recurrent().double()
    truth = exact_fisher(policy, observation, torch.ones(STATES, dtype=torch.float64))
    policy, observation = policy.float(), observation.float()
    product = natural_gradient.fisher_product(policy, policy.parts()["actor"], distributed(observation))
    torch.testing.assert_close(as_matrix(product, len(truth), torch.float32).double(), truth, rtol=0, atol=1e-5)


def test_frozen_parameters_have_no_curvature() -> None:
    policy, observation = build("gaussian"), observations()
    actor = policy.parts()["actor"]
    truth = exact_fisher(policy, observation, torch.ones(STATES, dtype=torch.float64))
    actor[0].requires_grad_(False)
    count = actor[0].numel()
    found = as_matrix(natural_gradient.fisher_product(policy, actor, distributed(observation)), len(truth))
    torch.testing.assert_close(found[count:, count:], truth[count:, count:], rtol=0, atol=1e-12)
    assert float(found[:count].abs().max()) == 0.0


def test_in_single_precision_the_kernels_give_the_same_products() -> None:
    policy, observation = build("gaussian").float(), observations(dtype=torch.float32)
    truth = exact_fisher(build("gaussian"), observations(), torch.ones(STATES, dtype=torch.float64))
    product = natural_gradient.fisher_product(policy, policy.parts()["actor"], distributed(observation))
    torch.testing.assert_close(as_matrix(product, len(truth), torch.float32).double(), truth, rtol=0, atol=1e-5)


def test_parameters_that_the_distribution_does_not_see_have_no_curvature() -> None:
    policy, observation = build("categorical"), observations()
    every = [*policy.parts()["critic"], *policy.parts()["actor"]]
    blind = sum(parameter.numel() for parameter in policy.parts()["critic"])
    size = sum(parameter.numel() for parameter in every)
    found = as_matrix(natural_gradient.fisher_product(policy, every, distributed(observation)), size)
    assert float(found[:blind].abs().max()) == float(found[:, :blind].abs().max()) == 0.0
    assert float(found[blind:, blind:].abs().max()) > 0.1


@pytest.mark.parametrize("bound", [LOWEST_LOG_STD, HIGHEST_LOG_STD])
def test_a_deviation_beyond_its_bounds_has_the_curvature_of_one_at_them(bound: float) -> None:
    """So that a natural step back inside is as long as any other."""
    observation, found = observations(), []
    for beyond in (0.0, 0.1):
        policy = build("gaussian")
        assert isinstance(policy, ActorCritic)
        deviation = policy.head.get_parameter("log_std")
        with torch.no_grad():
            deviation.fill_(bound + math.copysign(beyond, bound))
        product = natural_gradient.fisher_product(policy, [deviation], distributed(observation))
        found.append(product(torch.full((2,), -math.copysign(1.0, bound), dtype=torch.float64)))
    torch.testing.assert_close(*found, rtol=1e-12, atol=0)
    assert float(found[0].abs().min()) == pytest.approx(2.0)


def test_forbidden_actions_have_no_curvature_and_make_no_nan() -> None:
    logits = torch.tensor([[0.3, -math.inf, 1.0], [0.0, 2.0, -1.0]], dtype=torch.float64).requires_grad_()
    metric = natural_gradient.output_metric(Categorical(logits), None)
    found = torch.stack([metric([unit.view(2, 3)])[0].flatten() for unit in torch.eye(6, dtype=torch.float64)])
    p = logits.detach().softmax(-1)
    truth = torch.block_diag(*(torch.diag(row) - torch.outer(row, row) for row in p)) / 2
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-14)


# Conjugate gradients, the line search, the mean divergence.


def positive(size: int, rank: int, seed: int = 0) -> Tensor:
    root = torch.randn((size, rank), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T


def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_unknowns() -> None:
    matrix, right = positive(12, 12) + torch.eye(12), torch.randn(12, dtype=torch.float64)
    solved = natural_gradient.conjugate_gradient(matrix.mv, right, 12, tolerance=0.0)
    torch.testing.assert_close(solved, torch.linalg.solve(matrix, right), rtol=1e-8, atol=1e-10)
    short = natural_gradient.conjugate_gradient(matrix.mv, right, 3)
    assert float((short - solved).norm()) > 1e-3


def test_damping_is_added_to_the_diagonal() -> None:
    matrix, right = positive(6, 3), torch.randn(6, dtype=torch.float64)
    solved = natural_gradient.conjugate_gradient(matrix.mv, right, 20, damping=0.5)
    truth = torch.linalg.solve(matrix + 0.5 * torch.eye(6, dtype=torch.float64), right)
    torch.testing.assert_close(solved, truth, rtol=1e-4, atol=1e-5)


def test_of_a_singular_matrix_they_find_the_shortest_solution() -> None:
    matrix = positive(8, 4)
    right = matrix @ torch.randn(8, dtype=torch.float64)
    solved = natural_gradient.conjugate_gradient(matrix.mv, right, 30, tolerance=1e-24)
    torch.testing.assert_close(solved, torch.linalg.pinv(matrix) @ right, rtol=1e-6, atol=1e-8)


def test_nothing_is_asked_of_a_right_side_that_is_0_and_no_direction_without_curvature_is_followed() -> None:
    def never(vector: Tensor) -> Tensor:
        raise AssertionError("there was nothing to solve")

    zero = torch.zeros(4)
    assert torch.equal(natural_gradient.conjugate_gradient(never, zero, 10), zero)
    assert torch.equal(natural_gradient.conjugate_gradient(lambda v: -v, torch.ones(4), 10), zero)
    assert torch.equal(natural_gradient.conjugate_gradient(lambda v: v * math.nan, torch.ones(4), 10), zero)


def test_the_line_search_takes_the_longest_step_that_is_accepted() -> None:
    tried: list[float] = []

    def accept(fraction: float) -> bool:
        tried.append(fraction)
        return fraction < 0.3

    assert natural_gradient.backtrack(accept, 10, 0.5) == 0.25
    assert tried == [1.0, 0.5, 0.25]
    assert natural_gradient.backtrack(accept, 2, 0.5) == 0.0
    assert natural_gradient.backtrack(accept, 1, 0.5) == 0.0
    assert tried[3:] == [1.0, 0.5, 1.0]


@pytest.mark.parametrize("distance", [1e-1, 1e-4])
def test_the_mean_divergence_of_neighbours_is_exact_to_a_ten_thousandth(distance: float) -> None:
    """Of single precision, in which 1e-8 nats is the rounding of a logit."""
    logits = torch.randn((1000, 3), generator=torch.Generator().manual_seed(0))
    moved = logits + distance * torch.tensor([1.0, -1.0, 0.5])
    p, q = (x.double().log_softmax(-1) for x in (logits, moved))
    truth = float((p.exp() * (p - q)).sum(-1).mean())
    found = natural_gradient.mean_kl(Categorical(logits), Categorical(moved))
    assert found == pytest.approx(truth, rel=1e-9)


# A tabular policy, whose natural gradient is known.


def problem() -> FiniteMDP:
    g = torch.Generator().manual_seed(3)
    probability = torch.rand((5, 3, 2), generator=g, dtype=torch.float64)
    return FiniteMDP(
        successor=torch.randint(5, (5, 3, 2), generator=g),
        probability=probability / probability.sum(-1, keepdim=True),
        reward=torch.randn((5, 3), generator=g, dtype=torch.float64),
        start=torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1], dtype=torch.float64),
        discount=0.9,
    )


def tabular_policy() -> Policy:
    """One preference for each state and action, none of them 0; a critic with one value for each state."""
    kind = LinearSoftmax(features="one-hot", critic="linear")
    policy = kind.build(Spaces(spaces.Discrete(5), spaces.Discrete(3)), torch.Generator()).double()
    (theta,) = policy.parts()["actor"]
    with torch.no_grad():
        theta.copy_(torch.randn(theta.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64))
    return policy


def truth(policy: Policy, mdp: FiniteMDP) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """π, d_π, V_π, A_π."""
    with torch.no_grad():
        pi = policy.outputs(torch.arange(5))[0].softmax(-1)
    value = tabular.state_values(mdp, pi)
    return pi, tabular.occupancy(mdp, pi), value, tabular.action_values(mdp, value) - value.unsqueeze(-1)


def without_state_constants(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def test_the_natural_gradient_of_a_tabular_policy_is_the_advantage() -> None:
    """F⁺ ∇J = A(s, a) / (1 − γ) up to a constant in each state (Kakade 2002)."""
    mdp, policy = problem(), tabular_policy()
    _, visits, _, advantage = truth(policy, mdp)
    (theta,) = policy.parts()["actor"]
    states = torch.arange(5)
    performance = tabular.objective(mdp, policy.outputs(states)[0].softmax(-1))
    (gradient,) = torch.autograd.grad(performance, theta)
    product = natural_gradient.fisher_product(policy, [theta], distributed(states), visits)
    solved = natural_gradient.conjugate_gradient(product, gradient.flatten(), 60, tolerance=1e-28)
    change = policy_change(policy, solved)
    expected = advantage / (1 - mdp.discount)
    torch.testing.assert_close(without_state_constants(change), without_state_constants(expected), rtol=0, atol=1e-8)
    assert float(without_state_constants(expected).abs().max()) > 1.0


def policy_change(policy: Policy, step: Tensor) -> Tensor:
    """What a step of θ does to the preferences of every state and action, which are linear in it: [S, A]."""
    (theta,) = policy.parts()["actor"]
    states = torch.arange(5)
    with torch.no_grad():
        before = policy.outputs(states)[0].clone()
        theta.add_(step.view_as(theta))
        after = policy.outputs(states)[0].clone()
        theta.sub_(step.view_as(theta))
    return after - before


def every_transition(policy: Policy, mdp: FiniteMDP) -> Rollout:
    """One step in each lane: every state, action and outcome, weighing d_π(s) π(a|s) P(s'|s, a)."""
    pi, visits, value, _ = truth(policy, mdp)
    weight = (visits.unsqueeze(-1) * pi).unsqueeze(-1) * mdp.probability
    state, action, outcome = (x.flatten() for x in torch.meshgrid(*(torch.arange(n) for n in (5, 3, 2)), indexing="ij"))
    never = torch.zeros((1, len(state)), dtype=torch.bool)
    (table,) = policy.parts()["critic"]
    with torch.no_grad():
        table.copy_(value.view_as(table))
        log_prob = policy.evaluate(state, action).log_prob
    return Rollout(
        observation=state.unsqueeze(0),
        action=action.unsqueeze(0),
        log_prob=log_prob.unsqueeze(0),
        reward=mdp.reward[state, action].unsqueeze(0),
        terminated=never,
        truncated=never,
        is_first=~never,
        weight=weight.flatten().unsqueeze(0),
        last_observation=mdp.successor[state, action, outcome],
        final_observation=state[:0],
        final_index=state[:0],
    )


@pytest.mark.parametrize("length", [0.01, None])
def test_npg_steps_along_the_advantage(length: float | None) -> None:
    """The algorithm itself, on every transition at its exact weight; its advantages have the deviation 1."""
    mdp, policy = problem(), tabular_policy()
    pi, visits, _, advantage = truth(policy, mdp)
    learner = Learner(policy, optimizer="sgd")
    rollout = every_transition(policy, mdp)
    before, start = policy.outputs(torch.arange(5))[0].detach().clone(), learner.vector("critic").clone()
    step = None if length is None else constant(length)
    falling = linear(1.0, 1e-8)
    algorithm = NPG(discount=0.9, trace=0.0, step=step, max_kl=falling, damping=0.0, conjugate_steps=60, epochs=0)
    _, metrics = algorithm.improve(learner, rollout, {}, 1.0)
    found = without_state_constants(policy.outputs(torch.arange(5))[0].detach() - before)
    along = without_state_constants(advantage)
    cosine = (found * along).sum() / found.norm() / along.norm()
    assert float(cosine) == pytest.approx(1.0, abs=1e-9)
    assert torch.equal(learner.vector("critic"), start)
    if length is None:  # the divergence of so short a step is that of the quadratic form
        assert metrics["kl"] == pytest.approx(1e-8, rel=1e-3)
        return
    mean = (visits.unsqueeze(-1) * pi * sampled_variance(mdp, policy)).sum() / visits.sum()
    expected = length * along / mean.sqrt()  # to what conjugate gradients leave by their tolerance
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 * float(expected.abs().max()))


def sampled_variance(mdp: FiniteMDP, policy: Policy) -> Tensor:
    """E[δ²] of the one-step errors of every state and action, whose mean is the advantage: [S, A]."""
    _, _, value, _ = truth(policy, mdp)
    error = mdp.reward.unsqueeze(-1) + mdp.discount * value[mdp.successor] - value.view(-1, 1, 1)
    return (mdp.probability * error.square()).sum(-1)

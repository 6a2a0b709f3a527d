"""Finite Markov decision processes, solved exactly in float64: J of any policy, J*, and ∇J.

    V_π = (I − γ P_π)⁻¹ r_π,    J(π) = Σ_s μ(s) V_π(s),    ∂J/∂π(a|s) = d_π(s) Q_π(s, a)

with μ the start distribution and d_π = (I − γ P_πᵀ)⁻¹ μ the discounted occupancy, which is not normalised (it sums to
1 / (1 − γ)). The horizon is infinite: nothing is truncated here. Everything is differentiable in the policy, so that
∇J(θ) can be had in two independent ways: autograd through the linear solve, and the policy gradient theorem (Sutton,
McAllester, Singh & Mansour 2000, theorem 1), to which the last formula amounts.

One record may hold a batch of problems [...] with the same dynamics and different rewards, such as one per goal; they
are solved side by side. Left out: learning from samples, and state spaces too large for a dense S × S solve.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pistar.errors import UsageError

LARGEST_BLOCK = 2**24  # numbers in one stack of S × S matrices; 128 MiB
TIE = 1e-9  # actions whose values differ by less are equally good


@dataclass(frozen=True, eq=False)
class FiniteMDP:
    """S states, A actions, at most K outcomes of each; [...] problems that differ in reward and start only."""

    successor: Tensor  # [S, A, K] int64: the state that outcome k leads to
    probability: Tensor  # [S, A, K] float64: of outcome k; sums to 1 over k
    reward: Tensor  # [..., S, A] float64: expected over the outcomes
    start: Tensor  # [..., S] float64: μ, sums to 1 over everything: the problem is drawn along with the state
    discount: float  # γ in [0, 1)

    def __post_init__(self) -> None:
        states, actions, _ = self.successor.shape
        expected = {"probability": self.successor.shape, "reward": (*self.start.shape, actions)}
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != tuple(shape) or self.start.shape[-1] != states:
                raise UsageError(f"{name} has shape {tuple(getattr(self, name).shape)}, expected {tuple(shape)}")
        if not 0 <= self.discount < 1:
            raise UsageError(f"discount is {self.discount}, expected 0 <= discount < 1: the horizon is infinite")
        if not (int(self.successor.min()) >= 0 and int(self.successor.max()) < states):
            raise UsageError(f"successor must hold states from 0 to {states - 1}")
        _require_distribution("probability", self.probability, self.probability.sum(-1))
        _require_distribution("start", self.start, self.start.sum())

    def uniform(self) -> Tensor:
        """The uniformly random policy: [..., S, A]."""
        return torch.full_like(self.reward, 1 / self.reward.shape[-1])


def _require_distribution(name: str, values: Tensor, total: Tensor) -> None:
    if values.dtype != torch.float64 or bool((values < 0).any()) or bool(((total - 1).abs() > 1e-9).any()):
        raise UsageError(
            f"{name} must be float64, not negative, and sum to 1; its sums lie in [{total.min()}, {total.max()}]"
        )


def transition_matrix(mdp: FiniteMDP, policy: Tensor) -> Tensor:
    """P_π(s, s') = Σ_a π(a|s) P(s'|s, a): [..., S, A] -> [..., S, S]."""
    weight = (policy.unsqueeze(-1) * mdp.probability).flatten(-2)
    index = mdp.successor.flatten(-2).expand_as(weight)
    matrix = weight.new_zeros(*weight.shape[:-1], mdp.successor.shape[0])
    return matrix.scatter_add(-1, index, weight)


def action_values(mdp: FiniteMDP, values: Tensor) -> Tensor:
    """Q(s, a) = r(s, a) + γ Σ_s' P(s'|s, a) V(s'): [..., S] -> [..., S, A]."""
    return mdp.reward + mdp.discount * (values[..., mdp.successor] * mdp.probability).sum(-1)


def state_values(mdp: FiniteMDP, policy: Tensor) -> Tensor:
    """V_π by a linear solve: [..., S, A] -> [..., S]."""
    return _solve(mdp, policy, (policy * mdp.reward).sum(-1), transposed=False)


def occupancy(mdp: FiniteMDP, policy: Tensor) -> Tensor:
    """d_π(s) = Σ_t γᵗ Pr(s_t = s): [..., S, A] -> [..., S]; sums to 1 / (1 − γ)."""
    return _solve(mdp, policy, mdp.start, transposed=True)


def objective(mdp: FiniteMDP, policy: Tensor) -> Tensor:
    """J(π) = E[Σ γᵗ r_t], a scalar, differentiable in the policy [..., S, A]."""
    return (mdp.start * state_values(mdp, policy)).sum()


def policy_gradient(mdp: FiniteMDP, policy: Tensor) -> Tensor:
    """d_π(s) Q_π(s, a): [..., S, A], so that ∇J(θ) = Σ_{s, a} d_π(s) Q_π(s, a) ∇π_θ(a|s)."""
    policy = policy.detach()
    return occupancy(mdp, policy).unsqueeze(-1) * action_values(mdp, state_values(mdp, policy))


def optimal_values(mdp: FiniteMDP, tolerance: float = 1e-10) -> Tensor:
    """V* [..., S] by value iteration, to within ``tolerance`` in every state.

    V ← max_a Q contracts by γ, so that a last change of δ leaves an error of at most γ δ / (1 − γ).
    """
    values = torch.zeros_like(mdp.start)
    while True:
        improved = action_values(mdp, values).amax(-1)
        change = float((improved - values).abs().max())
        values = improved
        if mdp.discount * change <= tolerance * (1 - mdp.discount):
            return values


def optimum(mdp: FiniteMDP) -> float:
    """J* = Σ_s μ(s) V*(s)."""
    return float((mdp.start * optimal_values(mdp)).sum())


def greedy(values: Tensor) -> Tensor:
    """The policy that takes the actions of largest value, ties with equal probability: [..., A] -> [..., A]."""
    best = (values >= values.amax(-1, keepdim=True) - TIE).to(values.dtype)
    return best / best.sum(-1, keepdim=True)


def _solve(mdp: FiniteMDP, policy: Tensor, right: Tensor, *, transposed: bool) -> Tensor:
    """(I − γ P_π) x = right, or with P_πᵀ, for every problem; a few problems at a time, since matrices are large."""
    states = right.shape[-1]
    policies, rights = policy.reshape(-1, *policy.shape[-2:]), right.reshape(-1, states)
    at_once = max(1, LARGEST_BLOCK // states**2)
    identity = torch.eye(states, dtype=right.dtype)
    solutions = []
    for some, known in zip(torch.split(policies, at_once), torch.split(rights, at_once), strict=True):
        matrix = identity - mdp.discount * transition_matrix(mdp, some)
        solutions.append(torch.linalg.solve(matrix.mT if transposed else matrix, known))
    return torch.cat(solutions).view_as(right)

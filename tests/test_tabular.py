"""Finite decision processes solved exactly: against brute force, textbook values, finite differences and each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pistar import tabular
from pistar.errors import UsageError
from pistar.tabular import FiniteMDP


def random_mdp(
    seed: int = 0, states: int = 6, actions: int = 3, outcomes: int = 4, problems: tuple[int, ...] = ()
) -> FiniteMDP:
    g = torch.Generator().manual_seed(seed)
    probability = torch.rand(states, actions, outcomes, generator=g, dtype=torch.float64)
    start = torch.rand(*problems, states, generator=g, dtype=torch.float64)
    return FiniteMDP(
        successor=torch.randint(states, (states, actions, outcomes), generator=g),
        probability=probability / probability.sum(-1, keepdim=True),
        reward=torch.randn(*problems, states, actions, generator=g, dtype=torch.float64),
        start=start / start.sum(),
        discount=0.9,
    )


def random_logits(mdp: FiniteMDP, seed: int = 1) -> Tensor:
    return torch.randn(mdp.reward.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rolled_out(mdp: FiniteMDP, policy: Tensor, steps: int = 400) -> float:
    """Σ γᵗ E[r_t] by pushing the state distribution forward one outcome at a time."""
    total, now = 0.0, mdp.start.clone()
    for t in range(steps):
        acts = now.unsqueeze(-1) * policy
        total += mdp.discount**t * float((acts * mdp.reward).sum())
        following = torch.zeros_like(now)
        for s in range(now.shape[-1]):
            for a in range(policy.shape[-1]):
                for k in range(mdp.successor.shape[-1]):
                    following[..., mdp.successor[s, a, k]] += acts[..., s, a] * mdp.probability[s, a, k]
        now = following
    return total


@pytest.mark.parametrize("problems", [(), (3,)])
def test_the_objective_is_the_discounted_sum_of_expected_rewards(problems: tuple[int, ...]) -> None:
    mdp = random_mdp(problems=problems)
    policy = random_logits(mdp).softmax(-1)
    assert float(tabular.objective(mdp, policy)) == pytest.approx(rolled_out(mdp, policy), abs=1e-10)


def test_the_occupancy_sums_to_the_horizon_and_weighs_rewards_to_the_objective() -> None:
    mdp = random_mdp(problems=(2,))
    policy = random_logits(mdp).softmax(-1)
    occupancy = tabular.occupancy(mdp, policy)
    assert float(occupancy.sum()) == pytest.approx(1 / (1 - mdp.discount))
    through = (occupancy.unsqueeze(-1) * policy * mdp.reward).sum()
    assert float(through) == pytest.approx(float(tabular.objective(mdp, policy)))


def test_the_two_ways_to_the_gradient_agree() -> None:
    mdp = random_mdp(problems=(2,))
    logits = random_logits(mdp).requires_grad_()
    policy = logits.softmax(-1)
    through_solve = torch.autograd.grad(tabular.objective(mdp, policy), logits, retain_graph=True)[0]
    by_theorem = torch.autograd.grad((tabular.policy_gradient(mdp, policy) * policy).sum(), logits)[0]
    torch.testing.assert_close(through_solve, by_theorem, rtol=1e-10, atol=1e-12)


def test_value_iteration_finds_what_enumeration_finds() -> None:
    mdp = random_mdp(states=4, actions=2)
    plans = torch.cartesian_prod(*[torch.arange(2)] * 4)
    values = [tabular.objective(mdp, torch.nn.functional.one_hot(plan, 2).double()).item() for plan in plans]
    assert tabular.optimum(mdp) == pytest.approx(max(values), abs=1e-9)
    best = tabular.greedy(tabular.action_values(mdp, tabular.optimal_values(mdp)))
    assert float(tabular.objective(mdp, best)) == pytest.approx(max(values), abs=1e-9)


def test_a_stack_too_large_for_memory_is_solved_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    mdp = random_mdp(problems=(5,))
    policy = random_logits(mdp).softmax(-1)
    whole = tabular.state_values(mdp, policy)
    monkeypatch.setattr(tabular, "LARGEST_BLOCK", 40)  # one problem at a time
    torch.testing.assert_close(tabular.state_values(mdp, policy), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"discount": 1.0}, "discount"),
        ({"successor": torch.full((6, 3, 4), 6)}, "successor"),
        ({"reward": torch.zeros(5, 3, dtype=torch.float64)}, "reward"),
        ({"probability": torch.ones(6, 3, 4, dtype=torch.float64)}, "probability"),
        ({"start": torch.ones(6, dtype=torch.float32) / 6}, "start"),
    ],
)
def test_what_is_no_decision_process_is_refused(change: dict[str, object], word: str) -> None:
    good = vars(random_mdp())
    with pytest.raises(UsageError, match=word):
        FiniteMDP(**{**good, **change})  # type: ignore[arg-type]

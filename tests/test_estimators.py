from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pistar.estimators import (
    accumulate,
    continues,
    discounted_return,
    elapsed,
    gae,
    lambda_return,
    reward_to_go,
    td_errors,
    v_trace,
)

DISCOUNT = 0.9


def every_placement(steps: int) -> tuple[Tensor, Tensor]:
    """All 4^T ways to terminate, truncate, do both or go on: terminated and truncated, [T, 4^T]."""
    codes = torch.tensor(list(itertools.product(range(4), repeat=steps))).T
    return codes % 2 == 1, codes >= 2


def experience(steps: int, lanes: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    reward, value, next_value = torch.randn(3, steps, lanes, generator=generator, dtype=torch.float64)
    return reward, value, next_value


def consistent(value: Tensor, next_value: Tensor, ended: Tensor) -> Tensor:
    """next_value as it is in a real rollout: V of the next row wherever the episode goes on."""
    result = next_value.clone()
    result[:-1] = torch.where(ended[:-1], next_value[:-1], value[1:])
    return result


@pytest.fixture(params=[4, 5])
def case(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    terminated, truncated = every_placement(request.param)
    reward, value, next_value = experience(request.param, terminated.shape[1], seed=request.param)
    next_value = consistent(value, next_value, terminated | truncated)
    return {
        "reward": reward,
        "value": value,
        "next_value": next_value,
        "terminated": terminated,
        "truncated": truncated,
    }


def episode_end(terminated: Tensor, truncated: Tensor, lane: int, t: int) -> int:
    """The last step of the episode that step t belongs to."""
    while t < len(terminated) - 1 and not (terminated[t, lane] or truncated[t, lane]):
        t += 1
    return t


def explicit_error(case: dict[str, Tensor], k: int, lane: int) -> Tensor:
    behind = 0.0 if case["terminated"][k, lane] else case["next_value"][k, lane]
    return case["reward"][k, lane] + DISCOUNT * behind - case["value"][k, lane]


@pytest.mark.parametrize("trace", [0.0, 0.7, 1.0])
def test_gae_is_the_explicit_double_sum_for_every_placement_of_ends(case: dict[str, Tensor], trace: float) -> None:
    estimate = gae(**case, discount=DISCOUNT, trace=trace)
    steps, lanes = estimate.shape
    for lane, t in itertools.product(range(lanes), range(steps)):
        last = episode_end(case["terminated"], case["truncated"], lane, t)
        terms = [(DISCOUNT * trace) ** (k - t) * explicit_error(case, k, lane) for k in range(t, last + 1)]
        assert abs(estimate[t, lane] - sum(terms)) < 1e-12


@pytest.mark.parametrize("trace", [0.0, 0.7, 1.0])
def test_lambda_return_mixes_n_step_returns_for_every_placement_of_ends(case: dict[str, Tensor], trace: float) -> None:
    """Against the forward view: (1 − λ) Σ λ^{n−1} G^(n) with all remaining weight on the longest return."""
    estimate = lambda_return(case["reward"], case["next_value"], case["terminated"], case["truncated"], DISCOUNT, trace)
    steps, lanes = estimate.shape
    for lane, t in itertools.product(range(lanes), range(steps)):
        last = episode_end(case["terminated"], case["truncated"], lane, t)
        expected, gathered = 0.0, 0.0
        for n in range(1, last - t + 2):
            k = t + n - 1
            gathered += DISCOUNT ** (n - 1) * case["reward"][k, lane].item()
            behind = 0.0 if case["terminated"][k, lane] else case["next_value"][k, lane].item()
            weight = trace ** (n - 1) * (1 - trace if k < last else 1)
            expected += weight * (gathered + DISCOUNT**n * behind)
        assert abs(estimate[t, lane].item() - expected) < 1e-12


def test_reward_to_go_is_the_explicit_sum_for_every_placement_of_ends(case: dict[str, Tensor]) -> None:
    terminated, truncated = case["terminated"], case["truncated"]
    ended = terminated | truncated
    plain = reward_to_go(case["reward"], ended, DISCOUNT)
    bootstrapped = reward_to_go(case["reward"], ended, DISCOUNT, case["next_value"], truncated & ~terminated)
    trajectory = discounted_return(case["reward"], ended, DISCOUNT)
    for lane in range(ended.shape[1]):
        start = 0
        for t in range(len(ended)):
            start = t if t > 0 and ended[t - 1, lane] else start
            last = episode_end(terminated, truncated, lane, t)
            expected = sum(DISCOUNT ** (k - t) * case["reward"][k, lane] for k in range(t, last + 1))
            whole = sum(DISCOUNT ** (k - start) * case["reward"][k, lane] for k in range(start, last + 1))
            behind = 0.0 if terminated[last, lane] else case["next_value"][last, lane]
            assert abs(plain[t, lane] - expected) < 1e-12
            assert abs(bootstrapped[t, lane] - expected - DISCOUNT ** (last - t + 1) * behind) < 1e-12
            assert abs(trajectory[t, lane] - whole) < 1e-12


def test_gae_at_trace_1_is_return_minus_value(case: dict[str, Tensor]) -> None:
    ended, cut = case["terminated"] | case["truncated"], case["truncated"] & ~case["terminated"]
    returns = reward_to_go(case["reward"], ended, DISCOUNT, case["next_value"], cut)
    torch.testing.assert_close(gae(**case, discount=DISCOUNT, trace=1.0), returns - case["value"], rtol=0, atol=1e-12)


def test_gae_at_trace_0_is_the_td_error(case: dict[str, Tensor]) -> None:
    errors = td_errors(case["reward"], case["value"], case["next_value"], case["terminated"], DISCOUNT)
    assert torch.equal(gae(**case, discount=DISCOUNT, trace=0.0), errors)


@pytest.mark.parametrize("trace", [0.0, 0.3, 0.95, 1.0])
def test_lambda_return_minus_value_is_gae(case: dict[str, Tensor], trace: float) -> None:
    without_value = {key: x for key, x in case.items() if key != "value"}
    returns = lambda_return(**without_value, discount=DISCOUNT, trace=trace)
    torch.testing.assert_close(returns - case["value"], gae(**case, discount=DISCOUNT, trace=trace), rtol=0, atol=1e-12)


def test_terminated_wins_where_both_are_set(case: dict[str, Tensor]) -> None:
    both = case | {"truncated": case["truncated"] | case["terminated"]}
    alone = case | {"truncated": case["truncated"] & ~case["terminated"]}
    assert torch.equal(gae(**both, discount=DISCOUNT, trace=0.8), gae(**alone, discount=DISCOUNT, trace=0.8))


def test_what_is_behind_a_termination_is_never_read(case: dict[str, Tensor]) -> None:
    spoilt = case | {"next_value": case["next_value"].masked_fill(case["terminated"], float("nan"))}
    spoilt["next_value"][-1] = case["next_value"][-1]  # the last row is multiplied by 0, see accumulate
    assert torch.equal(gae(**spoilt, discount=DISCOUNT, trace=0.8), gae(**case, discount=DISCOUNT, trace=0.8))


# V-trace.


def ratios(case: dict[str, Tensor]) -> Tensor:
    """Both sides of every bound below, and some far out."""
    generator = torch.Generator().manual_seed(9)
    return (1.2 * torch.randn(case["reward"].shape, generator=generator, dtype=torch.float64)).exp()


@pytest.mark.parametrize("trace", [0.0, 0.3, 0.95, 1.0])
def test_v_trace_at_ratio_1_is_gae(case: dict[str, Tensor], trace: float) -> None:
    target, advantage = v_trace(torch.ones_like(case["reward"]), **case, discount=DISCOUNT, trace=trace)
    expected = gae(**case, discount=DISCOUNT, trace=trace)
    torch.testing.assert_close(target - case["value"], expected, rtol=0, atol=1e-12)
    difference = (advantage - expected).abs().max()
    assert (difference < 1e-12) if trace == 1.0 else (difference > 1e-3)  # the advantage carries no λ


@pytest.mark.parametrize(("ratio_bound", "trace_bound"), [(1.0, 1.0), (1.7, 0.6), (1e9, 1e9)])
@pytest.mark.parametrize("trace", [0.0, 0.8, 1.0])
def test_v_trace_is_the_published_sum_for_every_placement_of_ends(
    case: dict[str, Tensor], trace: float, ratio_bound: float, trace_bound: float
) -> None:
    """Against equation 1 of the paper, written as its nested sum and products over one episode at a time."""
    ratio = ratios(case)
    target, advantage = v_trace(
        ratio, **case, discount=DISCOUNT, trace=trace, ratio_bound=ratio_bound, trace_bound=trace_bound
    )
    steps, lanes = target.shape
    value, reward = case["value"].tolist(), case["reward"].tolist()

    def published(s: int, last: int, lane: int) -> float:
        total = value[s][lane]
        for t in range(s, last + 1):
            product = 1.0
            for i in range(s, t):
                product *= trace * min(trace_bound, float(ratio[i, lane]))
            rho = min(ratio_bound, float(ratio[t, lane]))
            total += DISCOUNT ** (t - s) * product * rho * float(explicit_error(case, t, lane))
        return total

    for lane, t in itertools.product(range(lanes), range(steps)):
        last = episode_end(case["terminated"], case["truncated"], lane, t)
        assert abs(float(target[t, lane]) - published(t, last, lane)) < 1e-12
        behind = 0.0 if case["terminated"][t, lane] else float(case["next_value"][t, lane])
        if t < last:
            behind = published(t + 1, last, lane)
        expected = min(ratio_bound, float(ratio[t, lane])) * (reward[t][lane] + DISCOUNT * behind - value[t][lane])
        assert abs(float(advantage[t, lane]) - expected) < 1e-12


def test_v_trace_of_an_infinite_ratio_is_that_of_its_bounds(case: dict[str, Tensor]) -> None:
    """exp(log π − log μ) overflows where μ thought an action all but impossible."""
    settings = {"discount": DISCOUNT, "trace": 0.9, "ratio_bound": 1.5, "trace_bound": 1.2}
    ratio = ratios(case)
    far = v_trace(ratio.masked_fill(ratio > 2, float("inf")), **case, **settings)
    near = v_trace(ratio.masked_fill(ratio > 2, 2.0), **case, **settings)
    assert all(torch.equal(one, other) for one, other in zip(far, near, strict=True))


def test_v_trace_is_unbiased_for_another_policy() -> None:
    """One state, two actions, steps of μ: unclipped, the expected correction is E_π's, and clipped it is not."""
    chance, wanted = torch.tensor([0.8, 0.2]).double(), torch.tensor([0.3, 0.7]).double()
    reward, never = torch.tensor([[1.0, 5.0]]).double(), torch.ones(1, 2, dtype=torch.bool)
    zero = torch.zeros(1, 2).double()
    ratio = (wanted / chance).unsqueeze(0)
    ends = {"value": zero, "next_value": zero, "terminated": never, "truncated": ~never}
    free, _ = v_trace(ratio, reward, **ends, discount=0.9, trace=1.0, ratio_bound=1e9)
    assert float((chance * free[0]).sum()) == pytest.approx(0.3 * 1 + 0.7 * 5)
    bound, _ = v_trace(ratio, reward, **ends, discount=0.9, trace=1.0)
    between = torch.minimum(chance, wanted)  # ∝ min(ρ̄ μ, π): the policy whose value is found (equation 3)
    assert float((chance * bound[0]).sum()) == pytest.approx(float((between * reward[0]).sum()))


def test_value_of_the_true_return_has_no_advantage() -> None:
    """A deterministic chain whose V is exact has Â = 0 everywhere, for any λ and any place of a cut."""
    steps = 7
    reward = torch.randn(steps, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    never = torch.zeros(steps, 1, dtype=torch.bool)
    last = never.clone()
    last[-1] = True
    value = reward_to_go(reward, last, DISCOUNT)
    next_value = torch.cat((value[1:], value.new_zeros(1, 1)))
    for cut, trace in itertools.product(range(steps - 1), (0.0, 0.5, 1.0)):
        truncated = never.clone()
        truncated[cut] = True
        assert gae(reward, value, next_value, last, truncated, DISCOUNT, trace).abs().max() < 1e-12


def loop(x: Tensor, decay: Tensor, last: Tensor) -> Tensor:
    rows = []
    for t in reversed(range(len(x))):
        last = x[t] + decay[t] * last
        rows.append(last)
    return torch.stack(rows[::-1])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.sampled_from([(), (1,), (3,), (2, 2)]), st.integers(0, 10_000))
def test_accumulate_solves_its_recurrence(steps: int, batch: tuple[int, ...], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, *batch, generator=generator, dtype=torch.float64)
    decay = torch.rand(steps, *batch, generator=generator, dtype=torch.float64) * 1.2
    decay = decay * (torch.rand(steps, *batch, generator=generator) > 0.2)
    last = torch.randn(batch, generator=generator, dtype=torch.float64)
    before = x.clone(), decay.clone(), last.clone()
    torch.testing.assert_close(accumulate(x, decay, last), loop(x, decay, last), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(accumulate(x, decay), loop(x, decay, torch.zeros_like(last)), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(now, then) for now, then in zip((x, decay, last), before, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_accumulate_is_accurate_in_single_precision(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2048, 4, generator=generator)
    decay = 0.999 * (torch.rand(2048, 4, generator=generator) > 0.001)
    exact = loop(x.double(), decay.double(), torch.zeros(4, dtype=torch.float64))
    assert (accumulate(x, decay) - exact).abs().max() < 1e-5 * exact.abs().max()


def test_accumulate_is_differentiable_in_what_is_added() -> None:
    x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    last = torch.randn(2, dtype=torch.float64, requires_grad=True)
    decay = torch.rand(6, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, last: accumulate(x, decay, last), (x, last))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 10_000))
def test_elapsed_counts_from_the_last_first_step(steps: int, lanes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    is_first = torch.rand(steps, lanes, generator=generator) < 0.3
    start = torch.randint(0, 50, (lanes,), generator=generator)
    counts = elapsed(is_first, start)
    assert counts.dtype == torch.int64
    for lane in range(lanes):
        count = int(start[lane]) - 1
        for t in range(steps):
            count = 0 if is_first[t, lane] else count + 1
            assert counts[t, lane] == count


def test_elapsed_starts_at_0_by_default() -> None:
    assert elapsed(torch.zeros(3, 2, dtype=torch.bool)).tolist() == [[0, 0], [1, 1], [2, 2]]


def test_score_of_the_trajectory_return_needs_no_discount_weight() -> None:
    """G_0 = Σ_{k<t} γ^k r_k + γ^t G_t: what G_0 adds to the weighted reward-to-go is fixed before a_t is chosen."""
    steps, lanes = 9, 5
    reward = torch.randn(steps, lanes, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ended = torch.rand(steps, lanes, generator=torch.Generator().manual_seed(2)) < 0.25
    is_first = torch.ones_like(ended)
    is_first[1:] = ended[:-1]
    weight = DISCOUNT ** elapsed(is_first).double()
    past = discounted_return(reward, ended, DISCOUNT) - weight * reward_to_go(reward, ended, DISCOUNT)
    assert past[is_first].abs().max() < 1e-12
    growth = past[1:] - past[:-1] - (weight * reward)[:-1]
    assert growth[~is_first[1:]].abs().max() < 1e-12


def test_continues_is_the_complement_in_the_asked_type() -> None:
    ended = torch.tensor([[True, False]])
    for dtype in (torch.float32, torch.float64):
        result = continues(ended, dtype)
        assert result.dtype == dtype
        assert result.tolist() == [[0.0, 1.0]]


def test_importing_estimators_and_objectives_imports_no_torch() -> None:
    program = "import sys, pistar.estimators, pistar.objectives; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

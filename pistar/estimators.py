"""Returns and advantages: every estimator here is one backward recurrence y_t = x_t + d_t · y_{t+1}.

They differ only in what is added (x) and in what is carried back (d): ``reward_to_go`` adds rewards and carries γ,
``gae`` adds one-step errors and carries γλ, ``v_trace`` weighs both by importance ratios, and where an episode ends
nothing is carried. All of them are pure functions of time-major [T, B] tensors.

Conventions
-----------
``terminated``: nothing follows, the value behind it is 0. ``truncated``: the episode was cut, the value behind it is
that of its final observation. Terminated wins where both are set. ``next_value[t]`` is V of the observation that step
t led to, *before* any reset: V(final_observation) where an episode ended. The end of the rollout cuts the episodes
that still run, so ``next_value[T - 1]`` stands for what they would have gained.

This file leaves out whitening of advantages (see ``pistar.objectives``), reward scaling and where ratios come from, and
uses tensor methods only: importing it imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def accumulate(x: Tensor, decay: Tensor, last: Tensor | None = None) -> Tensor:
    """Solve y_t = x_t + decay_t · y_{t+1} backwards in time, with y_T = ``last`` (None: 0): [T, ...] -> [T, ...].

    By doubling: after round k every y_t already holds its next 2^k terms, so log₂ T rounds of whole-tensor operations
    replace T small ones, on any device and with static shapes. The relative rounding error in float32 stays below 1e-5
    up to T = 2048. Differentiable in ``x`` and ``last``, not in ``decay``; no argument is changed.
    """
    total = x.clone()
    if last is not None:
        total[-1] += decay[-1] * last
    steps, reach = len(x), 1
    while reach < steps:
        total[:-reach] += decay[: steps - reach] * total[reach:]
        decay = decay[:-reach] * decay[reach:]
        reach *= 2
    return total


def continues(ended: Tensor, dtype: torch.dtype) -> Tensor:
    """1 where the episode goes on after the step and 0 where it ended: [T, B] bool -> [T, B]."""
    return ended.logical_not().to(dtype)


def reward_to_go(
    reward: Tensor, ended: Tensor, discount: float, next_value: Tensor | None = None, truncated: Tensor | None = None
) -> Tensor:
    """G_t = Σ_{k ≥ t} γ^{k−t} r_k up to the end of the episode: [T, B] -> [T, B].

    Without ``next_value`` nothing is added behind a cut: right for episodes that terminated, too small for the others.
    With it, γ · next_value is added where ``truncated`` (pass ``truncated & ~terminated``: ``ended`` alone cannot tell)
    and where the rollout stops in the middle of an episode.

    Targets E[G_t | s_t, a_t] = Q(s_t, a_t) of the current policy; with a bootstrap as far as V is right.
    """
    decay = discount * continues(ended, reward.dtype)
    if next_value is None:
        return accumulate(reward, decay)
    gain = reward
    if truncated is not None:
        gain = reward + discount * next_value.masked_fill(~truncated, 0.0)
    return accumulate(gain, decay, last=next_value[-1])


def discounted_return(reward: Tensor, ended: Tensor, discount: float) -> Tensor:
    """The return G_0 = Σ_k γ^k r_k of the whole trajectory, repeated at each of its steps: [T, B] -> [T, B].

    The first row of every lane starts an episode. An episode that the rollout cuts has the return of what was seen.

    Targets ∇J itself: Σ_t ∇log π(a_t|s_t) G_0 has the expectation ∇J, and because rewards before t do not depend on a_t
    that is also the expectation of Σ_t γ^t ∇log π(a_t|s_t) G_t with the reward-to-go G_t. The factor γ^t is therefore
    already inside; do not apply it twice (Williams 1992, section 4).
    """
    carried = continues(ended, reward.dtype)[:-1]
    repeats = reward.new_zeros(reward.shape)
    repeats[1:] = carried
    start = reward_to_go(reward, ended, discount) * (1 - repeats)
    return accumulate(start.flip(0), repeats.flip(0)).flip(0)  # the same recurrence, run forwards


def elapsed(is_first: Tensor, start: Tensor | int = 0) -> Tensor:
    """Steps taken in the episode before this one, t = 0, 1, …: [T, B] bool -> [T, B] int64.

    ``start`` ([B] or a number) is the index of row 0 where that row continues an episode of the previous rollout.
    """
    rows = is_first.long().new_ones(len(is_first)).cumsum(0) - 1
    rows = rows.view(-1, *[1] * (is_first.dim() - 1))
    origin: Tensor = rows.where(is_first, -start).cummax(0).values
    return rows - origin


def td_errors(reward: Tensor, value: Tensor, next_value: Tensor, terminated: Tensor, discount: float) -> Tensor:
    """δ_t = r_t + γ V(s_{t+1}) − V(s_t), with V(s_{t+1}) = 0 where terminated: [T, B] -> [T, B].

    Targets A(s_t, a_t) if V is the value of the current policy; otherwise it is biased by the error of V.
    """
    return reward + discount * next_value.masked_fill(terminated, 0.0) - value


def gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    trace: float,
) -> Tensor:
    """Generalised advantage estimate Â_t = Σ_k (γλ)^k δ_{t+k} within the episode, λ = ``trace``: [T, B] -> [T, B].

    Schulman et al. 2016 (High-dimensional continuous control using generalized advantage estimation), equation 16.

    Targets A(s_t, a_t) for every λ if V is the value of the current policy. At λ = 1 it targets Q(s_t, a_t) − V(s_t)
    for *any* V, which gives the same policy gradient, as long as no cut episode is bootstrapped.
    """
    decay = discount * trace * continues(terminated | truncated, reward.dtype)
    return accumulate(td_errors(reward, value, next_value, terminated, discount), decay)


def lambda_return(
    reward: Tensor, next_value: Tensor, terminated: Tensor, truncated: Tensor, discount: float, trace: float
) -> Tensor:
    """λ-return G_t = r_t + γ ((1 − λ) V(s_{t+1}) + λ G_{t+1}), λ = ``trace``: [T, B] -> [T, B].

    Behind a cut G_{t+1} is V(s_{t+1}), behind a termination 0 (Sutton & Barto 2018, equation 12.18). Minus V(s_t) it is
    ``gae``, where next_value[t] = value[t + 1] inside the episodes.

    Targets V(s_t) (given the action: Q(s_t, a_t)) of the current policy: at λ = 1 for any V, otherwise if V is right.
    """
    carried = trace * continues(terminated | truncated, reward.dtype)
    gain = reward + discount * (1 - carried) * next_value.masked_fill(terminated, 0.0)
    return accumulate(gain, discount * carried, last=next_value[-1])


def v_trace(
    ratio: Tensor,
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    trace: float,
    ratio_bound: float = 1.0,
    trace_bound: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """V-trace targets v_t and the advantages of their policy gradient, from steps of another policy μ: [T, B] -> 2 × [T, B].

        v_t = V(s_t) + Σ_k γ^k (Π_{i<k} c_{t+i}) ρ_{t+k} δ_{t+k}    within the episode
        Â_t = ρ_t (r_t + γ v_{t+1} − V(s_t)),    v_{t+1} = V(final observation) behind a cut, 0 behind a termination

    with ρ = min(ρ̄, π/μ) and c = λ min(c̄, π/μ) from ``ratio`` = π(a|s) / μ(a|s), ρ̄ = ``ratio_bound``,
    c̄ = ``trace_bound``, λ = ``trace``. Espeholt et al. 2018 (IMPALA), equation 1, remarks 1 and 2, and section 4.2.

    At ratio 1, v − V is ``gae`` for every λ. The advantage carries no c_t: with it, as published, Â is ``gae`` at λ = 1
    only. The target's fixed point is the value of π where ρ̄ never binds, otherwise of a policy between μ and π; c̄ and
    λ change how fast and how noisily it is reached, not where it lies.
    """
    weight = ratio.clamp(max=ratio_bound)
    carried = discount * continues(terminated | truncated, reward.dtype)
    error = td_errors(reward, value, next_value, terminated, discount)
    correction = accumulate(weight * error, carried * trace * ratio.clamp(max=trace_bound))
    behind = correction.new_zeros(correction.shape)
    behind[:-1] = correction[1:]
    return value + correction, weight * (error + carried * behind)

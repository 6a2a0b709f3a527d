"""What is climbed, and what is watched while climbing: weighted means over any number of samples.

Objectives are to be *maximised*; the one loss, ``squared_error``, says so in its name. Gradients reach ``log_prob``
and ``value``; advantages, targets and old log-probabilities should come without a graph. ``weight`` (same shape, >=
0) is how much a sample counts: None is 1 everywhere, the mean is divided by the sum of weights, and a sample of
weight 0 is silent: whatever it holds, NaN and infinity included, reaches neither the value nor the gradient.

This file leaves out entropy bonuses and the sum of terms, which are the algorithm's; it uses tensor methods only, so
that importing it imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def weighted_mean(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Σ w x / Σ w over all entries, and 0 where all weights are 0: [...] -> scalar."""
    if weight is None:
        return x.mean()
    weight = weight.to(x.dtype).expand_as(x)
    total = weight.sum()
    return (_audible(x, weight) * weight).sum() / (total + (total == 0))


def standardize(advantage: Tensor, weight: Tensor | None = None) -> Tensor:
    """Advantages shifted and scaled to mean 0 and deviation 1 over the samples that count: [...] -> [...].

    Where they do not vary, and for samples of weight 0, the answer is 0.
    """
    advantage = _audible(advantage, weight)
    centred = advantage - weighted_mean(advantage, weight)
    deviation = _variance(advantage, weight).sqrt()
    # The mean of equal numbers need not be that number, bit for bit; what rounding left must not be blown up to 1.
    constant = _constant(advantage, weight) | (deviation == 0)
    return _audible((centred / (deviation + constant)).masked_fill(constant, 0.0), weight)


def score_function(log_prob: Tensor, advantage: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of log π(a|s) · A, whose gradient is that of REINFORCE (Williams 1992): [...] -> scalar."""
    return weighted_mean(_audible(log_prob, weight) * _audible(advantage, weight), weight)


def importance_weighted(
    log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Mean of r A with r = π(a|s) / π_old(a|s), for samples of the old policy: [...] -> scalar.

    The conservative policy iteration objective (Schulman et al. 2017, equation 6). At π = π_old its gradient is that of
    ``score_function``.
    """
    return weighted_mean(_log_ratio(log_prob, old_log_prob, weight).exp() * _audible(advantage, weight), weight)


def clipped_surrogate(
    log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float | Tensor, weight: Tensor | None = None
) -> Tensor:
    """Mean of min(r A, clip(r, 1 − ε, 1 + ε) A), r = π(a|s) / π_old(a|s), ε = ``clip``: [...] -> scalar.

    Schulman et al. 2017 (Proximal policy optimization algorithms), equation 7. A sample whose ratio has already left
    the interval in the direction that its advantage favours gives no gradient.
    """
    ratio = _log_ratio(log_prob, old_log_prob, weight).exp()
    advantage = _audible(advantage, weight)
    clipped = ratio.clamp(1 - clip, 1 + clip)  # type: ignore[arg-type]  # two floats or two tensors
    return weighted_mean((ratio * advantage).minimum(clipped * advantage), weight)


def quadratic_surrogate(
    log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float | Tensor, weight: Tensor | None = None
) -> Tensor:
    """Mean of r A − |A| (r − 1)² / 2ε, r = π(a|s) / π_old(a|s), ε = ``clip``: [...] -> scalar.

    Xie et al. 2025 (Simple policy optimization), arXiv:2401.16025. Each sample's largest value lies at the edge that clipping
    knows, r = 1 + ε sign A, but beyond it the slope turns round instead of vanishing: a ratio that left is brought back.
    """
    ratio, advantage = _log_ratio(log_prob, old_log_prob, weight).exp(), _audible(advantage, weight)
    return weighted_mean(ratio * advantage - advantage.abs() * (ratio - 1).square() / (2 * clip), weight)


def squared_error(value: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """A loss, to be minimised: mean of (V − target)², without a factor ½: [...] -> scalar."""
    return weighted_mean((_audible(value, weight) - _audible(target, weight)).square(), weight)


def approximate_kl(log_prob: Tensor, old_log_prob: Tensor, weight: Tensor | None = None) -> Tensor:
    """Estimate of KL(π_old ‖ π) from samples of π_old: mean of (r − 1) − log r, never negative: [...] -> scalar.

    Estimator k3 of Schulman 2020 (Approximating KL divergence): unbiased, with less variance than the mean of −log r.
    """
    log_ratio = _log_ratio(log_prob.detach(), old_log_prob, weight)
    return weighted_mean(log_ratio.expm1() - log_ratio, weight)


def clip_fraction(log_prob: Tensor, old_log_prob: Tensor, clip: float | Tensor, weight: Tensor | None = None) -> Tensor:
    """Share of samples whose ratio π / π_old lies outside [1 − ε, 1 + ε], ε = ``clip``: [...] -> scalar."""
    log_ratio = _log_ratio(log_prob.detach(), old_log_prob, weight)
    return weighted_mean((log_ratio.expm1().abs() > clip).to(log_prob.dtype), weight)


def explained_variance(value: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """1 − Var(target − V) / Var(target): 1 is a perfect critic, 0 no better than a constant: [...] -> scalar.

    Where the targets do not vary there is nothing to explain, and the answer is 0.
    """
    value, target = _audible(value.detach(), weight), _audible(target, weight)
    spread = _variance(target, weight)
    constant = _constant(target, weight) | (spread == 0)
    return (1 - _variance(target - value, weight) / (spread + constant)).masked_fill(constant, 0.0)


def _audible(x: Tensor, weight: Tensor | None) -> Tensor:
    """Zero the entries of weight 0 before anything is computed from them: 0 · NaN is NaN, forwards and backwards."""
    return x if weight is None else x.masked_fill(weight == 0, 0.0)


def _log_ratio(log_prob: Tensor, old_log_prob: Tensor, weight: Tensor | None) -> Tensor:
    return _audible(log_prob, weight) - _audible(old_log_prob, weight)


def _variance(x: Tensor, weight: Tensor | None) -> Tensor:
    return weighted_mean((x - weighted_mean(x, weight)).square(), weight)


def _constant(x: Tensor, weight: Tensor | None) -> Tensor:
    """Whether all entries that count are equal (or none counts): [...] -> bool scalar."""
    if weight is None:
        return x.amin() == x.amax()
    silent = (weight == 0).expand_as(x)
    return x.masked_fill(silent, float("inf")).amin() >= x.masked_fill(silent, float("-inf")).amax()

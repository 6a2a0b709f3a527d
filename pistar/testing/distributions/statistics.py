"""Rules about many samples, with thresholds that chance passes once in millions of calls; seeds make each call repeatable."""

from __future__ import annotations

import math

import torch
from gymnasium import spaces
from torch import Tensor

from pistar.errors import PistarError
from pistar.heads import Head
from pistar.testing.distributions.rules import violate
from pistar.testing.distributions.structure import is_box
from pistar.testing.distributions.trial import Trial, gradients_of
from pistar.tree import Tree, leaves, map_leaves

SAMPLES, CHUNKS = 20_000, 50
DEVIATIONS = 6.0
# Dvoretzky, Kiefer & Wolfowitz: an empirical distribution function is farther than this from the true one once in 1e9 times.
GAP = math.sqrt(math.log(2e9) / (2 * SAMPLES))


def check_probabilities(trial: Trial) -> None:
    """Do the probabilities of a finite space sum to 1, and do samples have them?"""
    elements = trial.elements()
    if elements is None:
        return
    head = trial.head()
    count = elements.shape[0]
    with torch.no_grad():
        probability = head(trial.outputs(head).expand(count, head.size)).log_prob(head.from_environment(elements)).exp()
    if abs(float(probability.sum()) - 1) > 1e-6:
        violate("normalisation", f"the probabilities of all {count} actions sum to {float(probability.sum())}")
    _, action = trial.many(head, SAMPLES)
    drawn = head.to_environment(action).double().reshape(SAMPLES, -1)
    share = torch.stack([(drawn == row).all(-1).double().mean() for row in elements.double().reshape(count, -1)])
    error = DEVIATIONS * (probability * (1 - probability) / SAMPLES).sqrt() + 1e-6
    if bool(((share - probability).abs() > error).any()):
        worst = int((share - probability).abs().argmax())
        violate("samples", f"the action {elements[worst].tolist()} has the probability {float(probability[worst]):.4f} "
                f"and the share {float(share[worst]):.4f} of {SAMPLES} samples")  # fmt: skip


def check_density(trial: Trial) -> None:
    """Is the density of one dimension what it should be, in value and in samples?"""
    if not is_box(trial.space):
        return
    # From the middle to the ends ever more densely: x = tanh s within bounds, x = sinh s without.
    s = torch.linspace(-17.0, 17.0, 8001, dtype=torch.float64)
    _check_density(trial, spaces.Box(-1.0, 1.0, (1,), s.numpy().dtype), s.tanh(), s.cosh().square().reciprocal(), s)
    s = torch.linspace(-9.0, 9.0, 8001, dtype=torch.float64)
    try:
        _check_density(trial, spaces.Box(-math.inf, math.inf, (1,), s.numpy().dtype), s.sinh(), s.cosh(), s)
    except PistarError:  # a family that needs bounds
        return


def _check_density(trial: Trial, space: spaces.Box, x: Tensor, slope: Tensor, s: Tensor) -> None:
    """∫ π(x) dx over the interior, up to every point, beside the samples there; ``slope`` is dx/ds."""
    head = trial.head(space=space)
    with torch.no_grad():
        distribution = head(trial.outputs(head).expand(len(x), head.size))
        density = distribution.log_prob(head.from_environment(x.unsqueeze(-1))).exp() * slope
    integral = torch.cumulative_trapezoid(density, s)
    for t in range(2):  # two steps, which noise may connect
        noise = map_leaves(lambda leaf, t=t: leaf[t], trial.noise(head, (2, SAMPLES)))
        with torch.no_grad():
            action = head(trial.outputs(head).expand(SAMPLES, head.size)).sample(noise)
        drawn = head.to_environment(action).flatten().sort().values
        inside = drawn[(drawn > x[0]) & (drawn < x[-1])]
        share = len(inside) / SAMPLES
        allowed = DEVIATIONS * math.sqrt(share * (1 - share) / SAMPLES) + 1e-3
        if not abs(float(integral[-1]) - share) <= allowed:
            violate("normalisation", f"over the interior of {space} the density integrates to {float(integral[-1]):.5f}, "
                    f"and {share:.5f} of the samples are there")  # fmt: skip
        below = torch.searchsorted(inside, x[1:], right=True) / SAMPLES
        gap = float((below - integral).abs().max())
        if gap > 2 * GAP:
            violate(
                "samples", f"in {space} the distribution function of samples is up to {gap:.4f} away from log_prob's"
            )


def check_score(trial: Trial) -> None:
    """Is the mean of ∇ log π(a) zero, as it is for samples of π and for nothing else?"""
    head = trial.head()
    outputs = trial.outputs(head).requires_grad_()
    weights = [outputs, *head.parameters()]
    _, action = trial.many(head, SAMPLES)
    rows = SAMPLES // CHUNKS
    means = []
    for chunk in range(CHUNKS):
        part = map_leaves(lambda x, c=chunk: x[c * rows : (c + 1) * rows], action)
        log_prob = head(outputs.expand(rows, head.size)).log_prob(part).mean()
        means.append(torch.cat([gradient.flatten() for gradient in gradients_of(log_prob, weights)]))
    mean, error = torch.stack(means).mean(0), torch.stack(means).std(0) / math.sqrt(CHUNKS)
    worst = int(((mean.abs() - 1e-9) / (error + 1e-12)).argmax())
    if float(mean[worst].abs()) > DEVIATIONS * float(error[worst]) + 1e-9:
        where = f"output {worst}" if worst < head.size else f"weight {worst - head.size} of the head"
        violate(
            "samples", f"E[∂ log π(a) / ∂ {where}] is {float(mean[worst]):.4f} ± {float(error[worst]):.4f} over samples"
        )


def check_ratio(trial: Trial) -> None:
    """Is E[π'(a) / π(a)] 1 for neighbours π' of π? It is not where dimensions that log_prob takes for independent are not."""
    head = trial.head()
    one, action = trial.many(head, SAMPLES)
    for salt in (21, 22, 23):
        with torch.no_grad():
            outputs = trial.outputs(head) + 0.3 * trial.outputs(head, (), salt)
            ratio = (head(outputs.expand(SAMPLES, head.size)).log_prob(action) - one.log_prob(action)).exp()
        mean, error = float(ratio.mean()), float(ratio.std()) / math.sqrt(SAMPLES)
        if not abs(mean - 1) <= DEVIATIONS * error + 1e-6:
            violate("samples", f"E[π'(a) / π(a)] is {mean:.4f} ± {error:.4f} for a neighbour π' of π, expected 1")


def check_entropy_and_divergence(trial: Trial) -> None:
    """Are entropy and kl the means that they stand for?"""
    head = trial.head()
    one, action = trial.many(head, SAMPLES)
    for salt in (11, 12, 13):
        with torch.no_grad():
            other = head(trial.outputs(head, (), salt).expand(SAMPLES, head.size))
            log_prob = one.log_prob(action)
            _compare("divergence", "kl", one.kl(other)[0], log_prob - other.log_prob(action))
            if not float(one.kl(other)[0]) >= 0:
                violate("divergence", f"kl to another distribution is {float(one.kl(other)[0])}, below 0")
    _compare("entropy", "entropy", one.entropy()[0], -log_prob)
    own = float(one.kl(one)[0].detach().abs())
    if not own < 1e-9:
        violate("divergence", f"kl of a distribution to itself is {own}, not 0")


def _compare(rule: str, name: str, found: Tensor, terms: Tensor) -> None:
    error = DEVIATIONS * float(terms.std()) / math.sqrt(SAMPLES) + 1e-3
    if not abs(float(found) - float(terms.mean())) < error:
        violate(
            rule, f"{name} is {float(found):.5f}, but the mean over samples {float(terms.mean()):.5f} ± {error:.5f}"
        )


def check_mode(trial: Trial) -> None:
    """Is the mode the most likely action, or at least the middle one?"""
    head = trial.head()
    one, action = trial.many(head, SAMPLES)
    with torch.no_grad():
        mode = one.mode()
        likelier = float(one.log_prob(action).max() - one.log_prob(mode)[0])
    if likelier > 1e-6 and not _central(head, mode, action):
        violate("mode", f"a sample is likelier than the mode, by {likelier:.5f} nats")


def _central(head: Head, mode: Tree, action: Tree) -> bool:
    """Whether half of the samples are below the mode, in every dimension that has an order."""
    pairs = [(m, a) for (_, m), (_, a) in zip(leaves(mode), leaves(action), strict=True) if a.is_floating_point()]
    error = DEVIATIONS * 0.5 / math.sqrt(SAMPLES)
    return bool(pairs) and all(bool((((a < m).double().mean(0) - 0.5).abs() < error).all()) for m, a in pairs)


CHECKS = (check_score, check_ratio, check_probabilities, check_density, check_entropy_and_divergence, check_mode)

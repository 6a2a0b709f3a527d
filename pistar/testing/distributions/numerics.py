"""Rules about arithmetic: derivatives, precision, extremes, NaN."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pistar.heads import Head
from pistar.testing.distributions.rules import violate
from pistar.testing.distributions.trial import Trial, detached, finite, gradients_of
from pistar.tree import Tree, map_leaves

STEP, DIRECTIONS = 1e-6, 8
HUGE_OUTPUT, HUGE_WEIGHT = 1e4, 50.0


def check_gradients(trial: Trial) -> None:
    """Are derivatives along random directions those of finite differences?"""
    head = trial.head()
    outputs = trial.outputs(head, (3,)).requires_grad_()
    with torch.no_grad():
        fixed = head(trial.outputs(head, (3,), salt=5))
    _, action = trial.drawn(head, outputs.detach())
    weights = [outputs, *head.parameters()]
    quantities: dict[str, Callable[[], Tensor]] = {
        "log_prob": lambda: head(outputs).log_prob(action).sum(),
        "entropy": lambda: head(outputs).entropy().sum(),
        "kl to another": lambda: head(outputs).kl(fixed).sum(),
        "kl from another": lambda: fixed.kl(head(outputs)).sum(),
    }
    for name, quantity in quantities.items():
        gradients = gradients_of(quantity(), weights)
        generator = trial.generator(6)
        for _ in range(DIRECTIONS):
            along = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in weights]
            expected = _difference(quantity, weights, along)
            found = sum(float((g * v).sum()) for g, v in zip(gradients, along, strict=True))
            if not abs(found - expected) <= 1e-5 * (1 + abs(expected)):
                violate(
                    "gradients",
                    f"along a random direction {name} grows by {expected:.6f}, its gradient says {found:.6f}",
                )


def _difference(quantity: Callable[[], Tensor], weights: list[Tensor], along: list[Tensor]) -> float:
    """(f(w + ε v) − f(w − ε v)) / 2ε; the weights are left as they were."""
    before = [weight.detach().clone() for weight in weights]
    values = []
    with torch.no_grad():
        for step in (STEP, -STEP):
            for weight, start, direction in zip(weights, before, along, strict=True):
                weight.copy_(start + step * direction)
            values.append(float(quantity()))
        for weight, start in zip(weights, before, strict=True):
            weight.copy_(start)
    return (values[0] - values[1]) / (2 * STEP)


def check_precision(trial: Trial) -> None:
    """Does single precision say what double precision says?"""
    double, single = trial.head(torch.float64), trial.head(torch.float32)
    outputs = trial.outputs(double, (50,))
    one, action = trial.drawn(double, outputs)
    rounded = map_leaves(lambda x: x.float() if x.is_floating_point() else x, action)
    other = single(outputs.float())
    pairs = {"log_prob": (other.log_prob(rounded), one.log_prob(action)), "entropy": (other.entropy(), one.entropy())}
    for name, (found, expected) in pairs.items():
        gap = float(((found.double() - expected).abs() / (1 + expected.abs())).max().detach())
        if not gap < 1e-3:
            violate("precision", f"{name} in float32 is off by {gap:.5f} of its size")


def check_extremes(trial: Trial) -> None:
    """Does nothing become infinite or NaN where outputs and weights are as large as a training gone wrong makes them?"""
    for weight in (None, HUGE_WEIGHT, -HUGE_WEIGHT):
        head = trial.head(torch.float32)
        with torch.no_grad():
            for parameter in head.parameters():
                if weight is not None:
                    parameter.fill_(weight)
        signs = trial.outputs(head, (20,), salt=7, dtype=torch.float32).sign()
        signs[0], signs[1] = 1.0, -1.0
        for size in (HUGE_OUTPUT, 0.0):
            _check_extreme(
                trial,
                head,
                size * signs,
                f"outputs of ±{size:g}" + ("" if weight is None else f", weights of {weight:g}"),
            )


def _check_extreme(trial: Trial, head: Head, outputs: Tensor, what: str) -> None:
    outputs = outputs.clone().requires_grad_()
    distribution, action = trial.drawn(head, outputs)
    mode = detached(distribution.mode())
    with torch.no_grad():
        opposite = head(-outputs)
    total = {
        "log_prob of a sample": distribution.log_prob(action),
        "log_prob of the mode": distribution.log_prob(mode),
        "entropy": distribution.entropy(),
        "kl": distribution.kl(opposite),
    }
    results: dict[str, Tree] = {
        **total,
        "a sample": action,
        "the mode": mode,
        "to_environment": head.to_environment(action),
    }
    for name, result in results.items():
        if not finite(detached(result)):
            violate("extremes", f"{what} make {name} NaN or infinite")
    learned = [outputs, *head.parameters()]
    for name, value in total.items():
        if not finite(tuple(gradients_of(value.sum(), learned))):
            violate("extremes", f"{what} make the gradient of {name} NaN or infinite")


def check_nan(trial: Trial) -> None:
    """Does a NaN show?"""
    head = trial.head()
    outputs = trial.outputs(head).expand(head.size, head.size).clone()
    _, action = trial.drawn(head, outputs)
    log_prob = head(outputs.fill_diagonal_(float("nan"))).log_prob(action).detach()  # one output of each row
    if not bool(log_prob.isnan().all()):
        hidden = int((~log_prob.isnan()).nonzero()[0])
        violate("nan", f"output {hidden} is NaN, and the log-probability {float(log_prob[hidden])}")


CHECKS = (check_gradients, check_precision, check_extremes, check_nan)

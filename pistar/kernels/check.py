"""Are the compiled kernels right here? A small gradient of every head and activation beside torch's own, before any use."""

from __future__ import annotations

import ctypes
import math
from itertools import pairwise

import torch
from torch import nn

from pistar.kernels.library import Loss, Metrics, Minibatch

ROWS, SIZES, CRITIC = 61, (5, 20, 70, 3), (5, 33, 1)
TOLERANCE = 2e-4  # of the gradient's length
ACTIVATIONS = (torch.tanh, torch.relu, nn.functional.elu)


def problem(native: ctypes.CDLL) -> str | None:
    """What is wrong with the kernels, or None."""
    generator = torch.Generator().manual_seed(7)
    # Kernels are first asked for anywhere, within no_grad too.
    with torch.inference_mode(False), torch.enable_grad():
        for gaussian in (False, True):
            for index in range(len(ACTIVATIONS)):
                error = difference(native, gaussian, index, generator)
                if not error < TOLERANCE:
                    head = "gaussian" if gaussian else "categorical"
                    return f"gradient off by {error:.1g} for {head} {ACTIVATIONS[index].__name__}"
    return None


def normal(shape: int | tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Of the kernels' own precision, whatever torch's default is."""
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")


def dense(x: torch.Tensor, parameters: list[torch.Tensor], index: int) -> torch.Tensor:
    """A tower by torch."""
    for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        x = ACTIVATIONS[index](nn.functional.linear(x, weight, bias))
    return nn.functional.linear(x, *parameters[-2:])


def drawn(sizes: tuple[int, ...], generator: torch.Generator) -> list[torch.Tensor]:
    """Weights and biases of a tower."""
    shapes = [shape for i, o in pairwise(sizes) for shape in ((o, i), (o,))]
    return [(normal(shape, generator) * 0.4).requires_grad_() for shape in shapes]


def difference(native: ctypes.CDLL, gaussian: bool, index: int, generator: torch.Generator) -> float:
    """Length of the error of a clipped surrogate's gradient, relative to the gradient."""
    actor, critic = drawn(SIZES, generator), drawn(CRITIC, generator)
    log_std = torch.full((SIZES[-1],), -0.3, dtype=torch.float32, device="cpu", requires_grad=True)
    observation = normal((ROWS, SIZES[0]), generator)
    noise = normal((ROWS, SIZES[-1]), generator)
    old, advantage, target = (normal(ROWS, generator) for _ in range(3))
    outputs, value = dense(observation, actor, index), dense(observation, critic, index).squeeze(-1)
    if gaussian:
        action = (outputs + log_std.exp() * noise).detach()
        z = (action - outputs) / log_std.exp()
        log_prob = (-0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
        entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum().expand(ROWS)
    else:
        action, log_probability = noise.argmax(-1), outputs.log_softmax(-1)
        log_prob = log_probability.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        entropy = -(log_probability.exp() * log_probability).sum(-1)
    old = log_prob.detach() + 0.2 * old
    ratio = (log_prob - old).exp()
    surrogate = (ratio * advantage).minimum(ratio.clamp(0.8, 1.2) * advantage).mean()
    whole = 0.5 * (value - target).square().mean() - surrogate - 0.1 * entropy.mean()
    whole.backward()  # type: ignore[no-untyped-call]
    parameters = [*actor, *([log_std] if gaussian else []), *critic]
    expected = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    flat = torch.cat([p.detach().flatten() for p in parameters])
    found = torch.zeros_like(flat)
    at = sum(p.numel() for p in actor)
    sizes, critic_sizes = (ctypes.c_int * len(SIZES))(*SIZES), (ctypes.c_int * len(CRITIC))(*CRITIC)
    critic_at = at + log_std.numel() * gaussian
    net = native.network_new(
        int(gaussian), index, len(SIZES) - 1, sizes, len(CRITIC) - 1, critic_sizes, 0, critic_at, at, -5.0, 2.0
    )
    if not net:
        return float("inf")
    pointers = (x.data_ptr() for x in (observation, action, old, advantage, target))
    batch, loss, metrics = Minibatch(ROWS, *pointers, None), Loss(1, 0, 1, 0.2, 0.1, 0.5), Metrics()
    arguments = (ctypes.addressof(x) for x in (batch, loss))
    native.network_gradient(net, flat.data_ptr(), *arguments, found.data_ptr(), ctypes.addressof(metrics))
    native.network_free(net)
    return float((found - expected).norm() / expected.norm())

"""Steepest ascent where distance is the KL divergence between policies, not the length of a step in parameters.

    F = E_s[Jᵀ H J],    J = ∂φ/∂θ,    H = ∇²_φ KL(π_φ_old ‖ π_φ) at φ = φ_old,    F⁻¹ g by conjugate gradients

φ are the distribution's own parameters (logits; means and log σ), so that H, which equals the Fisher information of the
distribution, comes from the exact ``kl`` of whatever distribution the policy has. F is never formed, and no second derivative of
the network enters it: a product F v is J v, then H by differentiating a formula of φ alone twice, then Jᵀ by one backward pass.
This is the analytic form of Schulman et al. (2015), arXiv:1502.05477, appendix C.1.

All functions are pure: nothing here moves a parameter. Left out: preconditioning, Kronecker factors, and F from a part of the
batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate, repeat
from operator import mul
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import dual_level, make_dual, unpack_dual

from pistar.distributions import Distribution
from pistar.objectives import weighted_mean
from pistar.policy import Policy
from pistar.tree import leaves, map_leaves

Path = tuple[str, ...]  # of a leaf within a distribution
Product = Callable[[Tensor], Tensor]  # v [N] -> F v [N]
Differential = Callable[[Tensor], dict[Path, Tensor]]  # v [N] -> J v, by leaf
Metric = Callable[[list[Tensor]], list[Tensor]]  # u -> H u, leaf by leaf
Distributed = Callable[[Policy], Distribution]  # a policy -> its distributions over the actions of a fixed batch


def fisher_product(
    policy: Policy, parameters: Iterable[nn.Parameter], distributed: Distributed, weight: Tensor | None = None
) -> Product:
    """The map v -> F v for some parameters of a policy, flat and in their order; F is the weighted mean over the batch.

    ``distributed(policy)`` evaluates the batch. Good until a parameter moves.
    """
    moved = list(parameters)
    free = [parameter for parameter in moved if parameter.requires_grad]
    distribution = distributed(policy)
    outputs = {path: leaf for path, leaf in leaves(distribution) if leaf.requires_grad}
    metric = output_metric(distribution, weight)
    chosen: list[Differential] = []

    def pull_back(images: list[Tensor]) -> Tensor:
        # Negated, and back again: a deviation out of its bounds lets through what *descent* would bring back (`heads`).
        downhill = [-image for image in images]
        found = iter(
            torch.autograd.grad(list(outputs.values()), free, downhill, retain_graph=True, materialize_grads=True)
        )
        shares = [next(found) if parameter.requires_grad else torch.zeros_like(parameter) for parameter in moved]
        return -torch.cat([share.flatten() for share in shares])

    def product(vector: Tensor) -> Tensor:
        if not chosen:
            quick = backwards_twice(outputs, moved)
            right = is_transposed(quick, pull_back, vector)
            chosen.append(quick if right else forwards(policy, moved, distributed))
        tangents = chosen[0](vector)
        return pull_back(metric([tangents[path] for path in outputs]))

    return product


def is_transposed(quick: Differential, back: Callable[[list[Tensor]], Tensor], vector: Tensor) -> bool:
    """Whether w·J v = v·Jᵀw for some w; a layer that can be differentiated but once breaks it, by an error or in silence."""
    try:
        tangents = list(quick(vector).values())
    except RuntimeError:
        return False
    probes = [torch.linspace(1, 2, u.numel(), dtype=u.dtype, device=u.device).view_as(u) for u in tangents]
    pulled = back(probes)
    here = sum(float((u * w).sum()) for u, w in zip(tangents, probes, strict=True))
    rounding = sum(float(u.norm() * w.norm()) for u, w in zip(tangents, probes, strict=True))
    return abs(here - float(pulled.dot(vector))) <= 1e-5 * (rounding + float(pulled.norm() * vector.norm()))


def backwards_twice(outputs: Mapping[Path, Tensor], parameters: list[nn.Parameter]) -> Differential:
    """The map v -> J v, how ``outputs`` move when ``parameters`` move along v, as ∂/∂w (v · Jᵀw), whatever w is.

    Jᵀw is linear in w, so that this costs no more than a backward pass: the trick is Townsend's (2017).
    """
    free = [parameter for parameter in parameters if parameter.requires_grad]
    cotangents = [torch.zeros_like(leaf).requires_grad_() for leaf in outputs.values()]
    pulled = torch.autograd.grad(list(outputs.values()), free, cotangents, create_graph=True, materialize_grads=True)

    def differential(vector: Tensor) -> dict[Path, Tensor]:
        shares = torch.split(vector, [parameter.numel() for parameter in parameters])
        along = [s.view_as(p) for p, s in zip(parameters, shares, strict=True) if p.requires_grad]
        seen = [(pull, share) for pull, share in zip(pulled, along, strict=True) if pull.requires_grad]
        found = torch.autograd.grad(
            [pull for pull, _ in seen],
            cotangents,
            [share for _, share in seen],
            retain_graph=True,
            materialize_grads=True,
        )
        return dict(zip(outputs, found, strict=True))

    return differential


def forwards(policy: Policy, parameters: list[nn.Parameter], distributed: Distributed) -> Differential:
    """The same by forward differentiation: dearer, since the network is evaluated every time, but it needs no second pass."""
    names = {id(parameter): name for name, parameter in policy.named_parameters()}
    module = _Distributed(policy, distributed)

    def differential(vector: Tensor) -> dict[Path, Tensor]:
        shares = torch.split(vector, [parameter.numel() for parameter in parameters])
        # Without gradients, which are another thing, and without a library whose memories know no forward derivative.
        with dual_level(), torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
            duals = {
                f"policy.{names[id(parameter)]}": make_dual(parameter, share.view_as(parameter))  # type: ignore[no-untyped-call]
                for parameter, share in zip(parameters, shares, strict=True)
            }
            distribution = torch.func.functional_call(module, duals, ())
            pairs = {path: unpack_dual(leaf) for path, leaf in leaves(distribution)}  # type: ignore[no-untyped-call]
            return {path: torch.zeros_like(x) if tangent is None else tangent for path, (x, tangent) in pairs.items()}

    return differential


def output_metric(distribution: Distribution, weight: Tensor | None) -> Metric:
    """The map u -> H u for the distribution's parameters that depend on anything, as lists in the order of `tree.leaves`.

    H is the Hessian of the weighted mean of KL(π_φ_old ‖ π_φ) at φ = φ_old.
    """
    old = map_leaves(torch.Tensor.detach, distribution)
    varied: list[Tensor] = []

    def vary(leaf: Tensor) -> Tensor:
        if not leaf.requires_grad:
            return leaf
        varied.append(leaf.detach().requires_grad_())
        return varied[-1]

    divergence = weighted_mean(old.kl(map_leaves(vary, distribution)), weight)
    slope = torch.autograd.grad(divergence, varied, create_graph=True)

    def metric(tangents: list[Tensor]) -> list[Tensor]:
        return list(torch.autograd.grad(slope, varied, tangents, retain_graph=True, materialize_grads=True))

    return metric


class _Distributed(nn.Module):
    """``distributed`` as a module, whose parameters can be replaced for a call."""

    def __init__(self, policy: Policy, distributed: Distributed) -> None:
        super().__init__()
        self.policy, self.distributed = policy, distributed

    def forward(self) -> Distribution:
        return self.distributed(self.policy)


def conjugate_gradient(
    product: Product, right: Tensor, steps: int, damping: float = 0.0, tolerance: float = 1e-10
) -> Tensor:
    """The x with (F + damping · I) x ≈ ``right``, from x = 0 (Hestenes & Stiefel 1952): [N] -> [N].

    Ends after ``steps``, or once the squared residual is below ``tolerance`` times that of x = 0, or where rounding leaves no
    positive curvature along the direction of search. Where F is singular and ``right`` in its range, x tends to F⁺ ``right``.
    """
    x, residual = torch.zeros_like(right), right.clone()
    direction, squared = residual.clone(), residual.dot(residual)
    enough = tolerance * squared
    for _ in range(steps):
        if not squared > enough:
            break
        image = product(direction) + damping * direction
        curvature = direction.dot(image)
        if not curvature > 0:
            break
        length = squared / curvature
        x += length * direction
        residual -= length * image
        before, squared = squared, residual.dot(residual)
        direction = residual + squared / before * direction
    return x


def backtrack(accept: Callable[[float], bool], attempts: int, shrink: float) -> float:
    """The first of 1, shrink, shrink², … (``attempts`` of them) that ``accept`` takes, or 0.0 where it takes none."""
    fractions = accumulate(repeat(shrink, attempts - 1), mul, initial=1.0)
    return next((fraction for fraction in fractions if accept(fraction)), 0.0)


def mean_kl(old: Distribution, new: Distribution, weight: Tensor | None = None) -> float:
    """The weighted mean of the exact KL(old ‖ new) in nats, in double precision: a small KL is a difference of large numbers."""

    def double(leaf: Any) -> Any:
        return leaf.detach().double()

    divergence: Tensor = map_leaves(double, old).kl(map_leaves(double, new))
    return float(weighted_mean(divergence, weight))

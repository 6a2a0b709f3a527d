"""Losses that say in numbers what they are, so that a kernel which knows the gradient in closed form can take their place.

    minimise  c · E[w (V − target)²] − E[w s(log π, Â)] − β · E[w H],    E[w x] = Σ w x / Σ w

with s = log π · Â (``score``), s = min(r Â, clip(r, 1 − ε, 1 + ε) Â), r = π / π_old (``clipped``), or s = 0 (``none``). An algorithm
marks the very function that computes this with torch; `of` recognises that function and no other, so that a loss which a
subclass overrides, wraps or replaces is differentiated as it is written. Tests hold the two equal for every marked loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar


@dataclass(frozen=True)
class ClosedForm:
    """The numbers of the formula above."""

    surrogate: Literal["score", "clipped", "none"]
    entropy_weight: float  # β
    value_weight: float  # c
    clip: float = 0.0  # ε
    normalize_advantages: bool = False  # Â to mean 0 and deviation 1 over the batch, as `objectives.standardize` does


Function = TypeVar("Function", bound=Callable[..., Any])
_forms: dict[Any, Callable[..., ClosedForm]] = {}  # by the function itself: attributes would be copied by wrappers


def has(form: Callable[..., ClosedForm]) -> Callable[[Function], Function]:
    """Mark a method ``loss(self, policy, batch, *settings)``; ``form(self, *settings)`` gives its numbers."""

    def mark(loss: Function) -> Function:
        _forms[loss] = form
        return loss

    return mark


def of(loss: Any) -> ClosedForm | None:
    """The numbers of ``functools.partial(algorithm.loss, **settings)``, or None where they are not known."""
    method = getattr(loss, "func", None)
    form = _forms.get(getattr(method, "__func__", None))
    return None if form is None else form(method.__self__, *loss.args, **loss.keywords)  # type: ignore[union-attr]


def marked() -> list[Any]:
    """Every marked function of the algorithms that are imported, for tests."""
    return list(_forms)

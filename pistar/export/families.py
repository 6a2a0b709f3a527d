"""What a reader is told of a distribution: a family's name and its parameters, [N, ...] and always finite.

Probabilities rather than logits, since a forbidden choice's logit is −inf, which JSON has no word for; deviations rather than
their logarithms; of gSDE the marginal of one step. A distribution of one's own is told by its fields, or as
`@parameters.register` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from typing import Any

from torch import Tensor

from pistar.auxiliary import AuxiliaryHead
from pistar.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Distribution,
    FeatureGaussian,
    Gaussian,
    Joint,
    MultiCategorical,
    SquashedGaussian,
)
from pistar.export.ports import Path
from pistar.heads import BoxActions, Head, JointHead
from pistar.tree import leaves

NAMES: dict[type, str] = {
    Categorical: "categorical",
    MultiCategorical: "multi-categorical",
    Bernoulli: "bernoulli",
    Gaussian: "gaussian",
    SquashedGaussian: "squashed-gaussian",
    FeatureGaussian: "feature-gaussian",
    Beta: "beta",
}


def parts(head: Head, distribution: Any, path: Path = ()) -> Iterator[tuple[Path, Head, Distribution]]:
    """(path, head, distribution) of every part of an action, in order."""
    if isinstance(head, AuxiliaryHead):
        yield from parts(head.head, distribution, path)
    elif isinstance(head, JointHead) and isinstance(distribution, Joint):
        found = distribution.components
        values = found.values() if isinstance(found, dict) else found
        for (name, child), part in zip(head.named.items(), values, strict=True):
            yield from parts(child, part, (*path, name))
    else:
        yield path, head, distribution


def family(distribution: Distribution) -> str:
    """Its name in the file: ``module:Class`` for one that is not pistar's."""
    cls = type(distribution)
    return NAMES.get(cls, f"{cls.__module__}:{cls.__qualname__}")


@singledispatch
def parameters(distribution: Any, batch: int) -> dict[str, Tensor]:
    """Name -> [N, ...]; here of one that is not pistar's: its fields."""
    whole = distribution.detached((batch,))
    return {"_".join(path): leaf for path, leaf in leaves(whole)}


@parameters.register
def _(distribution: Categorical, batch: int) -> dict[str, Tensor]:
    return {"probability": distribution.logits.softmax(-1)}


@parameters.register
def _(distribution: MultiCategorical, batch: int) -> dict[str, Tensor]:
    every = distribution.joint.components
    assert isinstance(every, tuple)
    return {f"probability_{index}": parameters(part, batch)["probability"] for index, part in enumerate(every)}


@parameters.register
def _(distribution: Bernoulli, batch: int) -> dict[str, Tensor]:
    return {"probability": distribution.logits.sigmoid()}


@parameters.register(Gaussian)
@parameters.register(SquashedGaussian)
def _(distribution: Gaussian | SquashedGaussian, batch: int) -> dict[str, Tensor]:
    return {"mean": distribution.mean, "std": distribution.log_std.exp().expand(batch, distribution.mean.shape[-1])}


@parameters.register
def _(distribution: FeatureGaussian, batch: int) -> dict[str, Tensor]:
    return parameters(distribution.marginal, batch)


@parameters.register
def _(distribution: Beta, batch: int) -> dict[str, Tensor]:
    return {"alpha": distribution.alpha, "beta": distribution.beta}


def scale(head: Head, distribution: Distribution) -> dict[str, Any] | None:
    """How an action of a Box comes from the policy's: clip(centre + half_range · u, low, high), of tanh u where ``squash``.

    Of a Beta distribution u is 2x − 1.
    """
    box = getattr(head, "box", None)
    if not isinstance(box, BoxActions):
        return None
    bounds = {
        name: [number(x) for x in getattr(box, name).tolist()] for name in ("centre", "half_range", "low", "high")
    }
    return {"squash": box.squash and not isinstance(distribution, Beta), **bounds}


def number(x: float) -> float | str:
    """Strict JSON: infinities as "inf" and "-inf"."""
    return x if abs(x) != float("inf") else str(x)

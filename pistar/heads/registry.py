"""Which head an action space gets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import numpy as np
from gymnasium import spaces

from pistar.errors import UnknownName, UnsupportedSpace, UsageError
from pistar.families import FAMILIES
from pistar.heads.discrete import BernoulliHead, CategoricalHead, MultiCategoricalHead
from pistar.heads.head import Head
from pistar.heads.joint import JointHead

DISCRETE = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


@singledispatch
def action_head(space: Any, **options: Any) -> Head:
    """The head for an action space; options reach the heads of Boxes, wherever nested.

    ``distribution`` is their family (`pistar.families`), ``squash`` an older name for ``squashed``, and ``parts`` gives the
    family of parts of a Dict or Tuple by name ("pedal", "arm/grip", "0"); other options are the families'.

    Raises UnsupportedSpace for a space that has none, UnknownName for a part or a family that does not exist.
    """
    known = ", ".join(sorted(kind.__name__ for kind in action_head.registry if kind is not object))
    raise UnsupportedSpace(
        f"no action head for a {type(space).__name__} space (known: {known}); "
        "write one and register it with @action_head.register"
    )


@action_head.register
def _(
    space: spaces.Box,
    *,
    distribution: str = "gaussian",
    squash: bool = False,
    parts: Mapping[str, str] | None = None,
    **options: Any,
) -> Head:
    _require_no_parts(space, parts)
    if not np.issubdtype(space.dtype, np.floating):
        raise UnsupportedSpace(
            f"no action head for a Box of {space.dtype}: a Gaussian policy needs a Box of floats; "
            "use MultiDiscrete for integer actions, or round in the environment"
        )
    if squash and distribution not in ("gaussian", "squashed"):
        raise UsageError(f"squash is for a Gaussian, but the distribution is {distribution!r}; leave squash out")
    head: Head = FAMILIES.get("squashed" if squash else distribution)(space, **options)
    return head


@action_head.register
def _(space: spaces.Discrete, *, parts: Mapping[str, str] | None = None, **options: Any) -> Head:
    _require_no_parts(space, parts)
    return CategoricalHead(space)


@action_head.register
def _(space: spaces.MultiDiscrete, *, parts: Mapping[str, str] | None = None, **options: Any) -> Head:
    _require_no_parts(space, parts)
    return MultiCategoricalHead(space)


@action_head.register
def _(space: spaces.MultiBinary, *, parts: Mapping[str, str] | None = None, **options: Any) -> Head:
    _require_no_parts(space, parts)
    return BernoulliHead(space)


@action_head.register
def _(space: spaces.Dict, *, parts: Mapping[str, str] | None = None, **options: Any) -> Head:
    return JointHead({key: action_head(child, **own) for key, child, own in _shared(space.spaces, parts, options)})


@action_head.register(spaces.Tuple)  # given here: a dispatch cannot read the subscript of spaces.Tuple[Any]
def _(space: spaces.Tuple[Any], *, parts: Mapping[str, str] | None = None, **options: Any) -> Head:
    children = {str(index): child for index, child in enumerate(space.spaces)}
    return JointHead(tuple(action_head(child, **own) for _, child, own in _shared(children, parts, options)))


def _shared(
    children: Mapping[str, Any], parts: Mapping[str, str] | None, options: Mapping[str, Any]
) -> list[tuple[str, Any, dict[str, Any]]]:
    """(name, space, options) of every part, a family that ``parts`` gives it among them."""
    parts = parts or {}
    for name in parts:
        if name.partition("/")[0] not in children:
            raise UnknownName("part of the action space", name, children)
    shares = []
    for key, child in children.items():
        own = {**options, "parts": {n.removeprefix(f"{key}/"): f for n, f in parts.items() if n.startswith(f"{key}/")}}
        if key in parts:
            if isinstance(child, DISCRETE):
                raise UsageError(f"the part {key!r} is {child}, which has one distribution only; leave it out")
            own |= {"distribution": parts[key], "squash": False}
        shares.append((key, child, own))
    return shares


def _require_no_parts(space: Any, parts: Mapping[str, str] | None) -> None:
    if parts:
        raise UsageError(
            f"{space} has no parts, but a distribution is given for {', '.join(parts)}; name its own instead"
        )

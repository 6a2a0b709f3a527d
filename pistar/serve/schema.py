"""A space as a type that msgspec decodes JSON into, as a JSON schema for readers, and as feeds for the graph.

The type is built once from the policy's spaces, so that a request is parsed, checked (structure, shape, kind, range, finite) and
refused in one pass in C; `pistar.serve.explain` says afterwards what was wrong with one that did not fit. An entry that the
policy never reads may be left out.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from gymnasium import spaces
from msgspec import UNSET, Meta, Struct, UnsetType
from numpy.typing import NDArray

from pistar.errors import UnsupportedSpace

LARGEST = float(np.finfo(np.float32).max)  # what a float32 holds; a larger number would become infinite
Path = tuple[str, ...]  # keys; positions of a Tuple as text
Feeds = dict[str, NDArray[Any]]


def python_type(space: spaces.Space[Any], unused: Sequence[Path] = (), path: Path = ()) -> Any:
    """The type of one observation in a request."""
    if path in unused:
        return Any
    if isinstance(space, spaces.Dict):
        rename = {f"entry_{i}": key for i, key in enumerate(space.spaces)}
        fields: list[Any] = []
        for i, (key, child) in enumerate(space.spaces.items()):
            inner = (f"entry_{i}", python_type(child, unused, (*path, key)))
            fields.append((*inner, None) if (*path, key) in unused else inner)
        return msgspec.defstruct("Entries", fields, rename=rename, forbid_unknown_fields=True, kw_only=True, gc=False)
    if isinstance(space, spaces.Tuple):
        return tuple[tuple(python_type(child, unused, (*path, str(i))) for i, child in enumerate(space.spaces))]  # type: ignore[misc]
    kind = leaf_type(space)
    for length in reversed(space.shape or ()):
        kind = Annotated[list[kind], Meta(min_length=length, max_length=length)]  # type: ignore[valid-type]
    return kind


def leaf_type(space: spaces.Space[Any]) -> Any:
    """The type of one number of a space; raises UnsupportedSpace where none is known."""
    if isinstance(space, spaces.Discrete):
        return Annotated[int, Meta(ge=int(space.start), le=int(space.start + space.n - 1))]
    if isinstance(space, spaces.MultiBinary):
        return Annotated[int, Meta(ge=0, le=1)]
    if isinstance(space, spaces.MultiDiscrete):
        low, high = np.asarray(space.start), np.asarray(space.start) + space.nvec - 1
        return Annotated[int, Meta(ge=int(low.min()), le=int(high.max()))]  # each index's own range: see `Packer`
    if isinstance(space, spaces.Box) and space.dtype.kind == "f":
        return Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
    if isinstance(space, spaces.Box) and space.dtype.kind == "b":
        return bool
    if isinstance(space, spaces.Box):
        limits = np.iinfo(space.dtype)
        return Annotated[int, Meta(ge=max(int(limits.min), -(2**63)), le=min(int(limits.max), 2**63 - 1))]
    raise UnsupportedSpace(f"cannot serve a policy that sees a {type(space).__name__} space")


def request_type(space: spaces.Space[Any], unused: Sequence[Path], most: int) -> type[Struct]:
    """The body of ``POST /v1/act``."""
    one = python_type(space, unused)
    many = Annotated[list[one], Meta(min_length=1, max_length=most)]  # type: ignore[valid-type]
    return msgspec.defstruct(
        "Act",
        [
            ("observation", one | UnsetType if one is not Any else Any, UNSET),
            ("observations", many | UnsetType, UNSET),
            ("deterministic", bool, True),
            ("session", Annotated[str, Meta(max_length=64)] | None, None),
            ("first", bool | Annotated[list[bool], Meta(min_length=1, max_length=most)], False),
            ("seed", Annotated[int, Meta(ge=0, le=2**63 - 1)] | None, None),
            ("distribution", bool, False),
        ],
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,
    )


def child_of(space: spaces.Space[Any], key: str) -> spaces.Space[Any]:
    """The space of an entry of a Dict or Tuple."""
    assert isinstance(space, spaces.Dict | spaces.Tuple)
    found: spaces.Space[Any] = space.spaces[key] if isinstance(space, spaces.Dict) else space.spaces[int(key)]
    return found


class Packer:
    """Decoded observations -> one input array of the graph, of the entry at ``path``."""

    def __init__(self, space: spaces.Space[Any], name: str, path: Path, dtype: str) -> None:
        self.name, self.path, self.dtype = name, path, np.dtype(dtype)
        steps: list[Callable[[Any], Any]] = []
        for key in path:
            if isinstance(space, spaces.Dict):
                steps.append(operator.attrgetter(f"entry_{list(space.spaces).index(key)}"))
            else:
                steps.append(operator.itemgetter(int(key)))
            space = child_of(space, key)
        self.steps, self.space = steps, space
        self.ranged = isinstance(space, spaces.MultiDiscrete)

    def __call__(self, values: Sequence[Any]) -> NDArray[Any]:
        """[N] decoded observations -> [N, ...]; raises OverflowError where an index of a MultiDiscrete is out of its range."""
        for step in self.steps:
            values = [step(value) for value in values]
        array: NDArray[Any] = np.array(values, self.dtype)
        if self.ranged and not within(self.space, array):
            raise OverflowError
        return array

    def zeros(self) -> NDArray[Any]:
        """[1, ...] zeros, of choices the first."""
        return np.full((1, *(self.space.shape or ())), getattr(self.space, "start", 0), self.dtype)


def within(space: Any, array: NDArray[Any]) -> bool:
    """Whether every index of [N, ...] is one that its MultiDiscrete space has."""
    offset = array - np.asarray(space.start)
    return bool(((offset >= 0) & (offset < space.nvec)).all())


def json_schema(space: spaces.Space[Any], unused: Sequence[Path] = (), path: Path = ()) -> dict[str, Any]:
    """JSON schema (as in OpenAPI 3.1) of what ``python_type`` accepts."""
    if path in unused:
        return {"description": "not read by the policy; may be left out"}
    if isinstance(space, spaces.Dict):
        entries = {key: json_schema(child, unused, (*path, key)) for key, child in space.spaces.items()}
        required = [key for key in entries if (*path, key) not in unused]
        return {"type": "object", "properties": entries, "required": required, "additionalProperties": False}
    if isinstance(space, spaces.Tuple):
        items = [json_schema(child, unused, (*path, str(i))) for i, child in enumerate(space.spaces)]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    schema: dict[str, Any] = msgspec.json.schema(leaf_type(space))
    for length in reversed(space.shape or ()):
        schema = {"type": "array", "items": schema, "minItems": length, "maxItems": length}
    return schema

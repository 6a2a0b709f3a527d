"""What goes into an exported policy and what comes out: one `Port` an input or output, and the ports that spaces ask for.

The batch is the leading dimension of every port and not part of its shape. Names are for people; programs go by role and path,
since a key of a Dict space may hold any character.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from pistar.errors import ArtefactError

Path = tuple[str, ...]
ROLES = ("observation", "memory", "reset", "noise", "action", "sample", "distribution")
NOISE = ("normal", "uniform")  # standard normal, and uniform on [0, 1)
INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
DTYPES = ("float16", "float32", "float64", "bool", *INTEGERS)


@dataclass(frozen=True)
class Port:
    """An input or output of the graph, [N, *shape]."""

    name: str
    role: str  # one of ROLES
    path: Path  # keys that lead to its leaf of the observation, action, memory or distribution
    dtype: str
    shape: tuple[int, ...]
    noise: str | None = None  # what an input of noise is drawn from
    hold: int = 1  # steps for which a draw of noise is kept; 0: a whole episode
    parameter: str | None = None  # of a distribution

    def to_json(self) -> dict[str, Any]:
        """A JSON object; what is not of its role is left out."""
        record: dict[str, Any] = {
            "name": self.name,
            "role": self.role,
            "path": list(self.path),
            "dtype": self.dtype,
            "shape": list(self.shape),
        }
        if self.role == "noise":
            record |= {"noise": self.noise, "hold": self.hold}
        return record if self.parameter is None else {**record, "parameter": self.parameter}


def from_json(record: Any) -> Port:
    """The port of a JSON object. Raises ArtefactError where it is none."""
    expected = {"name": str, "role": str, "path": list, "dtype": str, "shape": list}
    fields = dict(record) if isinstance(record, dict) else {}
    well = all(isinstance(fields.get(key), kind) for key, kind in expected.items())
    well = well and all(isinstance(key, str) for key in fields["path"]) and all(map(is_count, fields["shape"]))
    well = well and fields["role"] in ROLES and fields["dtype"] in DTYPES
    well = well and (fields["role"] != "noise" or (fields.get("noise") in NOISE and is_count(fields.get("hold"))))
    well = well and isinstance(fields.get("parameter", ""), str)
    if not well or not set(fields) <= {*expected, "noise", "hold", "parameter"}:
        raise ArtefactError(f"its metadata describes an input or output that cannot be understood: {str(record)[:120]}")
    return Port(**{**fields, "path": tuple(fields["path"]), "shape": tuple(fields["shape"])})


def is_count(value: Any) -> bool:
    """Whether JSON's ``value`` is an integer >= 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def leaf_spaces(space: spaces.Space[Any], path: Path = ()) -> Iterator[tuple[Path, spaces.Space[Any]]]:
    """(path, leaf) in the space's order; positions of a Tuple are "0", "1", ..."""
    if isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            yield from leaf_spaces(child, (*path, str(key)))
    elif isinstance(space, spaces.Tuple):
        for index, child in enumerate(space.spaces):
            yield from leaf_spaces(child, (*path, str(index)))
    else:
        yield path, space


def observation_ports(space: spaces.Space[Any]) -> list[Port]:
    """One for each leaf of an observation space: floats as float32, integers as they are, choices and bits as int64."""
    made = []
    for path, leaf in leaf_spaces(space):
        box = isinstance(leaf, spaces.Box)
        dtype = "int64" if not box else "float32" if np.dtype(leaf.dtype).kind == "f" else np.dtype(leaf.dtype).name
        made.append(Port(named("observation", path), "observation", path, dtype, tuple(leaf.shape or ())))
    return distinct(made)


def action_ports(space: spaces.Space[Any], role: str) -> list[Port]:
    """One for each leaf of an action space, in its dtype; ``role`` is "action" (deterministic) or "sample"."""
    found = leaf_spaces(space)
    return distinct(
        [
            Port(named(role, path), role, path, np.dtype(leaf.dtype).name, tuple(leaf.shape or ()))
            for path, leaf in found
        ]
    )


def named(role: str, path: Path, *rest: str) -> str:
    """``role.key.key``, every character that could surprise a program replaced."""
    return ".".join(re.sub(r"[^A-Za-z0-9_-]", "_", word) or "_" for word in (role, *path, *rest))


def distinct(ports: list[Port]) -> list[Port]:
    """The same with a number behind every name that an earlier port has already."""
    taken: set[str] = set()
    made = []
    for port in ports:
        name, number = port.name, 1
        while name in taken:
            number += 1
            name = f"{port.name}_{number}"
        taken.add(name)
        made.append(port if name == port.name else Port(**{**vars(port), "name": name}))
    return made


def assemble(space: spaces.Space[Any], leaves: Mapping[Path, Any], path: Path = ()) -> Any:
    """The tree of a space from its leaves by path: dicts and tuples as the space has them."""
    if isinstance(space, spaces.Dict):
        return {key: assemble(child, leaves, (*path, str(key))) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(assemble(child, leaves, (*path, str(index))) for index, child in enumerate(space.spaces))
    return leaves[path]

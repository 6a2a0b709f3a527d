"""Observations from outside as the graph's inputs, with a word about whatever is wrong with them; no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pistar.errors import UsageError
from pistar.export.ports import Path, Port, leaf_spaces

LARGEST_INT = 2**63 - 1


class Encoder:
    """Observations of a space as inputs of a graph; ``ports`` are those that it reads."""

    def __init__(self, space: spaces.Space[Any], ports: tuple[Port, ...]) -> None:
        self.space, self.ports = space, ports
        self.read = {port.path for port in ports}
        of_path = dict(leaf_spaces(space))
        self.leaves = [(port, of_path[port.path], np.dtype(port.dtype)) for port in ports]

    def encode(self, observation: Any) -> tuple[bool, dict[str, NDArray[Any]]]:
        """One observation, or many along a leading dimension, as inputs [N, ...] by name; True where it was a single one.

        Lists and numbers, as JSON has them, are as good as arrays. Entries that the policy does not read may be left out.
        Raises UsageError with the entry, what was expected and what was received.
        """
        found: dict[Path, Any] = {}
        _collect(self.space, observation, (), self.read, found)
        single: bool | None = None
        rows: int | None = None
        made = {}
        for port, space, dtype in self.leaves:
            array = _array(space, found[port.path], port.path)
            if single is None:
                single = array.ndim == len(port.shape)
            _require_shape(port, array, single)
            _require_values(space, array, port.path)
            if not single and rows not in (None, len(array)):
                raise UsageError(
                    f"{where(port.path)}: expected {rows} rows, as many as the others have, received {len(array)}"
                )
            rows = None if single else len(array)
            made[port.name] = _cast(array[None] if single else array, dtype, port.path)
        return bool(single), made


def _cast(array: NDArray[Any], dtype: np.dtype[Any], path: Path) -> NDArray[Any]:
    """Contiguous and of the graph's dtype; a double may be beyond a float's range."""
    if array.dtype == dtype:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore"):
        made = np.ascontiguousarray(array, dtype=dtype)
    if dtype.kind == "f" and not np.isfinite(made).all():
        raise UsageError(f"{where(path)}: expected finite numbers of {dtype}, received one that is too large")
    return made


def where(path: Path) -> str:
    """An entry in words: observation['arm']['angle']."""
    return "observation" + "".join(f"[{key!r}]" for key in path)


def _collect(space: spaces.Space[Any], value: Any, path: Path, read: set[Path], found: dict[Path, Any]) -> None:
    """Put the leaves that are read into ``found``."""
    if not any(each[: len(path)] == path for each in read):
        return
    if isinstance(space, spaces.Dict):
        children = dict(space.spaces)
        needed = {key for key in children if any(each[: len(path) + 1] == (*path, str(key)) for each in read)}
        if not isinstance(value, dict) or not needed <= set(value) <= set(children):
            got = sorted(map(str, value)) if isinstance(value, dict) else type(value).__name__
            raise UsageError(f"{where(path)}: expected an object with the keys {sorted(needed)}, received {got}")
        for key in value:
            _collect(children[key], value[key], (*path, str(key)), read, found)
    elif isinstance(space, spaces.Tuple):
        if not isinstance(value, list | tuple) or len(value) != len(space.spaces):
            got = f"{len(value)} of them" if isinstance(value, list | tuple) else type(value).__name__
            raise UsageError(f"{where(path)}: expected a list of {len(space.spaces)} parts, received {got}")
        for index, (child, part) in enumerate(zip(space.spaces, value, strict=True)):
            _collect(child, part, (*path, str(index)), read, found)
    else:
        found[path] = value


def _array(space: spaces.Space[Any], value: Any, path: Path) -> NDArray[Any]:
    """Numbers of the right kind, of any shape yet."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"{where(path)}: expected an array of numbers, received lists of unequal lengths") from error
    number = isinstance(space, spaces.Box) and np.dtype(space.dtype).kind == "f"
    if array.dtype.kind not in ("fiub" if number else "iub"):
        kind = "numbers" if number else "integers"
        raise UsageError(f"{where(path)}: expected {kind} ({space.dtype}), received {_kind(array)}")
    return array


def _kind(array: NDArray[Any]) -> str:
    return {"f": "fractions", "U": "text", "S": "text", "O": "something else", "c": "complex numbers"}.get(
        array.dtype.kind, str(array.dtype)
    )


def _require_shape(port: Port, array: NDArray[Any], single: bool) -> None:
    received = array.shape if single else array.shape[1:]
    if array.ndim != len(port.shape) + (not single) or received != port.shape or (not single and len(array) == 0):
        many = ", ".join(map(str, ("N", *port.shape)))
        raise UsageError(
            f"{where(port.path)}: expected the shape {list(port.shape)} for one or [{many}] for many, received {list(array.shape)}"
        )


def _require_values(space: spaces.Space[Any], array: NDArray[Any], path: Path) -> None:
    """Choices within their range, bits 0 or 1, integers that their dtype can hold, numbers finite."""
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise UsageError(f"{where(path)}: expected finite numbers, received NaN or infinity")
        return
    low: Any
    high: Any
    if isinstance(space, spaces.Discrete):
        low, high = int(space.start), int(space.start) + int(space.n) - 1
    elif isinstance(space, spaces.MultiDiscrete):
        low, high = space.start.astype(object), (space.start.astype(object) + space.nvec.astype(object) - 1)
    elif isinstance(space, spaces.MultiBinary):
        low, high = 0, 1
    elif np.dtype(space.dtype).kind in "iu":
        low, high = np.iinfo(space.dtype).min, np.iinfo(space.dtype).max
    else:
        return
    outside = (array < low) | (array > high)
    if np.any(outside):
        bounds = f"from {low} to {high}".replace("\n", " ")
        raise UsageError(
            f"{where(path)}: expected integers {bounds}, received {int(array[np.asarray(outside)].flat[0])}"
        )

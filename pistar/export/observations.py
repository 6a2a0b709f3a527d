"""Observations from outside as the graph's inputs, with a word about whatever is wrong with them; no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pistar.errors import UsageError
from pistar.export.ports import Path, Port, leaf_spaces

LARGEST_INT = 2**63 - 1


def encode(space: spaces.Space[Any], ports: tuple[Port, ...], observation: Any) -> tuple[bool, dict[str, NDArray[Any]]]:
    """One observation, or many along a leading dimension, as inputs [N, ...] by name; True where it was a single one.

    Lists and numbers, as JSON has them, are as good as arrays. Entries that the policy does not read may be left out.
    Raises UsageError with the entry, what was expected and what was received.
    """
    of_path, every = dict(leaf_spaces(space)), {port.path for port in ports}
    found: dict[Path, Any] = {}
    _collect(space, observation, (), every, found)
    arrays = {port: _array(of_path[port.path], found[port.path], port.path) for port in ports}
    leading = {port: array.ndim - len(port.shape) for port, array in arrays.items()}
    single = bool(arrays) and next(iter(leading.values())) == 0
    rows: int | None = None
    for port, array in arrays.items():
        _require_shape(port, array, single)
        _require_values(of_path[port.path], array, port.path)
        if not single and rows not in (None, len(array)):
            raise UsageError(f"{where(port.path)}: expected {rows} rows, as many as the others have, received {len(array)}")
        rows = len(array) if not single else 1
    with np.errstate(over="ignore"):
        made = {port.name: np.ascontiguousarray(a[None] if single else a, dtype=port.dtype) for port, a in arrays.items()}
    for port in ports:  # after the cast: a double may be beyond a float's range
        if port.dtype == "float32" and not np.isfinite(made[port.name]).all():
            raise UsageError(f"{where(port.path)}: expected finite numbers of float32, received NaN, infinity or one too large")
    return single, made


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
    if array.ndim - len(port.shape) not in (0, 1) or received != port.shape or (not single and len(array) == 0):
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
        low, high = np.iinfo(space.dtype).min, np.iinfo(space.dtype).max  # type: ignore[type-var]
    else:
        return
    outside = (array < low) | (array > high)
    if np.any(outside):
        bounds = f"from {low} to {high}".replace("\n", " ")
        raise UsageError(f"{where(path)}: expected integers {bounds}, received {int(array[np.asarray(outside)].flat[0])}")

"""Gymnasium spaces as JSON, for artefacts: ``decode(encode(space)) == space``, exactly, and without importing by name.

Six kinds are written: Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple, nested as deep as one likes. Bounds
are written as numbers, one where all entries share it, infinities as the strings "inf" and "-inf", so that the text
is strict JSON. Left out: a space's random generator, and subclasses of the six, whose behaviour a file could not
carry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pistar.errors import ArtefactError, UnsupportedSpace

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = ("float16", "float32", "float64", *INTEGERS, "bool")
LARGEST_SIZE = 2**28  # numbers in one space; a small file must not ask for all memory
DEEPEST_NESTING = 32


def encode(space: spaces.Space[Any]) -> dict[str, Any]:
    """A space as dicts, lists, strings and numbers. Raises UnsupportedSpace for a kind that is not written."""
    kind = type(space)
    if isinstance(space, spaces.Box) and kind is spaces.Box:
        bounds = {"low": _encode_numbers(space.low), "high": _encode_numbers(space.high)}
        return {"kind": "box", "dtype": _dtype_name(space), "shape": list(space.shape), **bounds}
    if isinstance(space, spaces.Discrete) and kind is spaces.Discrete:
        return {"kind": "discrete", "dtype": _dtype_name(space), "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete) and kind is spaces.MultiDiscrete:
        numbers = {"nvec": _encode_numbers(space.nvec), "start": _encode_numbers(space.start)}
        return {"kind": "multi-discrete", "dtype": _dtype_name(space), "shape": list(space.shape), **numbers}
    if isinstance(space, spaces.MultiBinary) and kind is spaces.MultiBinary:
        return {"kind": "multi-binary", "shape": list(space.shape), "flat": isinstance(space.n, int)}
    if isinstance(space, spaces.Dict) and kind is spaces.Dict and all(isinstance(key, str) for key in space.spaces):
        return {"kind": "dict", "children": [[key, encode(child)] for key, child in space.spaces.items()]}
    if isinstance(space, spaces.Tuple) and kind is spaces.Tuple:
        return {"kind": "tuple", "children": [encode(child) for child in space.spaces]}
    raise UnsupportedSpace(
        f"cannot write a {kind.__name__} space to a file (known: Box, Discrete, MultiDiscrete, MultiBinary, Dict with "
        "string keys, Tuple); wrap the environment so that it presents one of these"
    )


def decode(record: Any) -> spaces.Space[Any]:
    """The space that ``encode`` wrote. Raises ArtefactError for anything else."""
    try:
        return _decode(record, 0)
    except (KeyError, TypeError, ValueError, OverflowError, AssertionError) as error:
        raise ArtefactError(
            f"malformed space: {type(error).__name__}: {error}; the file was not written by pistar, or was altered"
        ) from error


def _decode(record: Any, depth: int) -> spaces.Space[Any]:
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        raise ArtefactError(f"malformed space: expected a table with a kind, received {_excerpt(record)}")
    if depth > DEEPEST_NESTING:
        raise ArtefactError(f"malformed space: nested deeper than {DEEPEST_NESTING} levels")
    kind, fields = record["kind"], {key: value for key, value in record.items() if key != "kind"}
    decoders: dict[str, Callable[..., spaces.Space[Any]]] = {
        "box": _decode_box,
        "discrete": _decode_discrete,
        "multi-discrete": _decode_multi_discrete,
        "multi-binary": _decode_multi_binary,
        "dict": lambda **fields: _decode_dict(**fields, depth=depth),
        "tuple": lambda **fields: _decode_tuple(**fields, depth=depth),
    }
    if kind not in decoders:
        raise ArtefactError(f"unknown kind of space {_excerpt(kind)} (known: {', '.join(decoders)})")
    return decoders[kind](**fields)


def _decode_box(dtype: str, shape: Any, low: Any, high: Any) -> spaces.Box:
    size = _shape(shape)
    bounds = [_decode_numbers(bound, size, _dtype(dtype)) for bound in (low, high)]
    if not np.all(bounds[0] <= bounds[1]):
        raise ValueError("a lower bound exceeds the upper one, or is not a number")
    return spaces.Box(bounds[0], bounds[1], shape=size, dtype=_dtype(dtype).type)


def _decode_discrete(dtype: str, n: Any, start: Any) -> spaces.Discrete:
    return spaces.Discrete(_integer(n), start=_integer(start), dtype=_dtype(dtype).type)


def _decode_multi_discrete(dtype: str, shape: Any, nvec: Any, start: Any) -> spaces.MultiDiscrete:
    counts, starts = (_decode_numbers(x, _shape(shape), _dtype(dtype)) for x in (nvec, start))
    return spaces.MultiDiscrete(counts, dtype=_dtype(dtype).type, start=starts)


def _decode_multi_binary(shape: Any, flat: Any) -> spaces.MultiBinary:
    size = _shape(shape)
    return spaces.MultiBinary(size[0] if flat and len(size) == 1 else list(size))


def _decode_dict(children: Any, depth: int) -> spaces.Dict:
    names = [name for name, _ in _list(children)]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError("the names in a dict must be different strings")
    decoded = [(name, _decode(child, depth + 1)) for name, child in children]
    return spaces.Dict(decoded)  # pairs keep their order; a plain dict would be sorted


def _decode_tuple(children: Any, depth: int) -> spaces.Tuple[Any]:
    return spaces.Tuple([_decode(child, depth + 1) for child in _list(children)])


def _encode_numbers(array: NDArray[Any]) -> Any:
    """A flat list of numbers, or one number where all are the same."""
    numbers = [x if math.isfinite(x) else str(x) for x in array.reshape(-1).tolist()]
    return numbers[0] if len(set(map(str, numbers))) == 1 else numbers


def _decode_numbers(value: Any, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    numbers = [float(x) if x in ("inf", "-inf") else x for x in (value if isinstance(value, list) else [value])]
    kinds = (int, float) if dtype.kind == "f" else (bool,) if dtype.kind == "b" else (int,)
    for x in numbers:
        if not isinstance(x, kinds) or (isinstance(x, bool) and bool not in kinds):
            raise TypeError(f"expected numbers of {dtype}, received {_excerpt(x)}")
    with np.errstate(over="raise"):
        array = np.array(numbers, dtype=dtype)
    return array.reshape(shape) if isinstance(value, list) else np.full(shape, array[0])


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(_integer(length) for length in _list(value))
    if any(length < 0 for length in shape) or math.prod(shape) > LARGEST_SIZE:
        raise ValueError(f"expected a shape of at most {LARGEST_SIZE} numbers, received {_excerpt(value)}")
    return shape


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected an integer, received {_excerpt(value)}")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, received {_excerpt(value)}")
    return value


def _dtype(name: Any) -> np.dtype[Any]:
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {_excerpt(name)} (known: {', '.join(DTYPES)})")
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


def _dtype_name(space: spaces.Space[Any]) -> str:
    return np.dtype(space.dtype).name


def _excerpt(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."

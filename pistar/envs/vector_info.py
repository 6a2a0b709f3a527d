"""The numbers in a vector environment's ``info``, as one array [B] for each name.

Gymnasium's vector form of ``info`` differs from the single one, which ``lanes.scalars`` reads: values are batched, a
mask ``_name`` tells which lanes reported ``name``, and nested dicts hold masks of their own.

What this leaves out: strings, objects and anything of more than one number per lane.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from pistar.envs.layout import Array

Scalar = tuple[str, Array, Array]  # name, values [B], which lanes reported it [B] bool
FINAL = ("final_obs", "final_info")  # what AutoresetMode.SAME_STEP adds


def scalars(info: Mapping[str, Any], lanes: Array, prefix: str = "") -> Iterator[Scalar]:
    """The numbers that the chosen lanes [B] bool reported; those of nested dicts are called ``outer/inner``."""
    for key, value in info.items():
        if key in FINAL or (isinstance(key, str) and key[:1] == "_" and key[1:] in info):
            continue
        mask = info.get(f"_{key}")
        where = lanes if mask is None else lanes & np.asarray(mask, bool)
        if isinstance(value, Mapping):
            yield from scalars(value, where, f"{prefix}{key}/")
            continue
        values = np.asarray(value)
        if values.shape == lanes.shape and values.dtype.kind in "fiub" and where.any():
            yield f"{prefix}{key}", values, where


def joined(found: Iterable[Scalar], valid: Array) -> dict[str, Array]:
    """Name -> [B] float32, in the order of the names; NaN where a lane reported none or its action was ignored."""
    arrays: dict[str, Array] = {}
    for name, values, where in found:
        counted = where & valid
        if counted.any():
            array = arrays.setdefault(name, np.full(len(valid), np.nan, np.float32))
            array[counted] = values[counted]
    return {name: arrays[name] for name in sorted(arrays)}

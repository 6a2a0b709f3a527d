"""A space as flat arrays: what each entry's shape and dtype are, and whether a value fits.

Observations, nested or not, live in one array [B, ...] per leaf of their space, so that a lane writes its row without
building anything. Observations change dtype once, here: real numbers become float32, images stay uint8, booleans stay
boolean, MultiBinary keeps its dtype, all other integers become int64. Actions keep their space's dtype.

What this leaves out: the bounds of a Box observation, which many environments break harmlessly, and spaces whose size
varies (Text, Sequence, Graph, OneOf). No torch here, so that worker processes start without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pistar.errors import NumericalError, UnsupportedSpace, UsageError

Array = NDArray[Any]
Tree = Any  # a leaf, or a dict / tuple of Trees
Role = Literal["observation", "action"]


class SpaceMismatch(ValueError):
    """A value does not fit its space; the text says which entry, what was expected and what came."""


FEW = 64  # lanes, up to which Python's own loops over numbers are faster than NumPy's


@dataclass(frozen=True)
class Field:
    """One leaf of a space: each lane holds ``shape`` entries of ``dtype``."""

    path: tuple[str | int, ...]
    role: Role
    shape: tuple[int, ...]
    dtype: np.dtype[Any]  # as batches hold it
    given: np.dtype[Any]  # as the space declares it
    kinds: str  # NumPy dtype kinds that a value may have
    low: Array | None = None  # smallest and largest value, where the space is a finite set
    high: Array | None = None
    choices: range | None = None  # the values of a Discrete space

    @property
    def label(self) -> str:
        """How messages call the entry: ``observation['camera'][0]``."""
        return self.role + "".join(f"[{part!r}]" for part in self.path)

    @property
    def key(self) -> str:
        """A short unique name within the space: ``camera/0``; a lone leaf is called after its role."""
        return "/".join(str(part) for part in self.path) or self.role

    def fit(self, value: Any) -> Any:
        """``value`` ready to be written to a row of dtype ``dtype``; raises SpaceMismatch."""
        if type(value) is np.ndarray and value.dtype is self.given and value.shape == self.shape and self.low is None:
            return value
        if self.choices is not None and isinstance(value, int | np.integer) and int(value) in self.choices:
            return value
        return self._convert(value, self.shape)

    def fit_batch(self, value: Any, lanes: int) -> Array:
        """Like ``fit`` for a batch [B, ...]."""
        if (
            self.low is None
            and type(value) is np.ndarray
            and value.dtype is self.given
            and value.shape == (lanes, *self.shape)
        ):
            return value
        if (
            self.choices is not None
            and type(value) is np.ndarray
            and value.dtype.kind in "iu"
            and value.shape == (lanes,)
        ):
            # The common case, in a fraction of the time that the general one takes.
            few = value.tolist() if lanes <= FEW else value
            least, most = (min(few), max(few)) if lanes <= FEW else (value.min(), value.max())
            if least >= self.choices.start and most < self.choices.stop:
                return value
        return self._convert(value, (lanes, *self.shape))

    def _convert(self, value: Any, shape: tuple[int, ...]) -> Array:
        try:
            array = np.asarray(value)
        except ValueError as error:  # a ragged list
            raise SpaceMismatch(f"{self.label} is not an array: {error}") from error
        if array.dtype.kind not in self.kinds:
            what = f"dtype {array.dtype}" if array.dtype.kind != "O" else f"the type {type(value).__name__}"
            raise SpaceMismatch(f"{self.label} has {what}, expected {self.given} as its space declares")
        if array.shape != shape:
            raise SpaceMismatch(f"{self.label} has shape {array.shape}, expected {shape} as its space declares")
        if self.low is not None and ((array < self.low) | (array > self.high)).any():
            raise SpaceMismatch(f"{self.label} is {array}, expected {self.low} to {self.high} as its space declares")
        if self.low is None and self.dtype.kind in "iu" and not np.can_cast(array.dtype, self.dtype):
            limits = np.iinfo(self.dtype)
            if ((array < limits.min) | (array > limits.max)).any():
                raise SpaceMismatch(f"{self.label} is {array}, which does not fit {self.dtype}")
        return array


class Layout:
    """The leaves of one space in a fixed order."""

    def __init__(self, space: spaces.Space[Any], role: Role) -> None:
        self.role: Role = role
        self.structure = space
        self.fields = tuple(_fields(space, role, ()))
        if not self.fields:
            raise UnsupportedSpace(f"the {role} space {space} is empty; expected at least one entry")
        self.nested = isinstance(space, spaces.Dict | spaces.Tuple)

    def flatten(self, value: Any) -> list[Any]:
        """The leaves of one value (or batch) of the space; raises SpaceMismatch where its structure differs."""
        found: list[Any] = []
        self._flatten(self.structure, value, self.role, found)
        return found

    def _flatten(self, space: spaces.Space[Any], value: Any, label: str, found: list[Any]) -> None:
        if isinstance(space, spaces.Dict):
            if not isinstance(value, Mapping) or value.keys() != space.keys():
                came = list(value) if isinstance(value, Mapping) else type(value).__name__
                raise SpaceMismatch(f"{label} is {came}, expected a dict with the keys {list(space)}")
            for key, part in space.items():
                self._flatten(part, value[key], f"{label}[{key!r}]", found)
        elif isinstance(space, spaces.Tuple):
            if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
                came = f"of {len(value)}" if isinstance(value, tuple | list) else type(value).__name__
                raise SpaceMismatch(f"{label} is {came}, expected a tuple of {len(space.spaces)}")
            for index, part in enumerate(space.spaces):
                self._flatten(part, value[index], f"{label}[{index}]", found)
        else:
            found.append(value)

    def tree(self, leaves: list[Any]) -> Tree:
        """The leaves put back into the space's structure of dicts and tuples."""
        remaining = iter(leaves)

        def build(space: spaces.Space[Any]) -> Tree:
            if isinstance(space, spaces.Dict):
                return {key: build(part) for key, part in space.items()}
            if isinstance(space, spaces.Tuple):
                return tuple(build(part) for part in space.spaces)
            return next(remaining)

        return build(self.structure)

    def write(self, value: Any, arrays: list[Array], lane: int) -> None:
        """Copy one lane's value into its row of every array; raises SpaceMismatch."""
        if not self.nested:
            arrays[0][lane] = self.fields[0].fit(value)
            return
        for field, array, part in zip(self.fields, arrays, self.flatten(value), strict=True):
            array[lane] = field.fit(part)

    def rows(self, arrays: list[Array]) -> list[Any]:
        """One value per lane as the environment expects it: ints for Discrete, else arrays of the space's dtype."""
        parts = [_rows(field, array) for field, array in zip(self.fields, arrays, strict=True)]
        if not self.nested:
            return parts[0]
        return [self.tree(list(lane)) for lane in zip(*parts, strict=True)]

    def actions(self, action: Tree, lanes: int) -> list[Array]:
        """Fresh arrays [B, ...] of a batch of actions; the environment may keep them.

        Raises UsageError where they are not values of the space and NumericalError where they are not finite.
        """
        arrays: list[Array] = []
        try:
            if not self.nested and self.fields[0].choices is not None:  # whole numbers: nothing can be infinite
                return [self.fields[0].fit_batch(action, lanes).astype(self.fields[0].dtype, copy=True)]
            for field, leaf in zip(self.fields, self.flatten(action), strict=True):
                arrays.append(field.fit_batch(leaf, lanes).astype(field.dtype, copy=True))
        except SpaceMismatch as error:
            raise UsageError(f"{error}; a batch of actions holds one value of {self.structure} per lane") from error
        for field, array in zip(self.fields, arrays, strict=True):
            fault = first_non_finite(field.label, array)
            if fault is not None:
                lane, entry, value = fault
                raise NumericalError(f"the policy's {entry} for lane {lane} is {value}; expected finite numbers")
        return arrays


def observed_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The space of the observations as an adapter gives them: like ``space``, with the dtypes of this module's doc."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: observed_space(part) for key, part in space.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([observed_space(part) for part in space.spaces])
    if isinstance(space, spaces.Box):
        dtype = _observed_dtype(space)
        if dtype != space.dtype:
            with np.errstate(over="ignore"):
                return spaces.Box(space.low.astype(dtype), space.high.astype(dtype), dtype=dtype.type)
    return space


def any_of(flags: Array) -> bool:
    """Whether any of [B] bool is True; several times faster than ``flags.any()`` for a few lanes."""
    return b"\x01" in flags.tobytes()


def first_non_finite(label: str, array: Array, rows: Array | None = None) -> tuple[int, str, float] | None:
    """(lane, entry, value) of the first NaN or infinity in an array [B, ...], or None; ``rows`` [B] chooses lanes."""
    if array.dtype.kind != "f":
        return None
    finite = np.isfinite(array)
    if finite.all():
        return None
    if rows is not None:
        finite[~rows] = True
    faults = np.argwhere(~finite)
    if not len(faults):
        return None
    lane, *entry = faults[0].tolist()
    position = f"[{', '.join(map(str, entry))}]" if entry else ""
    return lane, label + position, float(array[(lane, *entry)])


def _fields(space: spaces.Space[Any], role: Role, path: tuple[str | int, ...]) -> list[Field]:
    if isinstance(space, spaces.Dict):
        return [field for key, part in space.items() for field in _fields(part, role, (*path, key))]
    if isinstance(space, spaces.Tuple):
        return [field for key, part in enumerate(space.spaces) for field in _fields(part, role, (*path, key))]
    if not isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        where = role + "".join(f"[{part!r}]" for part in path)
        raise UnsupportedSpace(
            f"the {where} space {space} has no fixed-size array form (supported: Box, Discrete, MultiDiscrete, "
            "MultiBinary, and Dict or Tuple of them); wrap the environment to give one of these"
        )
    given = np.dtype(space.dtype)
    dtype = _observed_dtype(space) if role == "observation" else given
    kinds = {"f": "f", "i": "iu", "u": "iu", "b": "b"}[given.kind]
    low: Array | None = None
    high: Array | None = None
    choices: range | None = None
    if isinstance(space, spaces.Discrete):
        choices = range(int(space.start), int(space.start + space.n))
        kinds, low, high = "iub", np.asarray(choices[0]), np.asarray(choices[-1])
    elif isinstance(space, spaces.MultiDiscrete):
        low, high = np.asarray(space.start), np.asarray(space.start + space.nvec - 1)
    elif isinstance(space, spaces.MultiBinary):
        kinds, low, high = "iub", np.asarray(0), np.asarray(1)
    return [Field(path, role, tuple(space.shape or ()), dtype, given, kinds, low, high, choices)]


def _observed_dtype(space: spaces.Space[Any]) -> np.dtype[Any]:
    given = np.dtype(space.dtype)
    if isinstance(space, spaces.MultiBinary) or given == np.uint8 or given.kind == "b":
        return given
    return np.dtype(np.float32 if given.kind == "f" else np.int64)


def _rows(field: Field, array: Array) -> list[Any]:
    if field.shape:
        return list(array)
    if field.choices is not None:
        return array.tolist()  # type: ignore[no-any-return]
    return [array[lane : lane + 1].reshape(()) for lane in range(len(array))]

"""Why a request does not fit, in words: where, what was expected, what came, what to do.

Runs only once `pistar.serve.schema` has refused a body, so it may take its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from gymnasium import spaces

from pistar.errors import nearest
from pistar.serve.refusals import Refusal, excerpt
from pistar.serve.schema import LARGEST, Path

HELP = "GET /v1/policy shows the spaces, GET /openapi.json the whole request"
NUMBERS = (int, float)
DEEPEST = 32  # lists within lists that are looked into; NumPy has no more dimensions


def malformed(body: bytes, error: Exception) -> Refusal:
    """400: the body is no JSON."""
    hint = ""
    if not body:
        return Refusal(400, "the body is empty", "a JSON object", "0 bytes", HELP)
    if any(word in body for word in (b"NaN", b"Infinity", b"nan", b"inf")):
        hint = "; NaN and Infinity are no JSON, and no observation either: find where they come from"
    return Refusal(400, "the body is no JSON", "a JSON object", str(error), f"send valid JSON{hint}")


def unfit(where: str, expected: str, received: Any, next_step: str = HELP) -> Refusal:
    """422: valid JSON that says something else than the policy can read."""
    return Refusal(422, f"{where} does not fit", expected, excerpt(received), next_step)


def explain(body: bytes, error: Exception, space: spaces.Space[Any], unused: Sequence[Path], request: Any) -> Refusal:
    """The refusal of a body that ``request``, the type of the endpoint's requests, did not accept."""
    try:
        value = msgspec.json.decode(body)
    except msgspec.ValidationError as too_large:  # a number that no double holds
        return plainly(too_large)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as malformation:
        return malformed(body, malformation)
    if not isinstance(value, dict):
        return unfit("the body", 'an object such as {"observation": …}', value)
    known = [field.encode_name for field in msgspec.structs.fields(request)]
    for key in value:
        if key not in known:
            near = nearest(key, known)
            guess = f"; did you mean {near!r}?" if near else ""
            return unfit("the body", f"the fields {', '.join(known)}", key, f"leave out {excerpt(key)}{guess}")
    if "observation" in value:
        return first_fault(space, value["observation"], "observation", unused) or plainly(error)
    many = value.get("observations")
    if isinstance(many, list):
        for number, each in enumerate(many):
            fault = first_fault(space, each, f"observations[{number}]", unused)
            if fault is not None:
                return fault
    return plainly(error)


def plainly(error: Exception) -> Refusal:
    """422 in msgspec's words."""
    where = str(error).rpartition(" - at `$.")[2].rstrip("`") if " - at `$." in str(error) else "the body"
    return Refusal(422, f"{where} does not fit", str(error).partition(" - at ")[0], "", HELP)


def first_fault(
    space: spaces.Space[Any], value: Any, where: str, unused: Sequence[Path] = (), path: Path = ()
) -> Refusal | None:
    """What is wrong with one observation, or None where nothing is."""
    if path in unused:
        return None
    if isinstance(space, spaces.Dict):
        return fault_in_dict(space, value, where, unused, path)
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, list) or len(value) != len(space.spaces):
            return unfit(where, f"a list of {len(space.spaces)} entries", value)
        pairs = enumerate(zip(space.spaces, value, strict=True))
        faults = (first_fault(child, each, f"{where}[{i}]", unused, (*path, str(i))) for i, (child, each) in pairs)
        return next((fault for fault in faults if fault is not None), None)
    shape = tuple(space.shape or ())
    received = shape_of(value)
    if received != shape:
        return Refusal(422, f"{where} does not fit", described(space), f"shape {received}: {excerpt(value)}", HELP)
    return next((fault for index, x in leaves(value) if (fault := fault_of_number(space, x, where, index))), None)


def fault_in_dict(space: spaces.Dict, value: Any, where: str, unused: Sequence[Path], path: Path) -> Refusal | None:
    """Missing, unknown or ill-formed entries."""
    wanted = [key for key in space.spaces if (*path, key) not in unused]
    if not isinstance(value, dict):
        return unfit(where, f"an object with the entries {', '.join(wanted)}", value)
    missing = [key for key in wanted if key not in value]
    strange = [key for key in value if key not in space.spaces]
    if missing or strange:
        return unfit(where, f"an object with the entries {', '.join(wanted)}", sorted(value))
    faults = (
        first_fault(child, value[key], f"{where}.{key}", unused, (*path, key))
        for key, child in space.spaces.items()
        if key in value
    )
    return next((fault for fault in faults if fault is not None), None)


def fault_of_number(space: spaces.Space[Any], x: Any, where: str, index: tuple[int, ...]) -> Refusal | None:
    """One number that is of the wrong kind or out of range."""
    place = where + "".join(f"[{i}]" for i in index)
    if isinstance(space, spaces.Box) and space.dtype.kind == "f":
        fine = type(x) in NUMBERS and abs(x) <= LARGEST
        return None if fine else unfit(place, f"a finite number of magnitude at most {LARGEST:.3g}", x)
    if isinstance(space, spaces.Box) and space.dtype.kind == "b":
        return None if type(x) is bool else unfit(place, "true or false", x)
    low, high = integer_range(space, index)
    return None if type(x) is int and low <= x <= high else unfit(place, f"an integer from {low} to {high}", x)


def integer_range(space: Any, index: tuple[int, ...]) -> tuple[int, int]:
    """Least and greatest integer at one place of a space."""
    if isinstance(space, spaces.Discrete):
        return int(space.start), int(space.start + space.n - 1)
    if isinstance(space, spaces.MultiDiscrete):
        start = int(np.asarray(space.start)[index])
        return start, start + int(space.nvec[index]) - 1
    if isinstance(space, spaces.MultiBinary):
        return 0, 1
    return int(np.iinfo(space.dtype).min), int(np.iinfo(space.dtype).max)


def described(space: spaces.Space[Any]) -> str:
    """A leaf space in a few words."""
    if isinstance(space, spaces.Discrete):
        return "one integer from {} to {}".format(*integer_range(space, ()))
    kind = "numbers" if isinstance(space, spaces.Box) and space.dtype.kind == "f" else "integers"
    shape = tuple(space.shape or ())
    return f"{kind[:-1] if not shape else kind} of shape {shape}"


def shape_of(value: Any, depth: int = 0) -> tuple[int, ...]:
    """The shape of nested lists, as far as all of one depth agree; a ragged one ends where it differs."""
    if not isinstance(value, list) or depth > DEEPEST:
        return ()
    inner = {shape_of(each, depth + 1) for each in value}
    return (len(value), *inner.pop()) if len(inner) == 1 else (len(value),)


def leaves(value: Any, index: tuple[int, ...] = ()) -> Any:
    """(index, number) of nested lists."""
    if isinstance(value, list):
        for i, each in enumerate(value):
            yield from leaves(each, (*index, i))
    else:
        yield index, value

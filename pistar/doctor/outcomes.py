"""What one ``reset`` or ``step`` returned, held against the interface and the declared spaces.

The checks of `pistar.envs.lanes`, which raise at the first fault, are made here one by one, so that all are seen; and
what pistar tolerates but others do not (a value beyond the bounds, another dtype) is found too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pistar.doctor.declared import leaf_spaces
from pistar.doctor.findings import Diagnosis, Place
from pistar.envs.lanes import scalars
from pistar.envs.layout import Layout, SpaceMismatch, first_non_finite


def check_reset(diagnosis: Diagnosis, outcome: Any, place: Place) -> bool:
    """Whether ``reset`` returned (observation, info)."""
    if isinstance(outcome, tuple) and len(outcome) == 2:
        return True
    diagnosis.fail(
        "interface",
        f"reset returned {_described(outcome)}, expected (observation, info)",
        "return observation, {}: the interface of gymnasium, not of the old gym",
        place,
    )
    return False


def check_step(diagnosis: Diagnosis, outcome: Any, place: Place) -> bool:
    """Whether ``step`` returned five values whose flags can be used; finds fault with reward, flags and info."""
    if not isinstance(outcome, tuple) or len(outcome) != 5:
        diagnosis.fail(
            "interface",
            f"step returned {_described(outcome)}, expected (observation, reward, terminated, truncated, info)",
            "return five values; `done` of the old gym becomes terminated (the task ended) and truncated (it was cut)",
            place,
        )
        return False
    _, reward, terminated, truncated, info = outcome
    _check_reward(diagnosis, reward, place)
    _check_info(diagnosis, info, bool(terminated) if np.ndim(terminated) == 0 else False, place)
    usable = [
        _check_flag(diagnosis, word, value, place)
        for word, value in (("terminated", terminated), ("truncated", truncated))
    ]
    return all(usable)


def _check_reward(diagnosis: Diagnosis, reward: Any, place: Place) -> None:
    kind = "?" if reward is None else np.asarray(reward).dtype.kind
    if np.ndim(reward) or kind not in "fiub":
        advice = "return float(reward)"
        diagnosis.fail("reward", f"the reward is {_described(reward)}, expected one real number", advice, place, "type")
    elif not np.isfinite(float(reward)) or abs(float(reward)) > float(np.finfo(np.float32).max):
        diagnosis.fail(
            "reward",
            f"the reward is {float(reward)}, which is not finite in float32",
            "find the division by zero, the logarithm or the overflow behind it; pistar stops at such a value",
            place,
            "finite",
        )


def _check_flag(diagnosis: Diagnosis, word: str, value: Any, place: Place) -> bool:
    if isinstance(value, bool | np.bool_):
        return True
    if np.ndim(value) or np.asarray(value).dtype.kind not in "biu":
        diagnosis.fail(
            "flags", f"{word} is {_described(value)}, expected True or False", f"return bool({word})", place, word
        )
        return np.ndim(value) == 0 and np.asarray(value).dtype.kind == "f"
    diagnosis.warn("flags", f"{word} is {value!r}, expected True or False", f"return bool({word})", place, word)
    return True


def _check_info(diagnosis: Diagnosis, info: Any, terminated: bool, place: Place) -> None:
    if not isinstance(info, Mapping):
        diagnosis.fail("info", f"info is {_described(info)}, expected a dict", "return {} for none", place, "type")
        return
    if terminated and info.get("TimeLimit.truncated"):
        diagnosis.fail(
            "episodes",
            "info['TimeLimit.truncated'] is set where terminated is True: a time limit is merged into terminated",
            "return terminated=False, truncated=True at the limit; else the value of the state after it is lost",
            place,
            "merged",
        )
    recorded = {name for name, _ in scalars(info)}
    for name, value in info.items():
        if str(name) not in recorded and not isinstance(value, Mapping):
            mask = "mask" in str(name).lower()
            diagnosis.warn(
                "info",
                f"info[{name!r}] is {_described(value)}: pistar records single numbers and ignores this",
                "put an action mask into the observation"
                if mask
                else "fine if nobody needs it in the metrics; "
                "else give its mean, norm or entries as numbers of their own",
                place,
                str(name),
            )


def check_observation(diagnosis: Diagnosis, layout: Layout, observation: Any, place: Place) -> bool:
    """Whether the adapter can take the observation; dtype and bounds are found fault with on the way."""
    try:
        leaves = layout.flatten(observation)
    except SpaceMismatch as error:
        advice = "return what the space declares, or declare what is returned"
        diagnosis.fail("observation", str(error), advice, place, "structure")
        return False
    sound = True
    parts = leaf_spaces(layout.structure, "observation")
    for field, leaf, (_, space) in zip(layout.fields, leaves, parts, strict=True):
        try:
            array = np.asarray(field.fit(leaf))
        except SpaceMismatch as error:
            advice = "return what the space declares, or declare what is returned"
            diagnosis.fail("observation", str(error), advice, place, f"fit {field.label}")
            sound = False
            continue
        with np.errstate(over="ignore"):
            fault = first_non_finite(field.label, array.astype(field.dtype)[None])
        if fault is not None:
            advice = "find the division by zero or the diverging simulation behind it; pistar stops at such a value"
            diagnosis.fail("observation", f"{fault[1]} is {fault[2]}", advice, place, f"finite {field.label}")
            sound = False
            continue
        _check_leaf(diagnosis, field.label, space, array, place)
    return sound


def _check_leaf(diagnosis: Diagnosis, label: str, space: Any, array: Any, place: Place) -> None:
    if array.dtype != space.dtype and hasattr(space, "low"):
        diagnosis.warn(
            "observation",
            f"{label} is {array.dtype}, but its space declares {np.dtype(space.dtype)}; pistar casts it",
            f"return .astype(np.{np.dtype(space.dtype)}), or declare {array.dtype}",
            place,
            f"dtype {label}",
        )
    if not hasattr(space, "low"):
        return
    outside = np.argwhere((array < space.low) | (array > space.high))
    if len(outside):
        entry = tuple(outside[0].tolist())
        low, high = np.broadcast_to(space.low, array.shape)[entry], np.broadcast_to(space.high, array.shape)[entry]
        diagnosis.warn(
            "observation",
            f"{label}{list(entry) if entry else ''} is {array[entry]:.6g}, outside its bounds {low:.6g} to {high:.6g}",
            "widen the space or clip the value; pistar does not use these bounds, but wrappers do",
            place,
            f"bounds {label}",
        )


def _described(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"

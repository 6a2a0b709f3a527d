"""What an environment declares before its first step: its spaces, and whether a policy can be built for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from pistar.doctor.findings import Diagnosis
from pistar.envs.layout import Layout, Role
from pistar.errors import PistarError

HUGE_BOUND = 1e6  # an action that may be larger than this is as good as unbounded
LARGE_OBSERVATION = 20_000  # entries above which dense layers are a poor choice


def check_spaces(diagnosis: Diagnosis, environment: Any) -> tuple[Layout | None, Layout | None]:
    """The layouts of observation and action, None for one that pistar cannot handle."""
    # Imported here: they import torch.
    from pistar.heads import action_head
    from pistar.networks import flat_size

    observation = _layout(diagnosis, environment.observation_space, "observation", flat_size)
    action = _layout(diagnosis, environment.action_space, "action", action_head)
    if observation:
        _check_observation_space(diagnosis, environment.observation_space)
    if action:
        _check_action_space(diagnosis, environment.action_space)
    for role, space in (("observation", environment.observation_space), ("action", environment.action_space)):
        if diagnosis.clean(f"{role} space"):
            diagnosis.ok(f"{role} space", brief(space))
    return observation, action


def _layout(diagnosis: Diagnosis, space: Any, role: Role, understood: Callable[[Any], Any]) -> Layout | None:
    topic = f"{role} space"
    if not isinstance(space, Space):
        diagnosis.fail(
            topic,
            f"{role}_space is a {type(space).__name__}, which is no gymnasium.Space",
            f"set self.{role}_space in the constructor; the spaces of the old `gym` package do not count",
        )
        return None
    for name, part in boxes(space, role):
        if bool((~(part.low <= part.high)).any()):
            diagnosis.fail(topic, f"{name} has a lower bound above its upper one", "swap them", key="order")
    try:
        layout = Layout(space, role)
        understood(space)
    except PistarError as error:
        diagnosis.fail(topic, str(error), "change the space, or wrap the environment to give one that is supported")
        return None
    except Exception as error:
        diagnosis.fail(
            topic, f"{brief(space)}: no {_part(role)} could be made: {error!r}", "check the space's arguments"
        )
        return None
    return layout


def _part(role: Role) -> str:
    return "encoder" if role == "observation" else "action head"


def _check_observation_space(diagnosis: Diagnosis, space: Space[Any]) -> None:
    topic = "observation space"
    for name, part in boxes(space, "observation"):
        if part.dtype.kind in "iu" and part.dtype != np.uint8:
            diagnosis.warn(
                topic,
                f"{name} is a Box of {part.dtype}; pistar normalises real numbers only, so these enter the policy raw",
                "declare float32 where the values are quantities, Discrete or MultiDiscrete where they are categories",
            )
        if part.dtype.kind == "f" and len(part.shape) == 3 and np.all(part.high == 255):
            diagnosis.warn(
                topic,
                f"{name} looks like an image of {part.dtype}",
                "declare np.uint8: it takes a quarter of the memory, and pistar then divides by 255",
            )
    size = spaces.utils.flatdim(space)
    if size > LARGE_OBSERVATION:
        diagnosis.warn(
            topic,
            f"{brief(space)} has {size:,} entries; the mlp policy flattens them into a dense layer",
            "make the observation smaller (gymnasium.wrappers.ResizeObservation, GrayscaleObservation)",
        )


def _check_action_space(diagnosis: Diagnosis, space: Space[Any]) -> None:
    topic = "action space"
    for name, part in boxes(space, "action"):
        low, high = np.asarray(part.low, np.float64), np.asarray(part.high, np.float64)
        unbounded = (np.abs(low) > HUGE_BOUND) | (np.abs(high) > HUGE_BOUND)
        if bool(unbounded.any()):
            diagnosis.warn(
                topic,
                f"{name} is unbounded in {int(unbounded.sum())} of {unbounded.size} entries; pistar maps [−1, 1] to "
                "finite bounds and can only pass these on unscaled",
                "give every entry the bounds that the actuator has, e.g. gymnasium.wrappers.RescaleAction, or "
                "Box(-1, 1) scaled inside step",
            )
        if bool((low == high).any()):
            diagnosis.warn(
                topic, f"{name} has entries whose bounds are equal, so they cannot be chosen", "leave them out"
            )


def boxes(space: Any, name: str) -> Iterator[tuple[str, spaces.Box]]:
    """Every Box in a space, with its name as in ``observation['camera']``."""
    for label, part in leaf_spaces(space, name):
        if isinstance(part, spaces.Box):
            yield label, part


def leaf_spaces(space: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every leaf of a space in the order of a ``Layout``."""
    if isinstance(space, spaces.Dict):
        for key, part in space.items():
            yield from leaf_spaces(part, f"{name}[{key!r}]")
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from leaf_spaces(part, f"{name}[{index}]")
    else:
        yield name, space


def brief(space: Any) -> str:
    """A space in one short line: an array of bounds is given by its extremes."""
    if isinstance(space, spaces.Box):
        low, high = (f"{float(bound):.4g}" for bound in (space.low.min(), space.high.max()))
        return f"Box of {space.dtype} {list(space.shape)}, {low} to {high}" if space.low.size else str(space)
    text = " ".join(str(space).split())
    return text if len(text) <= 160 else text[:157] + "..."

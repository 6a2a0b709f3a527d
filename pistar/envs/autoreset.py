"""What a vector environment does when one of its lanes ends, and who may start the lane's next episode.

Gymnasium knows three ways: the environment resets the lane in its next step, in the same step, or not at all.
``SyncVectorEnv`` and ``AsyncVectorEnv`` can in all three be told to reset single lanes with a seed for each, so that
episodes start as ``environment`` prescribes. Others can be told to reset single lanes where they do not do it themselves.

What this leaves out: the handling itself; see ``gym_vector``.
"""

from __future__ import annotations

from typing import Any

from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from pistar.errors import UsageError


def mode_of(name: str, environment: Any, given: AutoresetMode | str | None) -> AutoresetMode:
    """How ``environment`` treats ends: as its metadata declare it or, where they do not, as ``given``."""
    declared = environment.metadata.get("autoreset_mode")
    try:
        modes = {AutoresetMode(each) for each in (declared, given) if each is not None}
    except ValueError:
        modes = set()
    if len(modes) != 1:
        raise UsageError(
            f"it is unclear what {name} does when a lane ends: expected metadata['autoreset_mode'] or the argument "
            "autoreset to be an AutoresetMode ('NextStep', 'SameStep' or 'Disabled'), or both the same, received "
            f"{declared!r} and {given!r}"
        )
    mode = modes.pop()
    inner = environment.unwrapped
    if mode is AutoresetMode.NEXT_STEP and isinstance(inner, AsyncVectorEnv) and not inner.shared_memory:
        raise UsageError(
            f"{name} is an AsyncVectorEnv without shared memory, which resets a lane once more after it has been told "
            "to (AutoresetMode.NEXT_STEP); expected shared_memory=True or another autoreset_mode"
        )
    return mode


def takes_seeds(environment: Any) -> bool:
    """Whether ``reset`` takes a seed per lane, and a mask of the lanes to reset in any mode."""
    return isinstance(environment.unwrapped, SyncVectorEnv | AsyncVectorEnv)

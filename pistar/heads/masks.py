"""Which entry of an observation is the mask of the actions."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from pistar.errors import UnknownName, UnsupportedSpace
from pistar.heads.head import Head


def without_mask(space: spaces.Space[Any], mask: str | None, head: Head) -> spaces.Space[Any]:
    """The observation space as an encoder should see it: without the entry ``mask``, which must be a mask for ``head``.

    Raises UnsupportedSpace where it is none, or where nothing else is left to see.
    """
    if mask is None:
        return space
    if not isinstance(space, spaces.Dict):
        raise UnsupportedSpace(
            f"the observation's entry {mask!r} is to mask actions, but the observation is no dict: {space}; "
            f"give a Dict observation, or leave mask out"
        )
    if mask not in space.spaces:
        raise UnknownName("entry of the observation to mask actions", mask, space.spaces)
    head.require_mask(space[mask], f"the observation's entry {mask!r}")
    rest = {key: child for key, child in space.spaces.items() if key != mask}
    if not rest:
        raise UnsupportedSpace(f"the observation is nothing but the mask {mask!r}; give the policy something to see")
    return spaces.Dict(rest)

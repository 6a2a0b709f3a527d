"""Which entry of an observation is the mask of the actions."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from pistar.errors import UnknownName, UnsupportedSpace
from pistar.heads.head import Head


def require_mask(space: spaces.Space[Any], mask: str, head: Head) -> None:
    """Raise UnsupportedSpace where the entry ``mask`` of the observation space is no mask for the head, or is not there."""
    if not isinstance(space, spaces.Dict):
        raise UnsupportedSpace(
            f"the observation's entry {mask!r} is to mask actions, but the observation is no dict: {space}; "
            f"give a Dict observation, or leave mask out"
        )
    if mask not in space.spaces:
        raise UnknownName("entry of the observation to mask actions:", mask, space.spaces)
    head.require_mask(space[mask], f"the observation's entry {mask!r}")

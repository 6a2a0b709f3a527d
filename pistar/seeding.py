"""Seeds of independent random streams, derived from the run's one seed by hashing.

Every consumer of randomness has its own stream, so that no one's draws shift another's: evaluation can be switched on
without changing training, and an episode's start does not depend on when the other lanes ended.
"""

from __future__ import annotations

import hashlib


def derive(seed: int, *path: str | int) -> int:
    """A 63-bit seed for the stream named by ``path``: ``derive(7, "evaluation")``."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def world_seed(seed: int, *path: str | int) -> int:
    """Like ``derive``, with 31 bits: for environments, which pass it on to ``np.random.seed`` or to an int of C."""
    return derive(seed, *path) >> 32


def episode_seed(seed: int, lane: int, episode: int) -> int:
    """The 31-bit seed that starts episode ``episode`` (from 0) of lane ``lane`` after ``reset(seed)``."""
    return world_seed(seed, "episode", lane, episode)

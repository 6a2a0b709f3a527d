"""Recorded episodes as files: what somebody else did, for a policy to learn from.

::

    DIRECTORY/demonstrations.json     what it is: format, version, episodes, provenance, and the spaces where they are known
    DIRECTORY/episode-000000.npz      one episode, plain NumPy arrays:

        observation   [L + 1, ...]    the last one is what the last action led to
        action        [L, ...]        in the environment's own units
        reward        [L]
        terminated    scalar bool     whether the task ended; otherwise the episode was cut

A Dict's entries are arrays of their own, ``observation/KEY``, a Tuple's ``action/0``, ``action/1`` and so on. `write` makes such
a directory of episodes in memory, wherever they come from; the JSON file is for people and may be missing. It differs from
`replay`, which is a run's own memory, by holding whole episodes of anybody.

Left out: streams of frames as video, and files of other libraries: convert them by `write`.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pistar import serialization
from pistar import spaces as encoding
from pistar.envs.environment import Spaces
from pistar.errors import UsageError
from pistar.policy import as_batch
from pistar.tree import Tree, first_leaf, leaves

FORMAT, VERSION = "pistar-demonstrations", 1
DESCRIPTION = "demonstrations.json"


@dataclass(frozen=True)
class Episode:
    """L steps, as NumPy arrays."""

    observation: Tree  # [L + 1, ...] the last one is what the last action led to
    action: Tree  # [L, ...] in the environment's own units
    reward: NDArray[Any]  # [L] as the environment gave it
    terminated: bool  # whether the task ended with the last step; otherwise the episode was cut there

    def __len__(self) -> int:
        return len(self.reward)


def write(
    directory: str | Path,
    episodes: Iterable[Episode],
    spaces: Spaces | None = None,
    provenance: dict[str, Any] | None = None,
) -> int:
    """Write episodes to a new or empty directory; returns how many.

    ``provenance`` is anything that JSON can say of where they come from. With ``spaces``, each episode is checked against them.
    Raises UsageError where the place is taken, or an episode is not what its description says.
    """
    place = Path(directory)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UsageError(
            f"{place} exists already and is left as it is; choose another directory for the demonstrations"
        )
    place.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, episode in enumerate(episodes, start=1):
        name = f"episode-{count - 1:06d}.npz"
        require_lengths(episode, name)
        if spaces is not None:
            require_fit(episode, spaces, name)
        serialization.write_bytes(place / name, _packed(episode))
    if not count:
        raise UsageError(f"no episodes to write to {place}; expected at least one")
    about: dict[str, Any] = {"format": FORMAT, "version": VERSION, "episodes": count, "provenance": provenance or {}}
    if spaces is not None:
        about["observation_space"] = encoding.encode(spaces.observation)
        about["action_space"] = encoding.encode(spaces.action)
    serialization.write_bytes(place / DESCRIPTION, (json.dumps(about, indent=1, sort_keys=True) + "\n").encode())
    return count


def read(directory: str | Path, spaces: Spaces) -> list[Episode]:
    """The episodes of a directory, in the order of their names; each must fit the spaces of the task.

    Raises UsageError that names the file where one does not, and where nothing is there.
    """
    place = Path(directory)
    files = sorted(place.glob("*.npz")) if place.is_dir() else []
    if not files:
        raise UsageError(f"{place} holds no episodes; expected a directory of .npz files, as `pistar record` writes it")
    found = []
    for file in files:
        episode = _unpacked(file, spaces)
        require_lengths(episode, str(file))
        require_fit(episode, spaces, str(file))
        found.append(episode)
    return found


def about(directory: str | Path) -> dict[str, Any]:
    """What the directory's JSON file says; empty where there is none."""
    try:
        found = json.loads((Path(directory) / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def digest(episodes: Iterable[Episode]) -> str:
    """SHA-256 over the content of episodes, whatever files they came in."""
    made = hashlib.sha256()
    for episode in episodes:
        for name, array in _named(episode).items():
            made.update(f"{name}:{array.dtype}:{array.shape}\n".encode())
            made.update(np.ascontiguousarray(array).tobytes())
    return made.hexdigest()


def require_lengths(episode: Episode, where: str) -> None:
    """Raise UsageError unless an episode has L >= 1 steps and L + 1 observations."""
    length = len(episode)
    wanted = [("observation", episode.observation, length + 1), ("action", episode.action, length)]
    for what, tree, expected in wanted:
        for path, leaf in leaves(tree, (what,)):
            if np.ndim(leaf) == 0 or len(leaf) != expected:
                raise UsageError(
                    f"{where}: {'/'.join(path)} has shape {np.shape(leaf)}; with {length} rewards, {expected} entries are "
                    "expected (the observation after the last action is one of them)"
                )
    if not length or np.ndim(episode.reward) != 1 or not np.isfinite(np.asarray(episode.reward, np.float64)).all():
        raise UsageError(f"{where}: reward must be a vector of at least one finite number")


def require_fit(episode: Episode, expected: Spaces, where: str) -> None:
    """Raise UsageError where an episode's arrays are no elements of the spaces."""
    for what, space, tree in (
        ("observation", expected.observation, episode.observation),
        ("action", expected.action, episode.action),
    ):
        try:
            as_batch(space, tree)
        except UsageError as error:
            raise UsageError(f"{where}: the {what}s do not fit {space}: {error}") from error
    _require_inside(expected.action, episode.action, f"{where}: action")


def _require_inside(space: spaces.Space[Any], action: Any, where: str) -> None:
    """Raise UsageError where an action is not one that the environment takes."""
    if isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            _require_inside(child, action[key], f"{where}/{key}")
        return
    if isinstance(space, spaces.Tuple):
        for index, child in enumerate(space.spaces):
            _require_inside(child, action[index], f"{where}/{index}")
        return
    array = np.asarray(action)
    low, high = _range(space)
    outside = (array < low) | (array > high)
    if outside.any():
        step = int(np.argwhere(outside)[0][0])
        raise UsageError(f"{where} of step {step} is {array[step].tolist()}, outside {space}; clip what is recorded")


def _range(space: spaces.Space[Any]) -> tuple[Any, Any]:
    if isinstance(space, spaces.Box):
        slack = 1e-6 * np.maximum(1.0, np.where(np.isfinite(space.high), np.abs(space.high), 1.0))
        return space.low - slack, space.high + slack
    if isinstance(space, spaces.Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    return 0, 1  # MultiBinary


def _named(episode: Episode) -> dict[str, NDArray[Any]]:
    """The arrays of an episode by the names that a file has for them."""
    named = {"/".join(path): np.asarray(leaf) for path, leaf in leaves(episode.observation, ("observation",))}
    named |= {"/".join(path): np.asarray(leaf) for path, leaf in leaves(episode.action, ("action",))}
    return {**named, "reward": np.asarray(episode.reward), "terminated": np.asarray(bool(episode.terminated))}


def _packed(episode: Episode) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **_named(episode))
    return buffer.getvalue()


def _unpacked(file: Path, expected: Spaces) -> Episode:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"{file} cannot be read as plain NumPy arrays: {error}") from error
    try:
        return Episode(
            _tree(expected.observation, found, "observation"),
            _tree(expected.action, found, "action"),
            found["reward"],
            bool(found["terminated"]),
        )
    except KeyError as error:
        raise UsageError(f"{file} lacks the array {error} (it holds {', '.join(sorted(found))})") from error


def _tree(space: spaces.Space[Any], arrays: dict[str, NDArray[Any]], name: str) -> Tree:
    if isinstance(space, spaces.Dict):
        return {key: _tree(child, arrays, f"{name}/{key}") for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_tree(child, arrays, f"{name}/{index}") for index, child in enumerate(space.spaces))
    return arrays[name]


def steps_of(episodes: Iterable[Episode]) -> int:
    """How many steps they have together."""
    return sum(int(first_leaf(episode.action).shape[0]) for episode in episodes)

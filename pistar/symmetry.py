"""Symmetries of a task: transformations of what is seen and done under which a world's dynamics and rewards do not change.

A `Symmetry` maps observations and actions. A map is data where signs and positions are all there is to it (`Signed`, `Indices`),
a dict of maps for the entries of a dict, or any function of a tensor [..., n]. Actions are in the policy's own coordinates: a
Box is flat and lies in [−1, 1] where it has bounds (a squashed or Beta policy has the artanh of that, which signs turn
alike), a Discrete counts from 0. The symmetries of a task, with the identity,
must be a group: the reflection of an arm is its own inverse; a quarter turn needs the half and the three-quarter turn too.

`state` says what the transformation is to an environment's whole state, so that a check can put two worlds side by side
(`pistar.testing.check_symmetry`); training does without. What is done with symmetries is in `pistar.mirroring`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pistar.errors import UsageError

if TYPE_CHECKING:
    from pistar.tree import Tree

Map = Any  # None (nothing changes), a function of a tensor [..., n], or a Mapping of these by the entries of a dict


@dataclass(frozen=True)
class Signed:
    """y_i = sign_i · x_{position_i} along the last dimension; ``positions`` None: each stays where it is."""

    signs: tuple[int, ...]
    positions: tuple[int, ...] | None = None

    def __call__(self, x: Any) -> Any:
        """[..., n] -> [..., n], a tensor or a NumPy array."""
        if x.shape[-1] != len(self.signs):
            raise UsageError(f"a symmetry has {len(self.signs)} signs, but is to map {x.shape[-1]} numbers")
        moved = x if self.positions is None else x[..., list(self.positions)]
        if all(sign == 1 for sign in self.signs):
            return moved
        return moved * (x.new_tensor(self.signs) if hasattr(x, "new_tensor") else self.signs)


@dataclass(frozen=True)
class Indices:
    """An index i becomes ``image[i]``."""

    image: tuple[int, ...]

    def __call__(self, x: Any) -> Any:
        """[...] -> [...]."""
        return x.new_tensor(self.image)[x.long()].to(x.dtype)


@dataclass(frozen=True)
class Symmetry:
    """One transformation."""

    name: str
    observation: Map
    action: Map
    state: Map = None  # of what `Environment.save` gives; None: not said, so that dynamics cannot be checked

    def see(self, observation: Tree) -> Tree:
        """The transformed observation [..., leaf]."""
        return apply(self.observation, observation)

    def act(self, action: Tree) -> Tree:
        """The transformed action [..., leaf], in the policy's coordinates."""
        return apply(self.action, action)


def apply(map_: Map, tree: Tree) -> Tree:
    """A map on a tree; entries that a Mapping does not name stay. Raises UsageError for a name that is not there."""
    if map_ is None:
        return tree
    if isinstance(map_, Mapping):
        if not isinstance(tree, Mapping) or not set(map_) <= set(tree):
            has = sorted(tree) if isinstance(tree, Mapping) else "no entries"
            raise UsageError(f"a symmetry maps the entries {sorted(map_)}, but there is {has}")
        return {key: apply(map_.get(key), value) for key, value in tree.items()}
    if isinstance(tree, tuple) and isinstance(map_, tuple):
        return tuple(apply(one, part) for one, part in zip(map_, tree, strict=True))
    return map_(tree)


def find(chosen: str, task: Any) -> tuple[Symmetry, ...]:
    """The symmetries that a setting names: ``none``, ``task``, or ``module:NAME`` of a sequence or a function that gives one.

    Raises UsageError where there are none.
    """
    if chosen == "none":
        return ()
    if chosen == "task":
        found = tuple(task.symmetries())
        if not found:
            raise UsageError(
                f"the task {type(task).__name__} declares no symmetry with these settings; name your own as module:NAME, "
                "or leave --symmetry out"
            )
        return found
    if ":" not in chosen:
        raise UsageError(f"symmetry: expected none, task or module:NAME, received {chosen!r}")
    from pistar.registry import load

    named: Sequence[Symmetry] | Callable[[], Sequence[Symmetry]] | Symmetry = load(chosen, "symmetry")
    made = named if isinstance(named, Symmetry | list | tuple) else named()  # type: ignore[operator]
    found = (made,) if isinstance(made, Symmetry) else tuple(made)
    if not found or not all(isinstance(each, Symmetry) for each in found):
        raise UsageError(f"{chosen} gives {made!r}; expected at least one pistar.symmetry.Symmetry")
    return found

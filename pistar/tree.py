"""Nested dicts, tuples and dataclasses of tensors as one value.

Observations, actions, memories and rollouts are trees; what is done to each leaf alike is written once, here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

Tree = Any  # a leaf, or a dict / tuple / dataclass of Trees; None is the empty tree


def map_leaves(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply ``function`` to every leaf of ``tree`` (and to the matching leaves of ``others``); the shape is kept."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: map_leaves(function, value, *(other[key] for other in others)) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(map_leaves(function, *children) for children in zip(tree, *others, strict=True))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        rows = [[getattr(each, name) for each in (tree, *others)] for name in _names(type(tree))]
        return type(tree)(*(None if row[0] is None else map_leaves(function, *row) for row in rows))
    return function(tree, *others)


@functools.cache
def _names(cls: type) -> tuple[str, ...]:
    """The fields of a dataclass, in the order in which it takes them."""
    return tuple(field.name for field in dataclasses.fields(cls))


def leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, leaf) in a fixed order: a dict's own order, a tuple's or a dataclass's field order."""
    if tree is None:
        return
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, (*path, str(key)))
    elif isinstance(tree, tuple):
        for index, value in enumerate(tree):
            yield from leaves(value, (*path, str(index)))
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        for field in dataclasses.fields(tree):
            yield from leaves(getattr(tree, field.name), (*path, field.name))
    else:
        yield path, tree


def first_leaf(tree: Tree) -> Any:
    """Any leaf, for questions that all leaves answer alike (batch size, device)."""
    return next(leaves(tree))[1]


def follow(tree: Tree, path: tuple[str, ...]) -> Any:
    """The leaf at the end of a path that `leaves` gave."""
    for key in path:
        tree = (
            tree[int(key)] if isinstance(tree, tuple) else tree[key] if isinstance(tree, dict) else getattr(tree, key)
        )
    return tree

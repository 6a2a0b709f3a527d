"""What a diagnosis needs and nothing else records: still observations, actions at their bounds, gradients of the parts.

They are looked at where it is cheap: an entry of an observation that differs within a few rows varies, and only those
that do not are looked at in full; of many actions evenly spaced ones are counted, as the environment was given them. Of
short rollouts only some are looked at (`due`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from pistar.heads import NO_BOUND
from pistar.policy import Policy
from pistar.rollout import Rollout
from pistar.tree import leaves, map_leaves

if TYPE_CHECKING:
    from pistar.learner import Learner

SPACING = 2048  # steps between two looks, at least
SAMPLE = 16  # rows that show most entries to vary
MOST_NAMED = 32  # entries of an observation that do not vary and are named
ENOUGH = 2048  # steps whose actions are counted
NEAR = 1e-3  # of the range between two bounds: as near as squashed actions come


def due(iteration: int, steps: int) -> bool:
    """Whether the rollout of ``iteration``, one of ``steps`` steps each, is looked at: the first, then one in ``SPACING`` steps."""
    return iteration == 1 or iteration * steps // SPACING > (iteration - 1) * steps // SPACING


def unvarying(rollout: Rollout) -> dict[str, Any]:
    """``observation/unvarying``: the entries that have one value in the whole rollout, index -> value; mostly none.

    An index counts the flattened entries of one step's leaf. An entry never varied in a run where all its looks name it
    with the same value.
    """
    found: dict[str, Any] = {}
    for path, leaf in leaves(rollout.observation):
        rows = counted(leaf, rollout)
        if rows.shape[0] > 1 and rows.shape[1] > 0:
            still = still_columns(rows)[:MOST_NAMED].tolist()
            found["/".join(("observation", *path, "unvarying"))] = {str(n): float(rows[0, n]) for n in still}
    return found


def counted(leaf: Tensor, rollout: Rollout) -> NDArray[Any]:
    """[T, B, ...] -> [N, D]: the steps that count, flattened."""
    rows = leaf.reshape(leaf.shape[0] * leaf.shape[1], -1)
    if rollout.weight is not None:
        rows = rows[rollout.weight.flatten() > 0]
    return rows.cpu().numpy()


def pushes(learner: Learner) -> dict[str, float]:
    """``gradient/PART``: the length of the last gradient step's gradient, part by part."""
    return {f"gradient/{name}": float(learner.gradient[where].norm()) for name, where in learner.slices.items()}


def still_columns(table: NDArray[Any]) -> NDArray[np.int64]:
    """The columns of [N, D] whose N values are equal: [K]."""
    first = table[0]
    still = np.flatnonzero((table[:: -(-len(table) // SAMPLE)] == first).all(0))
    return still[(table[:, still] == first[still]).all(0)] if len(still) else still


class Bounds:
    """Counts the actions of a policy that lie at the bounds of their space, which are looked up once."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._limits = dict(limits(policy.spaces.action, ()))

    def shares(self, rollout: Rollout) -> dict[str, float]:
        """``action/at_bounds`` of every continuous leaf that has bounds: the share of its entries that lie at one."""
        if not self._limits:
            return {}
        steps, lanes = rollout.shape
        stride = -(-steps * lanes // ENOUGH)

        def some(x: Tensor) -> Tensor:
            rows = x.flatten(0, 1)
            return (rows if rollout.weight is None else rows[rollout.weight.flatten() > 0])[::stride]

        executed = self.policy.head.to_environment(map_leaves(some, rollout.action))
        found = {}
        for path, leaf in leaves(executed):
            if path in self._limits and leaf.numel():
                table, (low, high) = leaf.reshape(leaf.shape[0], -1).cpu().numpy(), self._limits[path]
                beyond = np.count_nonzero(table <= low) + np.count_nonzero(table >= high)
                found["/".join(("action", *path, "at_bounds"))] = beyond / table.size
        return found


def limits(space: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], tuple[Any, Any]]]:
    """(path, (low, high)) of every Box of floats with a finite bound, a little inside of it: [A] each."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        children = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for name, child in children:
            yield from limits(child, (*path, str(name)))
    elif isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        low, high = (bound.reshape(-1).astype(np.float64) for bound in (space.low, space.high))
        low, high = np.where(low <= -NO_BOUND, -np.inf, low), np.where(high >= NO_BOUND, np.inf, high)
        near = np.where(np.isfinite(low) & np.isfinite(high), NEAR * (high - low), 0.0)
        fixed = low == high  # a dimension of no width is always at its bounds, which says nothing
        low, high = np.where(fixed, -np.inf, low + near), np.where(fixed, np.inf, high - near)
        if (np.isfinite(low) | np.isfinite(high)).any():
            yield path, (low.astype(np.float32), high.astype(np.float32))

"""Whether a file acts as the torch policy does: on thousands of observations, before the file appears.

Compared are deterministic actions, sampled ones with the same noise, distributions and memories, to `TOLERANCE` absolute and
relative; actions of a Box to as much in units of half its range. A policy with a memory acts for 200 steps, each side with its own
memory, with episodes that begin at random; torch's memory is zeroed by hand there. An index that differs is forgiven where it was
a tie to rounding: both are as likely, or noise that differs by `TOLERANCE` gives the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from pistar.errors import ArtefactError
from pistar.export import families
from pistar.export.draws import noise_of
from pistar.export.graph import Layout
from pistar.export.ports import Port, assemble, leaf_spaces
from pistar.export.reading import Arrays, ExportedPolicy
from pistar.export.situations import Situations
from pistar.policy import Policy
from pistar.tree import Tree, follow, map_leaves

TOLERANCE = 1e-5
STEPS, LANES = 200, 24  # with a memory
BATCHES = (1, 2, 7, 4086)  # without
LARGEST = 2**22  # numbers of one batch of observations; larger ones, such as images, are compared in pieces
RESETS = 0.05  # chance that an episode begins


@dataclass
class Verified:
    """What was compared."""

    observations: int = 0
    steps: int = 0
    largest_difference: float = 0.0  # absolute or relative, whichever is smaller, of whatever is not an index

    def to_json(self) -> dict[str, Any]:
        """For the metadata."""
        return {**vars(self), "largest_difference": float(f"{self.largest_difference:.2g}")}


def verify(policy: Policy, layout: Layout, exported: ExportedPolicy) -> Verified:
    """Compare; raises ArtefactError, naming the output, where they differ by more than `TOLERANCE`."""
    situations, verified = Situations(policy, layout), Verified()
    with torch.no_grad():
        if not exported.has_memory:
            most = max(1, LARGEST // max(1, sum(math.prod(port.shape) for port in layout.observation)))
            for rows in (piece for batch in BATCHES for piece in _pieces(batch, most)):
                _compare_steps(policy, layout, exported, situations, rows, 1, verified)
        else:
            for rows, steps in ((1, 8), (LANES, STEPS)):
                _compare_steps(policy, layout, exported, situations, rows, steps, verified)
    return verified


def _pieces(rows: int, most: int) -> list[int]:
    """``rows`` in pieces of at most ``most``."""
    return [most] * (rows // most) + [rows % most] * (rows % most > 0)


def _compare_steps(
    policy: Policy,
    layout: Layout,
    exported: ExportedPolicy,
    situations: Situations,
    rows: int,
    steps: int,
    verified: Verified,
) -> None:
    """``steps`` in a row, each side with its own memory."""
    held, memory = exported.initial_memory(rows), policy.initial_memory(rows)
    names = {port.name for port in exported.inputs}
    for _ in range(steps):
        seen, noise = situations.observation(rows), situations.noise(rows)
        begins = situations.generator.random(rows) < RESETS
        feeds = {name: x for name, x in {**seen, **noise, **held, "is_first": begins}.items() if name in names}
        found = exported.infer(feeds)
        reference = Reference(policy, layout, seen, _forgotten(policy, memory, begins))
        for port in exported.outputs:
            difference = _difference(policy, port, found, reference, noise)
            verified.largest_difference = max(verified.largest_difference, difference)
        held, memory = exported.next_memory(found), reference.memory
    verified.observations += rows * steps
    verified.steps = max(verified.steps, steps)


def _forgotten(policy: Policy, memory: Tree, begins: NDArray[Any]) -> Tree:
    """The memory, anew in the rows where an episode begins."""
    first = torch.from_numpy(begins)
    new = policy.initial_memory(len(begins))
    return map_leaves(lambda a, b: torch.where(first.view(-1, *[1] * (a.dim() - 1)), a, b), new, memory)


class Reference:
    """One step of the torch policy itself."""

    def __init__(self, policy: Policy, layout: Layout, seen: Arrays, memory: Tree) -> None:
        self.policy, self.layout = policy, layout
        dtype = next(policy.parameters()).dtype
        tensors = {port.path: torch.from_numpy(seen[port.name]) for port in layout.observation}
        observation = assemble(policy.spaces.observation, tensors)
        observation = map_leaves(lambda x: x.to(dtype) if x.is_floating_point() else x, observation)
        outputs, self.memory = policy.outputs(observation, memory)
        self.rows = len(outputs)
        self.distribution = policy.head(outputs)
        self.parts = {path: (head, part) for path, head, part in families.parts(policy.head, self.distribution)}

    def within(self, port: Port, x: NDArray[Any]) -> bool:
        """Whether all rows are actions of the leaf's space."""
        space = dict(leaf_spaces(self.policy.spaces.action))[port.path]
        return all(space.contains(row) for row in x)

    def value(self, port: Port, noise: Arrays, shift: float = 0.0) -> NDArray[Any]:
        """What the output ought to be, with ``shift`` added to uniform noise."""
        if port.role == "memory":
            return _numpy(follow(self.memory, port.path))
        if port.role == "distribution":
            return _numpy(families.parameters(self.parts[port.path][1], self.rows)[str(port.parameter)])
        if port.role == "action":
            return _numpy(follow(self.policy.head.to_environment(self.distribution.mode()), port.path))
        dtype = next(self.policy.parameters()).dtype
        draws = [torch.from_numpy(_shifted(p, noise[p.name], shift)).to(dtype) for p in self.layout.of("noise")]
        sample = self.distribution.sample(noise_of(self.policy.head, draws, self.rows))
        return _numpy(follow(self.policy.head.to_environment(sample), port.path))


def _shifted(port: Port, drawn: NDArray[Any], shift: float) -> NDArray[Any]:
    return np.clip(drawn + np.float32(shift), 0.0, np.float32(1 - 2**-24)) if port.noise == "uniform" else drawn


def _numpy(x: Tensor) -> NDArray[Any]:
    return x.cpu().numpy()


def _difference(policy: Policy, port: Port, found: Arrays, reference: Reference, noise: Arrays) -> float:
    """The largest difference of an output that is not forgiven nor an index; raises ArtefactError where it is too large."""
    x, y = found[port.name], reference.value(port, noise)
    number = y.dtype.kind == "f"
    if not np.isfinite(x).all():
        raise ArtefactError(f"the graph's {port.name} is not finite, but everything that a file says must be")
    ratio = _relative(policy, port, x, y) if number else (x != y).astype(np.float64)
    wrong = (ratio.reshape(len(x), -1) > TOLERANCE).any(1)
    if wrong.any() and port.role == "sample":
        wrong &= ~_between(policy, port, x, reference, noise)
    elif wrong.any() and port.role == "action" and not number:
        wrong &= ~_as_likely(port, x, y, reference)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ArtefactError(
            f"the graph's {port.name} is not what torch says in {int(wrong.sum())} of {len(x)} rows: {x[row].tolist()}, but torch says "
            f"{y[row].tolist()} (tolerance {TOLERANCE:g}, absolute and relative). Nothing was written"
        )
    agreed = (ratio.reshape(len(x), -1) <= TOLERANCE).all(1)
    return float(ratio[agreed].max(initial=0.0)) if number else 0.0


def _relative(policy: Policy, port: Port, x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """|x − y| / (unit + |y|), where an action's unit is half its range, at least 1."""
    unit: Any = 1.0
    if port.role in ("action", "sample"):
        space = dict(leaf_spaces(policy.spaces.action))[port.path]
        assert isinstance(space, spaces.Box)
        half = space.high.astype(np.float64) / 2 - space.low.astype(np.float64) / 2
        unit = np.where(np.isfinite(half) & (half < 1e30), np.maximum(half, 1.0), 1.0)
    x, y = x.astype(np.float64), y.astype(np.float64)
    ratio: NDArray[Any] = np.abs(x - y) / (unit + np.abs(y))
    return ratio


def _between(policy: Policy, port: Port, x: NDArray[Any], reference: Reference, noise: Arrays) -> NDArray[Any]:
    """Rows in which every entry is one that noise a tolerance up or down may give, or lies between the two."""
    low, high = (reference.value(port, noise, shift) for shift in (-TOLERANCE, TOLERANCE))
    near: Any
    if x.dtype.kind == "f":
        near = (_relative(policy, port, x, low) <= TOLERANCE) | (_relative(policy, port, x, high) <= TOLERANCE)
        near |= (x >= np.minimum(low, high)) & (x <= np.maximum(low, high))
    else:
        near = (x == low) | (x == high)
        near |= x == reference.value(port, noise)
    result: NDArray[Any] = near.reshape(len(x), -1).all(1)
    return result


def _as_likely(port: Port, x: NDArray[Any], y: NDArray[Any], reference: Reference) -> NDArray[Any]:
    """Rows in which the two actions have the same log-probability, to the tolerance in each of their entries."""
    head, part = reference.parts[port.path]
    if not reference.within(port, x):  # a choice that there is not
        return np.zeros(len(x), np.bool_)
    one, other = (part.log_prob(head.from_environment(torch.from_numpy(each))) for each in (x, y))
    entries = max(1, int(np.prod(port.shape)))
    result: NDArray[Any] = ((one - other).abs() <= 2 * TOLERANCE * entries * (1 + other.abs())).numpy()
    return result

"""The random numbers of a head as inputs of a graph.

A head draws its noise with ``torch.randn`` and ``torch.rand``, and an action is a function of that noise. Here the same code is
run twice: once to see what it draws, and then with each draw replaced by a tensor that is given. So a head of one's own is
exported without a word about it. What draws otherwise (``torch.normal``, NumPy, ...) is noticed, and sampling refused: such a
graph would always "draw" what was drawn when it was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pistar.auxiliary import AuxiliaryHead
from pistar.errors import UnsupportedSpace
from pistar.heads import Head, JointHead
from pistar.tree import Tree, leaves

KINDS = {torch.randn: "normal", torch.randn_like: "normal", torch.rand: "uniform", torch.rand_like: "uniform"}


@dataclass(frozen=True)
class Draw:
    """One draw of a head for a batch [N]: [N, *shape]."""

    kind: str  # "normal" or "uniform"
    shape: tuple[int, ...]
    hold: int  # steps for which the head keeps it in a rollout; 0: the whole of it


class _Recording(TorchFunctionMode):
    """Notes every draw and what it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[str] = []
        self.values: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in KINDS:
            self.kinds.append(KINDS[func])
            self.values.append(result.clone())
        return result


class _Replaying(TorchFunctionMode):
    """Gives what it was given in the place of every draw."""

    def __init__(self, values: Sequence[Tensor]) -> None:
        super().__init__()
        self.left = list(values)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.left.pop(0) if func in KINDS else func(*args, **(kwargs or {}))


def noise_of(head: Head, values: Sequence[Tensor], batch: int) -> Tree:
    """What ``head.noise`` makes of the given draws, in the order of `draws_of`: a tree [N, ...]."""
    with _Replaying(values):
        return head.noise((batch,), torch.Generator(), torch.float32, torch.device("cpu"))


def draws_of(head: Head) -> list[Draw]:
    """Every draw of ``head.noise``, in order. Raises UnsupportedSpace where its noise is not made of such draws alone."""
    made = []
    for part in single_heads(head):
        recordings = [_record(part, batch, seed=0) for batch in (2, 3)]
        for kind, *values in zip(recordings[0].kinds, *(each.values for each in recordings), strict=True):
            shapes = [tuple(value.shape) for value in values]
            if [shape[:1] for shape in shapes] != [(2,), (3,)] or shapes[0][1:] != shapes[1][1:]:
                raise UnsupportedSpace(
                    f"the noise of a {type(part).__name__} has no leading batch dimension: {shapes[1]} for 3 rows"
                )
            made.append(Draw(kind, shapes[0][1:], int(getattr(part, "redraw", 1))))
    _require_complete(head, len(made))
    return made


def single_heads(head: Head) -> list[Head]:
    """The heads that draw, in their order."""
    if isinstance(head, AuxiliaryHead):
        return single_heads(head.head)
    if isinstance(head, JointHead):
        return [single for part in head.named.values() for single in single_heads(part)]
    return [head]


def _record(head: Head, batch: int, seed: int) -> _Recording:
    recording = _Recording()
    with recording:
        head.noise((batch,), torch.Generator().manual_seed(seed), torch.float32, torch.device("cpu"))
    return recording


def _require_complete(head: Head, count: int) -> None:
    """Noise that is the same draws' must be the same, whatever the generator's state and torch's global one."""
    recording = _record(head, 3, seed=1)
    if len(recording.values) == count:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            again = [leaf for _, leaf in leaves(noise_of(head, recording.values, 3))]
            torch.manual_seed(8)
            third = [leaf for _, leaf in leaves(noise_of(head, recording.values, 3))]
        drawn = [
            leaf
            for _, leaf in leaves(
                head.noise((3,), torch.Generator().manual_seed(1), torch.float32, torch.device("cpu"))
            )
        ]
        if all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(again, third, drawn, strict=True)):
            return
    raise UnsupportedSpace(
        f"the noise of a {type(head).__name__} is drawn by other means than torch.randn and torch.rand with the generator that it is "
        "given; draw it by those to have sampled actions in the file"
    )

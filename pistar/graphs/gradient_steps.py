"""A learner's gradient steps, captured once for each loss and each shape of a batch, and replayed.

What the eager step decides on the host is decided on the device here: how far the gradient is scaled down; that nothing moves
from a loss or gradient on that is not finite; and that nothing moves once the algorithm has said to stop (`Learner.stop`).
"Nothing moves" means parameters, moments, step counts and the sums of metrics, so that a loop which goes on after the stop
ends where one that had left would have ended. The host reads the five numbers of `Flags` once an iteration.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from inspect import ismethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pistar.errors import NumericalError
from pistar.graphs.capture import Capture, log
from pistar.optimizers import CapturableOptimizer
from pistar.tree import leaves, map_leaves

if TYPE_CHECKING:
    from pistar.learner import Learner

MOST = 16  # different steps that are kept; each holds memory of its own
COMPARED = 2  # first steps of a kind that are done eagerly too: the second shows what the first has left in the graph
STEP_ERROR, METRIC_ERROR = 1e-2, 1e-3  # that pass for rounding: of a step's length; of a metric, relative above 1
NUMBERS = ("stopped", "steps", "passes", "length", "loss")  # of Flags, in their order


class NotCapturable(Exception):
    """Why a loss is no function of tensors and numbers that could be replayed."""


class Outcome(dict[str, Tensor]):
    """A step's metrics, 0 where it was skipped; ``vector`` [n + 1] holds them and, last, 1 or 0 for a skipped one."""

    def __init__(self, names: tuple[str, ...], vector: Tensor) -> None:
        super().__init__(zip(names, vector.unbind(), strict=False))
        self.vector = vector


class Flags:
    """What steps leave on the device: float64 numbers, each a view of ``all``."""

    def __init__(self, device: torch.device) -> None:
        self.all = torch.zeros(len(NUMBERS), dtype=torch.float64, device=device)
        self.stopped, self.steps, self.passes, self.length, self.loss = self.all.unbind()

    def read(self) -> dict[str, float]:
        """All of them at once, and 0 from now on."""
        found = dict(zip(NUMBERS, self.all.tolist(), strict=True))
        self.all.zero_()
        return found


class GradientStep:
    """One step over tensors that stay where they are; calling it is the step, and what a graph holds."""

    def __init__(self, learner: Learner, flags: Flags, loss: Loss, batch: Any, names: list[str]) -> None:
        self.learner, self.flags, self.names, self.function = learner, flags, names, loss.function
        self.fixed = loss.fixed
        self.batch = map_leaves(torch.clone, batch)
        place = learner.parameters.device
        self.numbers = {name: torch.full((), x, dtype=torch.float64, device=place) for name, x in loss.numbers.items()}
        self.metrics: tuple[str, ...] = ()
        self.report = torch.zeros(0, device=place)
        self.replay: Callable[[], None] = self
        self.compared = 0  # times that a replay was found equal to the eager step

    def feed(self, loss: Loss, batch: Any) -> None:
        """Put a batch and a loss's numbers where the step reads them."""
        mine, given = ([leaf for _, leaf in leaves(tree)] for tree in (self.batch, batch))
        torch._foreach_copy_(mine, given)
        for name, number in self.numbers.items():
            number.fill_(loss.numbers[name])
        for optimizer in self.optimizers():
            optimizer.tell()

    def optimizers(self) -> list[CapturableOptimizer]:
        """Those of the parts that move."""
        return [each for name in self.names if isinstance(each := self.learner._optimizers[name], CapturableOptimizer)]

    def outcome(self) -> Outcome:
        """What the last call reported."""
        return Outcome(self.metrics, self.report.clone())

    def __call__(self) -> None:
        """`Learner.step`, without a look at the numbers."""
        learner, flags = self.learner, self.flags
        learner.gradient.zero_()
        batch = map_leaves(lambda x: x, self.batch)  # anew: a distribution remembers what it has computed
        value, found = self.function(learner.policy, batch, **self.fixed, **self.numbers)
        value.backward()
        with torch.no_grad():
            value, length = value.detach(), torch.linalg.vector_norm(learner.share(self.names))
            sound = length.isfinite() & value.isfinite()
            failed = flags.length + flags.loss != 0  # NaN is not 0 either
            for flag, number in ((flags.length, length), (flags.loss, value)):
                flag.copy_(torch.where(sound | failed, flag, number))
            skip = (flags.stopped > 0) | ~sound
            flags.stopped.copy_(skip)
            flags.steps.add_(~skip)
            limit, divisor = learner.max_gradient_norm, torch.ones_like(length)
            if limit > 0:
                divisor = torch.where(length > limit, (length + 1e-6) / limit, divisor)
            for optimizer in self.optimizers():
                optimizer.step_unless(skip.float(), divisor.float())
            self.tell({**found, "gradient_norm": length}, skip)

    def tell(self, metrics: dict[str, Tensor], skip: Tensor) -> None:
        """Leave the metrics in ``report``."""
        every = torch.stack([x.to(torch.float32) for x in metrics.values()])
        row = torch.cat((every.masked_fill(skip, 0.0), (~skip).float().unsqueeze(0)))
        if not self.metrics:
            self.metrics, self.report = tuple(metrics), torch.zeros_like(row)
        self.report.copy_(row)


class Loss:
    """``functools.partial(algorithm.loss, clip=0.2, ...)`` taken apart: what is fixed, and numbers that may change."""

    def __init__(self, loss: Any) -> None:
        given = loss if isinstance(loss, partial) else partial(loss)
        self.function = given.func
        if given.args or (not ismethod(self.function) and getattr(self.function, "__closure__", True)):
            raise NotCapturable("it is made anew for every call, or has arguments without names")
        self.numbers = {name: x for name, x in given.keywords.items() if type(x) is float}
        self.fixed = {name: x for name, x in given.keywords.items() if type(x) is not float}
        for name, x in self.fixed.items():
            if not isinstance(x, bool | int | str | None):
                raise NotCapturable(f"its argument {name} is a {type(x).__name__}, expected a number")
        owner = getattr(self.function, "__self__", None)
        try:
            hash(owner)  # an owner that an algorithm makes anew is the same by its value
        except TypeError:
            owner = id(owner)
        self.key = (getattr(self.function, "__func__", self.function), owner, *self.fixed.items(), *self.numbers)


class GradientSteps:
    """The captured steps of one learner."""

    def __init__(self, learner: Learner, capture: Capture) -> None:
        self.learner, self.capture = learner, capture
        self.flags = Flags(learner.parameters.device)
        self._steps: dict[Any, GradientStep] = {}
        self._refused: set[Any] = set()
        self._marks: list[Tensor] = []  # the learner's random stream at every `stop` of this iteration
        self._last: Outcome | None = None

    def descend(self, loss: Any, batch: Any, names: list[str]) -> dict[str, Any] | None:
        """A step, and what it reports; None where it has to be done eagerly."""
        function = getattr(loss, "func", loss)
        try:
            taken = Loss(loss)
            key = (taken.key, tuple(names), shape_of(batch))
            step = self._steps.get(key)
            if step is None and len(self._steps) >= MOST:
                raise NotCapturable(f"{MOST} different steps are captured already")
            if key not in self._refused and (step is None or step.compared < COMPARED):
                return self._compared(key, taken, loss, batch, names)
        except NotCapturable as error:
            key = getattr(function, "__code__", function)  # of a function that may be another one every time
            self._refuse(key, getattr(function, "__qualname__", str(function)), str(error))
            step = None
        if step is None:
            return self._nothing() if self._marks and bool(self.flags.stopped) else None
        step.feed(taken, batch)
        step.replay()
        self._last = step.outcome()
        return self._last

    def _nothing(self) -> Outcome:
        """The outcome of a step that is skipped."""
        if self._last is None:
            return Outcome((), torch.zeros(1, device=self.flags.all.device))
        return Outcome(tuple(self._last), torch.zeros_like(self._last.vector))

    def _compared(self, key: Any, taken: Loss, loss: Any, batch: Any, names: list[str]) -> dict[str, Any]:
        """One of the first steps of its kind: done eagerly too. Where both agree, the replayed one counts, so that a resumed
        run, which captures anew, goes on with the bits of one that was never stopped.
        """
        if bool(self.flags.stopped):
            return self._nothing()
        learner, flags, start = self.learner, self.flags.all.clone(), self._state()
        outcome: dict[str, Any] = learner.step(loss, batch, names)
        after = self._state()
        try:
            step = self._steps.get(key) or self._captured(taken, batch, names)
            step.feed(taken, batch)
            self._put(start)
            self.flags.all.zero_()
            step.replay()
            error = self._difference(step.outcome(), outcome, start[0], after[0])
            if error is not None:
                raise NotCapturable(f"replayed, {error}")
            step.compared += 1
            self._steps[key], self._last = step, step.outcome()
            outcome = self._last
        except Exception as error:  # whatever it is, the eager step is done, and counts
            self._put(after)
            self._steps.pop(key, None)
            what = getattr(taken.function, "__qualname__", str(taken.function))
            self._refuse(key, f"{what} with {rows_of(batch)} rows", f"{type(error).__name__}: {error}")
        finally:
            self.flags.all.copy_(flags)
        return outcome

    def _captured(self, taken: Loss, batch: Any, names: list[str]) -> GradientStep:
        """A step that has been captured; what it was called for meanwhile has changed nothing."""
        step = GradientStep(self.learner, self.flags, taken, batch, names)
        step.feed(taken, batch)
        self.flags.stopped.fill_(1.0)
        step.replay = self.capture(step)
        return step

    def _refuse(self, key: Any, what: str, why: str) -> None:
        if key not in self._refused:
            self._refused.add(key)
            log.warning("gradient steps of %s are not captured as a CUDA graph and run eagerly: %s", what, why)

    def _state(self) -> tuple[Tensor, dict[str, dict[str, Tensor]]]:
        """Copies of the parameters and of the optimizers' moments."""
        moments = {name: map_leaves(torch.clone, each.state()) for name, each in self.learner._optimizers.items()}
        return self.learner.parameters.clone(), moments

    def _put(self, state: tuple[Tensor, dict[str, dict[str, Tensor]]]) -> None:
        self.learner.parameters.copy_(state[0])
        for name, moments in state[1].items():
            self.learner._optimizers[name].load_state(moments)

    def _difference(self, found: Outcome, expected: dict[str, Any], start: Tensor, after: Tensor) -> str | None:
        """What differs by more than rounding from the eager step, in words."""
        off = float((self.learner.parameters - after).norm()) / max(float((after - start).norm()), 1e-30)
        if not off <= STEP_ERROR:
            return f"it is off by {off:.2g} of the step's length"
        for name, value in expected.items():
            mine, theirs = float(found[name]), float(value)
            if not abs(mine - theirs) <= METRIC_ERROR * (1 + abs(theirs)):
                return f"its {name} is {mine:.6g} instead of {theirs:.6g}"
        return None

    def stop(self, where: Any) -> bool:
        """Skip all further steps of this iteration if ``where``, a bool on the device; False where the host must look."""
        if self._refused or not isinstance(where, Tensor):
            return False
        self._marks.append(self.learner.generator.get_state())
        self.flags.stopped.copy_((self.flags.stopped > 0) | where)
        self.flags.passes.add_(self.flags.stopped == 0)
        return True

    def settle(self) -> None:
        """Read what the iteration's steps left; raises NumericalError where one was not finite."""
        found, marks = self.flags.read(), self._marks
        self._marks = []
        self.learner.updates += int(found["steps"])
        if not (math.isfinite(found["length"]) and math.isfinite(found["loss"])):
            raise NumericalError(
                f"a captured gradient step is not finite after {self.learner.updates} updates: norm {found['length']}, loss "
                f"{found['loss']}; nothing was updated from it on and the last checkpoint stands. Lower the learning rate, or "
                "look at the last lines of metrics.jsonl for what grew; --no-graphs names the parameter"
            )
        if found["stopped"]:  # an eager loop would have left there, and drawn no further orders
            self.learner.generator.set_state(marks[int(found["passes"])])


def shape_of(batch: Any) -> tuple[Any, ...]:
    """What has to be equal for a captured step to take a batch; raises NotCapturable where a leaf is no tensor."""
    found = []
    for path, leaf in leaves(batch):
        if not isinstance(leaf, Tensor):
            raise NotCapturable(f"its batch holds a {type(leaf).__name__} at {'/'.join(path)}")
        found.append((path, leaf.shape, leaf.dtype))
    return tuple(found)


def rows_of(batch: Any) -> int:
    """How many steps, or segments, a batch holds."""
    return int(batch.advantage.shape[-1]) if hasattr(batch, "advantage") else 0

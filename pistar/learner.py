"""The one place where parameters move.

A learner owns a policy's parameters as one flat vector, in named *parts* (actor, critic, ...), each with its own optimizer.
Gradient steps are `descend`, running averages `track`, trust-region steps `set`. One flat vector makes norms, clipping and
the optimizer's arithmetic one operation each instead of one per layer, and lets a step be undone or shared as a whole.

Where the policy and the loss are of a kind that the native kernels know, they compute the gradient, and on a CPU Adam's step
too; what they do not know is differentiated by torch. On CUDA, steps are captured as graphs (`pistar.graphs`). None of this
changes what a caller sees, but that a captured step's numbers are tensors, which the host has not waited for.

A gradient that is not finite is never applied: the run ends with NumericalError and the last good checkpoint stands.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pistar import closed_form, optimizers
from pistar.errors import NumericalError, UnknownName, UsageError
from pistar.graphs.capture import Capture
from pistar.graphs.gradient_steps import GradientSteps
from pistar.kernels import network
from pistar.kernels.library import library
from pistar.policy import Policy
from pistar.rollout import Batch

Scalar = Tensor | float
LossFunction = Callable[[Policy, Any], tuple[Tensor, dict[str, Tensor]]]
Differentiated = tuple[Scalar, Mapping[str, Scalar]]


class Learner:
    """Owns the parameters of ``policy`` and the random stream of minibatches."""

    def __init__(
        self,
        policy: Policy,
        *,
        learning_rate: float = 3e-4,
        optimizer: Literal["adam", "sgd"] = "adam",
        adam_epsilon: float = 1e-8,
        max_gradient_norm: float = 0.0,
        seed: int = 0,
        threads: int = 1,
        capture: Capture | None = None,
    ) -> None:
        self.policy = policy
        self.max_gradient_norm = max_gradient_norm
        self.updates = 0  # gradient steps so far
        self.slices: dict[str, slice] = {}
        self._parts = policy.parts()
        _require_cover(policy, self._parts)
        self.parameters, self.gradient = self._flatten()
        self.generator = torch.Generator(device=self.parameters.device).manual_seed(seed)
        self._optimizers = {
            name: optimizers.make(
                optimizer,
                self.parameters[self.slices[name]],
                self.gradient[self.slices[name]],
                rate=learning_rate,
                epsilon=adam_epsilon,
                capturable=capture is not None,
            )
            for name, parameters in self._parts.items()
            if any(parameter.requires_grad for parameter in parameters)
        }
        self._network = network.of(policy)
        if self._network is not None:
            self._network.threads = threads
        on_cpu = self.parameters.dtype == torch.float32 and self.parameters.device.type == "cpu"
        self._native = library() if on_cpu else None
        self._graphs = None if capture is None else GradientSteps(self, capture)

    @property
    def native(self) -> bool:
        """Whether the policy is of a build whose gradients the kernels know."""
        return self._network is not None

    def _flatten(self) -> tuple[Tensor, Tensor]:
        """Move every parameter into one vector; parameters and their gradients become views of it."""
        every = [parameter for part in self._parts.values() for parameter in part]
        flat = torch.cat([parameter.detach().flatten() for parameter in every])
        gradient = torch.zeros_like(flat)
        offset = 0
        for name, parameters in self._parts.items():
            start = offset
            for parameter in parameters:
                end = offset + parameter.numel()
                parameter.data = flat[offset:end].view_as(parameter)
                if parameter.requires_grad:
                    parameter.grad = gradient[offset:end].view_as(parameter)
                offset = end
            self.slices[name] = slice(start, offset)
        return flat, gradient

    def learning_rates(self) -> dict[str, float]:
        """The step size of every part that is trained."""
        return {name: optimizer.rate for name, optimizer in self._optimizers.items()}

    def set_learning_rate(self, rate: float, part: str | None = None) -> None:
        """The step size from now on, of one part or of all. Raises UnknownName for a part that is not trained."""
        if part is not None and part not in self._optimizers:
            raise UnknownName("part of the learner", part, self._optimizers)
        for name, optimizer in self._optimizers.items():
            if part in (None, name):
                optimizer.rate = rate

    def vector(self, part: str) -> Tensor:
        """The parameters of a part as one vector: a view that moves with them."""
        return self.parameters[self._slice(part)]

    def set(self, part: str, vector: Tensor) -> None:
        """Replace a part's parameters; raises NumericalError, with nothing changed, where the new ones are not finite."""
        if not bool(torch.isfinite(vector).all()):
            raise NumericalError(
                f"new parameters of the {part} are not finite after {self.updates} updates; nothing was updated and the last "
                "checkpoint stands. Lower the step, or raise the damping where there is one"
            )
        self.vector(part).copy_(vector)

    def track(self, target: str, source: str, rate: float = 1.0) -> None:
        """Target ← target + rate · (source − target): Polyak averaging, or a copy at rate 1."""
        self.vector(target).lerp_(self.vector(source), rate)

    def differentiate(self, loss: LossFunction, batch: Any) -> Differentiated:
        """Leave ∇loss in ``gradient``; returns the loss and its metrics, detached.

        By the kernels where they know the gradient of ``functools.partial(algorithm.loss, ...)`` (`pistar.closed_form`).
        """
        if self._network is not None:
            form = closed_form.of(loss)
            if form is not None and self._network.takes(batch):
                return self._network.gradient(self.parameters, self.gradient, batch, form)
        self.gradient.zero_()
        value, metrics = loss(self.policy, batch)
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach(), metrics

    def slope(self, loss: LossFunction, batch: Batch | Any, part: str) -> tuple[Tensor, dict[str, Scalar]]:
        """∇loss of one part as a vector of its own, and the loss's metrics, for steps of one's own by ``set``.

        Raises NumericalError where the loss or that gradient is not finite.
        """
        value, metrics = self.differentiate(loss, batch)
        length = self._length([part])
        if not (math.isfinite(length) and math.isfinite(float(value))):
            raise NumericalError(self._blame(float(value), length))
        return self.gradient[self._slice(part)].clone(), dict(metrics)

    def descend(self, loss: LossFunction, batch: Batch | Any, parts: Iterable[str] | None = None) -> dict[str, Scalar]:
        """One optimizer step on ``loss(policy, batch)`` for ``parts`` (default: all that are trained).

        Returns the loss's metrics and ``gradient_norm``, before clipping. Raises NumericalError, with nothing changed, where
        the loss or the gradient is not finite; of captured steps `settle` does.
        """
        names = list(self._optimizers if parts is None else parts)
        outcome = None if self._graphs is None else self._graphs.descend(loss, batch, names)
        return self.step(loss, batch, names) if outcome is None else outcome

    def step(self, loss: LossFunction, batch: Batch | Any, names: list[str]) -> dict[str, Scalar]:
        """`descend`, at once."""
        value, metrics = self.differentiate(loss, batch)
        length = self._length(names)
        # A loss can be infinite where its gradient is clipped and finite (Huber's error): that is no step to take either.
        if not (math.isfinite(length) and math.isfinite(float(value))):
            raise NumericalError(self._blame(float(value), length))
        too_long = 0.0 < self.max_gradient_norm < length
        for name in names:
            self._optimizers[name].step(self.max_gradient_norm / (length + 1e-6) if too_long else 1.0)
        self.updates += 1
        return {**metrics, "gradient_norm": length}

    def stop(self, where: Any) -> bool:
        """Whether a loop over gradient steps should be left, as ``where`` (a bool, or a tensor of one) says.

        Where steps are captured, the answer is False without a look: if ``where``, those that follow in this iteration change
        nothing and count for nothing.
        """
        if self._graphs is not None and self._graphs.stop(where):
            return False
        return bool(where)

    def settle(self) -> None:
        """The end of an iteration: learn what captured steps have come to; raises NumericalError as `descend` does."""
        if self._graphs is not None:
            self._graphs.settle()

    def share(self, names: list[str]) -> Tensor:
        """The gradient of some parts as one vector."""
        whole = len(names) == len(self.slices)
        return self.gradient if whole else torch.cat([self.gradient[self._slice(name)] for name in names])

    def _length(self, names: list[str]) -> float:
        """Euclidean norm of the gradient of some parts."""
        gradient = self.share(names)
        if self._native is not None:
            return float(self._native.norm(gradient.numel(), gradient.data_ptr()))
        return float(torch.linalg.vector_norm(gradient))

    def _blame(self, value: float, length: float) -> str:
        bad = [
            name
            for name, parameter in self.policy.named_parameters()
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all())
        ]
        what, where = "gradient", "none: it overflowed in the norm"
        if math.isfinite(length):
            what, where = "loss", "none: its gradient is finite"
        return (
            f"the {what} is not finite after {self.updates} updates: norm {length}, loss {value}, "
            f"first in {bad[0] if bad else where}; nothing was updated and the last checkpoint stands. "
            "Lower the learning rate, or look at the last lines of metrics.jsonl for what grew"
        )

    def _slice(self, part: str) -> slice:
        if part not in self.slices:
            raise UnknownName("part of the learner", part, self.slices)
        return self.slices[part]

    def state(self) -> dict[str, Any]:
        """Everything that changes: parameters, buffers, optimizer moments, random stream, counter.

        Raises NumericalError where a step has made a parameter infinite: such a state must never replace a good one.
        """
        self.policy.require_finite()
        moments = {name: optimizer.state() for name, optimizer in self._optimizers.items()}
        return {
            "parameters": self.parameters,
            "buffers": {name.replace(".", "/"): buffer for name, buffer in self.policy.named_buffers()},
            "moments": moments,
            "generator": self.generator.get_state(),
            "updates": self.updates,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        self.parameters.copy_(state["parameters"])
        buffers = self.policy.constants() | state["buffers"]
        for name, buffer in self.policy.named_buffers():
            buffer.copy_(buffers[name.replace(".", "/")])
        for name, optimizer in self._optimizers.items():
            saved = state["moments"].get(name, {})
            if saved:
                optimizer.load_state(saved)
        self.generator.set_state(state["generator"])
        self.updates = int(state["updates"])


def _require_cover(policy: Policy, parts: dict[str, list[nn.Parameter]]) -> None:
    """Raise UsageError where a parameter is in no part, and would silently never be learned, or in two."""
    counts = Counter(id(parameter) for part in parts.values() for parameter in part)
    for name, parameter in policy.named_parameters():
        if counts[id(parameter)] != 1:
            raise UsageError(
                f"{type(policy).__name__}.parts() must hold every parameter exactly once, but {name} is in "
                f"{counts[id(parameter)]} of its parts ({', '.join(parts)}); change parts()"
            )

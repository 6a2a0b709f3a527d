"""How a gradient becomes a step: one optimizer for each part of a learner's flat parameters.

Adam runs by the native kernel on a CPU and by torch elsewhere, on moments of the same names: a checkpoint does not tell
which. Torch's optimizers are made only where they are used, since that alone imports for two seconds. Where gradient steps
are to be replayed as CUDA graphs, what an optimizer is told lies on the device too.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from pistar.kernels.library import library


class Optimizer(ABC):
    """Steps of one part; ``parameters`` and ``gradient`` [N] are views that it shares with the learner."""

    def __init__(self, parameters: Tensor, gradient: Tensor, rate: float) -> None:
        self.parameters, self.gradient, self.rate = parameters, gradient, rate

    @abstractmethod
    def step(self, scale: float) -> None:
        """Move the parameters against ``scale`` times the gradient."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """The moments; empty before the first step."""

    @abstractmethod
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state``."""


class NativeAdam(Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1, β = 0.9, 0.999) by the kernel."""

    def __init__(self, native: ctypes.CDLL, parameters: Tensor, gradient: Tensor, rate: float, epsilon: float) -> None:
        super().__init__(parameters, gradient, rate)
        self.native, self.epsilon = native, epsilon
        self._steps = 0
        self._mean, self._square = torch.zeros_like(parameters), torch.zeros_like(parameters)

    def step(self, scale: float) -> None:
        """One call."""
        self._steps += 1
        parameters, gradient, mean, square = (
            x.data_ptr() for x in (self.parameters, self.gradient, self._mean, self._square)
        )
        count = self.parameters.numel()
        self.native.adam(count, parameters, gradient, scale, mean, square, self.rate, self._steps, self.epsilon)

    def state(self) -> dict[str, Tensor]:
        """As torch's Adam keeps it."""
        if not self._steps:
            return {}
        return {"step": torch.tensor(float(self._steps)), "exp_avg": self._mean, "exp_avg_sq": self._square}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue."""
        self._steps = int(state["step"])
        self._mean.copy_(state["exp_avg"])
        self._square.copy_(state["exp_avg_sq"])


class TorchOptimizer(Optimizer):
    """Torch's own Adam or gradient descent."""

    def __init__(
        self, kind: Literal["adam", "sgd"], parameters: Tensor, gradient: Tensor, rate: float, epsilon: float
    ) -> None:
        super().__init__(parameters, gradient, rate)
        parameters.grad = gradient
        self._optimizer: torch.optim.Optimizer
        if kind == "adam":
            self._optimizer = torch.optim.Adam([parameters], rate, eps=epsilon, fused=True)
        else:
            self._optimizer = torch.optim.SGD([parameters], rate)

    def step(self, scale: float) -> None:
        """Scale the gradient in place, then step."""
        if scale != 1.0:
            self.gradient.mul_(scale)
        self._optimizer.param_groups[0]["lr"] = self.rate
        self._optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Torch's names."""
        found: dict[str, Any] = self._optimizer.state.get(self.parameters, {})
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue."""
        place = self.parameters.device  # a checkpoint's tensors lie on the CPU
        self._optimizer.state[self.parameters] = {name: value.to(place, copy=True) for name, value in state.items()}


class CapturableOptimizer(Optimizer):
    """Torch's Adam, or gradient descent, whose rate, whose scale and whether to step at all are tensors on the device.

    Its own tensors never change their places, so that a graph which was captured with them stays right.
    """

    def __init__(
        self, kind: Literal["adam", "sgd"], parameters: Tensor, gradient: Tensor, rate: float, epsilon: float
    ) -> None:
        super().__init__(parameters, gradient, rate)
        parameters.grad = gradient
        self._rate, self._told = torch.full((), rate, dtype=torch.float32, device=parameters.device), rate
        self._adam: Any = None
        if kind == "adam":
            self._adam = torch.optim.Adam([parameters], rate, eps=epsilon, fused=True, capturable=True)
            self._adam.param_groups[0]["lr"] = self._rate

    def tell(self) -> None:
        """Put the rate where steps read it; before a step, and not a part of what is captured."""
        if self.rate != self._told:
            self._rate.fill_(self.rate)
            self._told = self.rate

    def step(self, scale: float) -> None:
        """As ever."""
        self.tell()
        number = torch.zeros_like(self._rate)
        self.step_unless(number, number + 1.0 / scale)

    def step_unless(self, skip: Tensor, divisor: Tensor) -> None:
        """Divide the gradient in place and step; where ``skip`` is 1, parameters, moments and step count stay as they are.

        Both are float32 scalars: what torch's fused kernels take for mixed precision.
        """
        if self._adam is None:
            self.gradient.div_(divisor)
            self.parameters.sub_((self._rate * self.gradient).masked_fill(skip > 0, 0.0))
            return
        self._adam.grad_scale, self._adam.found_inf = divisor, skip
        self._adam.step()

    def state(self) -> dict[str, Tensor]:
        """Torch's names."""
        return {} if self._adam is None else dict(self._adam.state.get(self.parameters, {}))

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue; nothing is what there was before the first step."""
        if self._adam is None:
            return
        moments = self._adam.state[self.parameters]
        for name, value in state.items():
            moments.setdefault(name, value.to(self.parameters.device, copy=True)).copy_(value)
        for name in moments.keys() - state.keys():
            moments[name].zero_()


def make(
    kind: Literal["adam", "sgd"],
    parameters: Tensor,
    gradient: Tensor,
    *,
    rate: float,
    epsilon: float,
    capturable: bool = False,
) -> Optimizer:
    """The optimizer of a part."""
    if capturable:
        return CapturableOptimizer(kind, parameters, gradient, rate, epsilon)
    native = None
    if kind == "adam" and parameters.dtype == torch.float32 and parameters.device.type == "cpu":
        native = library()
    if native is not None:
        return NativeAdam(native, parameters, gradient, rate, epsilon)
    return TorchOptimizer(kind, parameters, gradient, rate, epsilon)

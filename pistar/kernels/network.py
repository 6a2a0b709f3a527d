"""A dense actor-critic in the kernels: acting, and the gradients of a policy that `fits`.

It keeps packed weights and one block's vectors, never parameters: those stay the policy's, in the order of its parts
(actor tower, the head's log σ, critic tower), as the learner's flat vector has them.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import torch
from torch import Tensor

from pistar import heads, networks
from pistar.closed_form import ClosedForm
from pistar.kernels.library import Loss, Metrics, Minibatch, library
from pistar.kernels.tower import ACTIVATIONS
from pistar.policy import ActorCritic, Policy
from pistar.rollout import Batch

OVERRIDABLE = {"outputs", "value", "evaluate", "act"}  # where an instance replaces one, torch must do the work
LEAST_FOR_TWO = 128  # rows of a minibatch that are worth a second thread
SURROGATES = {"score": 0, "clipped": 1, "none": 2}


def fits(policy: Policy) -> bool:
    """Whether the kernels do what this policy does: exact classes only, since a subclass may do anything else."""
    return (
        type(policy) is ActorCritic
        and not OVERRIDABLE & vars(policy).keys()
        and type(policy.encoder) is networks.FlatEncoder
        and policy.encoder.plain
        and type(policy.actor) is networks.Tower
        and (policy.critic is None or type(policy.critic) is networks.Tower)
        and (
            type(policy.head) is heads.CategoricalHead
            or (type(policy.head) is heads.GaussianHead and not policy.head.squash)
        )
        and all(type(tower.activation) in ACTIVATIONS for tower in towers(policy))
        and all(tower.precision is torch.float32 for tower in towers(policy))
        and len({ACTIVATIONS[type(tower.activation)] for tower in towers(policy)}) == 1
        and all(p.dtype == torch.float32 and p.device.type == "cpu" and p.requires_grad for p in policy.parameters())
        and not any(module._forward_hooks or module._forward_pre_hooks for module in policy.modules())
    )


def towers(policy: ActorCritic) -> list[Any]:
    """Actor and, where there is one, critic."""
    return [policy.actor] if policy.critic is None else [policy.actor, policy.critic]


class Network:
    """Made for one policy; `of` makes it where kernels and policy allow."""

    def __init__(self, native: ctypes.CDLL, policy: ActorCritic) -> None:
        self.native, self.policy = native, policy
        self.gaussian = type(policy.head) is heads.GaussianHead
        actor: Any = policy.actor
        critic: Any = policy.critic
        numbers = [sum(p.numel() for p in part.parameters()) for part in (actor, policy.head)]
        sizes = (ctypes.c_int * len(actor.sizes))(*actor.sizes)
        critic_sizes = (ctypes.c_int * len(critic.sizes))(*critic.sizes) if critic is not None else (ctypes.c_int * 1)()
        handle = native.network_new(
            int(self.gaussian),
            ACTIVATIONS[type(actor.activation)],
            len(actor.sizes) - 1,
            sizes,
            0 if critic is None else len(critic.sizes) - 1,
            critic_sizes,
            0,
            sum(numbers),
            numbers[0],
            heads.LOWEST_LOG_STD,
            heads.HIGHEST_LOG_STD,
        )
        if not handle:
            raise MemoryError("no memory for the network's packed weights")
        self.handle = handle
        weakref.finalize(self, native.network_free, handle)
        self.inputs, self.outputs = int(actor.sizes[0]), int(actor.sizes[-1])
        if self.gaussian:
            head: Any = policy.head
            box = head.box
            native.network_box(handle, *(x.data_ptr() for x in (box.centre, box.half_range, box.low, box.high)))
        self.threads = 1  # that a gradient may take; no bit depends on it
        self._batch, self._loss, self._metrics = Minibatch(), Loss(), Metrics()
        self._references = tuple(ctypes.addressof(x) for x in (self._batch, self._loss, self._metrics))
        self._own = list(policy.parameters())
        self._parameters = torch.zeros(0)

    def normalize(self) -> None:
        """Take over the normaliser as it now is."""
        normalizer: Any = self.policy.encoder.normalizer
        if normalizer is not None:
            self.native.network_normalize(
                self.handle, normalizer.shift.data_ptr(), normalizer.scale.data_ptr(), normalizer.bound.data_ptr()
            )

    def take(self) -> None:
        """Take over parameters and normaliser, for acting until the next call."""
        parts = self.policy.parts().values()
        self._parameters = torch.cat([p.detach().flatten() for part in parts for p in part])
        self.normalize()
        self.native.network_take(self.handle, self._parameters.data_ptr())

    def takes(self, batch: Any) -> bool:
        """Whether a minibatch is of the kind that `gradient` reads."""
        if OVERRIDABLE & vars(self.policy).keys() or not all(p.requires_grad for p in self._own):
            return False  # changed since it was found to fit
        if type(batch) is not Batch or type(batch.observation) is not Tensor or type(batch.action) is not Tensor:
            return False
        rows = batch.advantage.shape[0]
        action = ((rows, self.outputs), torch.float32) if self.gaussian else ((rows,), torch.int64)
        vectors = [batch.log_prob, batch.advantage, batch.target, *([] if batch.weight is None else [batch.weight])]
        return (
            rows > 0
            and self.policy.critic is not None
            and batch.observation.shape == (rows, self.inputs)
            and batch.observation.dtype == torch.float32
            and (batch.action.shape, batch.action.dtype) == action
            and all(x.shape == (rows,) and x.dtype == torch.float32 for x in vectors)
            and all(x.is_contiguous() for x in (batch.observation, batch.action, *vectors))
        )

    def gradient(
        self, parameters: Tensor, gradient: Tensor, batch: Batch, form: ClosedForm
    ) -> tuple[float, dict[str, Any]]:
        """Leave the gradient of ``form`` over ``batch`` in ``gradient``; returns the loss and its metrics.

        ``parameters`` and ``gradient`` are flat, in the order of the policy's parts.
        """
        self.normalize()
        fields, loss, metrics = self._batch, self._loss, self._metrics
        fields.rows = batch.advantage.shape[0]
        fields.observation, fields.action = batch.observation.data_ptr(), batch.action.data_ptr()
        fields.log_prob, fields.advantage = batch.log_prob.data_ptr(), batch.advantage.data_ptr()
        fields.target, fields.weight = (
            batch.target.data_ptr(),
            None if batch.weight is None else batch.weight.data_ptr(),
        )
        loss.surrogate, loss.standardize = SURROGATES[form.surrogate], form.normalize_advantages
        loss.threads = 1 if fields.rows < LEAST_FOR_TWO else self.threads
        loss.clip, loss.entropy_weight, loss.value_weight = form.clip, form.entropy_weight, form.value_weight
        self.native.network_gradient(
            self.handle, parameters.data_ptr(), *self._references[:2], gradient.data_ptr(), self._references[2]
        )
        if form.surrogate == "none":
            return metrics.loss, {"value_error": metrics.value_error}
        found = {"entropy": metrics.entropy, "value_error": metrics.value_error}
        if form.surrogate == "score":
            return metrics.loss, {"score": metrics.surrogate, **found}
        return metrics.loss, {
            "surrogate": metrics.surrogate,
            **found,
            "kl": metrics.kl,
            "clip_fraction": metrics.clip_fraction,
        }


def of(policy: Policy) -> Network | None:
    """A network of the kernels for this policy, or None where torch must do its work."""
    if not fits(policy):
        return None
    native = library()
    return None if native is None else Network(native, policy)  # type: ignore[arg-type] # fits has looked

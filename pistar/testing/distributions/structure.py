"""Rules that hold exactly: shapes, determinism, the way to the environment and back, masks."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces

from pistar.distributions import Distribution
from pistar.heads import Head
from pistar.policy import as_numpy
from pistar.testing.distributions.rules import violate
from pistar.testing.distributions.trial import Trial, detached, equal, finite
from pistar.tree import leaves, map_leaves

SHAPES = ((), (4,), (2, 3), (0,))


def check_interface(trial: Trial) -> None:
    """Has every result the shape of the batch, and the precision of the outputs?"""
    head = trial.family(trial.space)
    if not isinstance(head, Head):
        violate("interface", f"the family returned a {type(head).__name__}, which is no pistar.heads.Head")
    for dtype in (torch.float32, torch.float64):
        head = trial.head(dtype)
        for shape in SHAPES:
            outputs = trial.outputs(head, shape, dtype=dtype)
            distribution, action = trial.drawn(head, outputs)
            if not isinstance(distribution, Distribution):
                violate("interface", f"forward returned a {type(distribution).__name__}, which is no Distribution")
            mode = detached(distribution.mode())
            for (path, one), (other_path, other) in zip(leaves(action), leaves(mode), strict=True):
                if (path, one.shape, one.dtype) != (other_path, other.shape, other.dtype):
                    violate(
                        "interface",
                        f"sample gives {one.dtype} {tuple(one.shape)}, mode {other.dtype} {tuple(other.shape)}",
                    )
                if one.shape[: len(shape)] != shape:
                    violate("interface", f"outputs of batch shape {shape} gave an action of shape {tuple(one.shape)}")
            results = {"log_prob": distribution.log_prob(action), "entropy": distribution.entropy()}
            for name, result in {**results, "kl": distribution.kl(head(outputs))}.items():
                if result.shape != shape or result.dtype != dtype:
                    violate(
                        "interface",
                        f"{name} is {result.dtype} of shape {tuple(result.shape)}, expected {dtype} of shape {shape}",
                    )


def check_weights(trial: Trial) -> None:
    """Is a head what its weights are, with nothing drawn when it is made?"""
    one, other = trial.family(trial.space), trial.family(trial.space)
    if not equal(dict(one.state_dict()), dict(other.state_dict())):
        violate("weights", "two heads made alike differ; start from constants, not from torch's global random stream")
    moved = trial.head(torch.float32)
    one.load_state_dict(moved.state_dict())
    outputs = trial.outputs(moved, (5,), dtype=torch.float32)
    distribution, action = trial.drawn(moved, outputs)
    if not torch.equal(one(outputs).log_prob(action), distribution.log_prob(action)):
        violate(
            "weights", "a head that was given another's state gives other log-probabilities; register what it needs"
        )


def check_rows(trial: Trial) -> None:
    """Does every row of a batch stand for itself?"""
    head = trial.head()
    outputs = trial.outputs(head, (6,))
    distribution, action = trial.drawn(head, outputs)
    other = head(outputs.flip(0))
    for i in range(6):
        alone, mine = head(outputs[i]), map_leaves(lambda x, i=i: x[i], action)
        pairs = {
            "log_prob": (alone.log_prob(mine), distribution.log_prob(action)[i]),
            "entropy": (alone.entropy(), distribution.entropy()[i]),
            "kl": (alone.kl(head(outputs[5 - i])), distribution.kl(other)[i]),
        }
        for name, (found, expected) in pairs.items():
            found, expected = found.detach(), expected.detach()
            if not torch.allclose(found, expected, rtol=1e-9, atol=1e-9):
                violate("rows", f"{name} of row {i} is {float(found)} alone and {float(expected)} within a batch of 6")


def check_batch(trial: Trial) -> None:
    """Can what acted be kept, cut up with the batch, and compared with?"""
    head = trial.head()
    outputs = trial.outputs(head, (6,)).requires_grad_()
    distribution, action = trial.drawn(head, outputs)
    kept = distribution.detached((6,))
    for path, leaf in leaves(kept):
        if leaf.requires_grad or leaf.shape[:1] != (6,):
            violate(
                "batch",
                f"detached keeps {'/'.join(path)} of shape {tuple(leaf.shape)}, expected [6, ...] and no gradient",
            )
    some = torch.tensor([4, 1])
    few = map_leaves(lambda x: x.index_select(0, some), kept)
    chosen = map_leaves(lambda x: x[some], action)
    pairs = (
        (few.log_prob(chosen), distribution.log_prob(action)[some]),
        (few.kl(head(outputs[some])), outputs.new_zeros(2)),
    )
    if not all(torch.allclose(found, expected, rtol=1e-9, atol=1e-9) for found, expected in pairs):
        violate("batch", "rows of what detached gives are other distributions than those of the rows")


def check_noise(trial: Trial) -> None:
    """Is sampling a function of the noise?"""
    head = trial.head()
    outputs, noise = trial.outputs(head, (5, 3)), trial.noise(head, (5, 3))
    if not equal(noise, trial.noise(head, (5, 3))):
        violate("noise", "two draws from equal generators differ; draw from the generator only")
    distribution = head(outputs)
    together = detached(distribution.sample(noise))
    if not equal(together, detached(distribution.sample(noise))):
        violate("noise", "the same noise gave two different actions")
    for t in range(5):
        alone = detached(head(outputs[t]).sample(map_leaves(lambda x, t=t: x[t], noise)))
        if not all(
            torch.allclose(x.double(), y[t].double())
            for (_, x), (_, y) in zip(leaves(alone), leaves(together), strict=True)
        ):
            violate("noise", f"step {t} of a draw for 5 × 3 actions, replayed by itself, gave other actions")


def check_environment_actions(trial: Trial) -> None:
    """Are actions elements of the space, and can they be got back from there?"""
    head = trial.head(torch.float32)
    outputs = 3 * trial.outputs(head, (64,), dtype=torch.float32)
    distribution, sample = trial.drawn(head, outputs)
    for action in (sample, detached(distribution.mode())):
        batch = as_numpy(trial.space, head.to_environment(action))
        for i in range(64):
            element = map_leaves(lambda x, i=i: np.asarray(x[i]), batch)
            if not trial.space.contains(element):
                violate("environment", f"to_environment gave {element}, which is not in {trial.space}")
    there = trial.samples_of_the_space(32)
    again = head.to_environment(head.from_environment(there))
    for (path, found), (_, truth) in zip(leaves(again), leaves(there), strict=True):
        scale = max(1.0, float(truth.double().abs().max()))
        if found.shape != truth.shape or not torch.allclose(
            found.double(), truth.double(), rtol=1e-4, atol=1e-4 * scale
        ):
            violate(
                "environment", f"{'/'.join(path) or 'an action'} does not come back through from_environment as it was"
            )


def check_masks(trial: Trial) -> None:
    """Is a forbidden choice left out, and nothing else?"""
    head = trial.head()
    if not head.choices:
        return
    outputs = trial.outputs(head, (200,)).requires_grad_()
    mask = trial.mask(head, (200,))
    if not torch.equal(head.forbid(outputs, map_leaves(torch.ones_like, mask)), outputs):
        violate("masks", "a mask that forbids nothing changes the outputs")
    masked = head.forbid(outputs, mask)
    changed = masked != outputs
    if not bool((masked[changed] == -torch.inf).all()):
        violate("masks", "forbid changes outputs to something other than −inf")
    allowed = sum(int((leaf > 0).sum()) for _, leaf in leaves(mask))
    if not changed.any() or int(changed.sum()) > sum(leaf.numel() for _, leaf in leaves(mask)) - allowed:
        violate("masks", f"{int(changed.sum())} outputs were forbidden by a mask with {allowed} entries that allow")
    distribution, action = trial.drawn(head, masked)
    total = distribution.log_prob(action) + distribution.entropy() + distribution.kl(head(masked.detach()))
    (gradient,) = torch.autograd.grad(total.sum(), outputs)
    if not finite((total.detach(), gradient)):
        violate("masks", "a masked distribution gave a log-probability, entropy, kl or gradient that is not finite")


def is_box(space: spaces.Space) -> bool:  # type: ignore[type-arg]
    """A Box of floats, whose dimensions can be looked at one by one."""
    return isinstance(space, spaces.Box) and space.dtype.kind == "f"


CHECKS = (check_interface, check_weights, check_rows, check_noise, check_environment_actions, check_masks)

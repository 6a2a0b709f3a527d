"""Steps that are launched as a whole: on CUDA, a step of acting and a gradient step are each captured once and then replayed.

An eager step of a small network launches some dozens of kernels, each of which costs the host more time than the GPU. A
CUDA graph launches all of them in one call; what it may hold decides how the steps here are written: over tensors that stay
where they are, with static shapes, without a look at what the device has computed. They are plain functions, and `Capture`
is the one place that knows CUDA, so that on a CPU tests replay them by other means.

- `gradient_steps`: the learner's `descend`. Clipping, the refusal of what is not finite and stopping at a KL divergence are
  decided on the device; the learner reads what came of it once an iteration (`Learner.settle`).
- `acting_steps`: the collector's step, of policies without a memory in worlds that can say what they carry
  (`Environment.carried`). Noise is drawn for the whole rollout before, as ever, so that no generator is used inside.

Nothing depends on it. What cannot be captured, or comes out otherwise than the eager step from the same state, is done eagerly
from then on, with one line in the log. None of this has been run on a GPU so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pistar.graphs.capture import Capture, cuda, log

if TYPE_CHECKING:
    from pistar.experiment import Training

__all__ = ["Capture", "capture_for", "log"]


def capture_for(training: Training) -> Capture | None:
    """How a run captures steps; None where it does not."""
    if training.device != "cuda" or not training.graphs:
        return None
    if training.lag > 0:
        log.info("nothing is captured as CUDA graphs: with a lag, a thread collects beside the update")
        return None
    return cuda

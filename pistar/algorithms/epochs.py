"""Passes of minibatch steps over one rollout, for losses of any kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pistar.algorithms.algorithm import Metrics
from pistar.algorithms.metrics import MetricsMean

if TYPE_CHECKING:
    from pistar.learner import Learner
    from pistar.rollout import Batch


def descend(
    learner: Learner,
    loss: Callable[..., Any],
    batch: Batch,
    *,
    epochs: int,
    minibatch: int,
    anew: Callable[[], Batch] | None = None,
    parts: Iterable[str] | None = None,
) -> Metrics:
    """One optimizer step on every minibatch, ``epochs`` times over; the mean of each metric over the steps.

    ``anew`` gives the batch of every epoch but the first, where it should not stay as it is.
    """
    metrics = MetricsMean()
    for epoch in range(epochs):
        if epoch > 0 and anew is not None:
            batch = anew()
        for some in batch.minibatches(minibatch, learner.generator):
            metrics.add(learner.descend(loss, some, parts=parts))
    return metrics.result()

"""How fast a Gymnasium environment steps here, and how many worker processes would pay for it.

Worker processes never change what is learned, so a run may choose their number by a measurement: a moment of random
actions in one environment, beside the time that a step of all lanes spends on talking to workers.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from typing import Any

from pistar.envs import targets

EXCHANGE = 0.2e-3  # seconds that a step of all lanes spends on talking to workers, about
WORTH = 1.3  # times as fast that stepping must become
PART, STEPS, SECONDS = 10, 100, 0.2  # a measurement ends with whichever of the last two comes first


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gain(cost: float, lanes: int, workers: int) -> float:
    """How many times as fast ``lanes`` environments step on so many workers, where a step of one costs ``cost`` seconds."""
    alone = lanes * cost
    return alone / (alone / workers + EXCHANGE)


def measure(target: targets.Target, options: dict[str, Any]) -> float:
    """Seconds that a step costs, resets included, under random actions; raises EnvironmentFailure as a run would.

    The median over parts of the measurement: where the machine is busy, one pause would pass for many slow steps.
    """
    environment = targets.make(target, options)
    try:
        environment.action_space.seed(0)
        environment.reset(seed=0)
        times = [time.perf_counter()]
        while len(times) <= STEPS and times[-1] - times[0] < SECONDS:
            *_, terminated, truncated, _ = environment.step(environment.action_space.sample())
            if terminated or truncated:
                environment.reset()
            times.append(time.perf_counter())
        part = min(PART, len(times) - 1)
        return statistics.median((b - a) / part for a, b in itertools.pairwise(times[::part]))
    finally:
        environment.close()


def best_workers(cost: float, lanes: int, cores: int) -> tuple[int, str]:
    """The number of worker processes, 0 for none, and why."""
    workers = min(cores, lanes)
    told = f"a step costs {1e6 * cost:.3g} µs, {lanes} lanes {1e3 * lanes * cost:.3g} ms, the exchange {1e3 * EXCHANGE:.2g} ms"
    if workers < 2:
        return 0, f"no workers: there is {'one core' if cores < 2 else 'one lane'}"
    faster = gain(cost, lanes, workers)
    if faster < WORTH:
        return 0, f"no workers: they would not pay ({told})"
    return workers, f"{workers} workers, to step about {faster:.2g} times as fast ({told})"

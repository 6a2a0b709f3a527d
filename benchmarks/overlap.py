"""What collecting ahead gains on two cores: PPO on HalfCheetah-v5 without a lag, and with a lag of 1, overlapping.

    taskset -c 0,1 python benchmarks/overlap.py [--iterations 8] [--rounds 3]

8 lanes × 256 steps, one thread each for physics and for learning; sessions alone, without records or evaluations, and
interleaved, so that a change of the machine's speed meets them alike. Prints steps per second of every round, and of one
iteration the milliseconds that were spent waiting for its rollout and learning. On a machine that does anything else
beside, the two threads wait for each other's wake-ups and the gain is smaller.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from contextlib import ExitStack

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pistar.experiment import find_task, resolve
from pistar.session import Session

LANES, HORIZON = 8, 256


def session(hidden: int, lag: int) -> Session:
    table = {
        "algorithm": {"kind": "ppo"},
        "policy": {"kind": "mlp", "hidden": [hidden, hidden]},
        "training": {"lanes": LANES, "horizon": HORIZON, "lag": lag},
    }
    made = Session(resolve(find_task("HalfCheetah-v5"), (table, "the benchmark")))
    made.collector.start(1000)
    for _ in range(2):  # the second rollout is the first that a thread collects
        made.iterate(cut=False)
    return made


def measure(opened: Session, iterations: int) -> tuple[float, float, float]:
    """Steps per second, and milliseconds of an iteration spent on collecting or waiting for it, and on learning."""
    collecting = learning = 0.0
    opened.collector.state()  # waits for what is coming
    began = time.perf_counter()
    for _ in range(iterations):
        start = time.perf_counter()
        rollout = opened.collector.collect(HORIZON)
        collected = time.perf_counter()
        opened.improve(rollout)
        learned = time.perf_counter()
        opened.collector.absorb(rollout)
        collecting, learning = collecting + collected - start, learning + learned - collected
    opened.collector.state()
    steps = LANES * HORIZON * iterations
    return steps / (time.perf_counter() - began), 1e3 * collecting / iterations, 1e3 * learning / iterations


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with ExitStack() as stack:
        opened = {(hidden, lag): session(hidden, lag) for hidden in (64, 256) for lag in (0, 1)}
        for each in opened.values():
            stack.callback(each.close)
        found = {case: [] for case in opened}
        for _ in range(chosen.rounds):
            for case, each in opened.items():
                found[case].append(measure(each, chosen.iterations))
    medians = {case: [statistics.median(column) for column in zip(*rows, strict=True)] for case, rows in found.items()}
    for (hidden, lag), (speed, collecting, learning) in medians.items():
        gain = speed / medians[hidden, 0][0]
        print(
            f"{hidden} × {hidden}, lag {lag}: {speed:8.0f} steps/s  × {gain:.2f}   "
            f"collecting {collecting:5.1f} ms, learning {learning:5.1f} ms"
        )


if __name__ == "__main__":
    main()

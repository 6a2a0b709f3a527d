"""What training adds to physics on MuJoCo, beside the bare matrix products of its update; and what a second core brings.

    python benchmarks/speed/overhead.py [--tasks HalfCheetah-v5 Reacher-v5] [--iterations 20] [--rounds 3] [--core 0]

Per environment step: the wall clock of a whole iteration; the time inside MuJoCo while the same actions are replayed through
the same batch; the update's matrix products alone, by NumPy's BLAS, at the same sizes. The overhead is the first without
the second, and the figure is its ratio to the third. 8 lanes of 256 steps, 10 epochs, minibatches of 512, 64-64 networks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import itertools

import numpy as np
import torch

from pistar import api, training
from pistar.envs.mujoco import MujocoBatch

RESULTS = Path(__file__).parent.parent / "results"
LANES, HORIZON, EPOCHS, MINIBATCH, HIDDEN = 8, 256, 10, 512, 64
STEPS = LANES * HORIZON


def session_of(task: str, threads: int) -> training.Session:
    experiment = api.make_experiment(
        task,
        lanes=LANES,
        horizon=HORIZON,
        threads=threads,
        warm_up=0,
        ppo={"epochs": EPOCHS, "minibatch": MINIBATCH, "recompute_advantages": False, "max_kl": None},
    )
    session = training.Session(experiment)
    torch.set_num_threads(1)  # of torch; the simulator has its own
    session.collector.start()
    for _ in range(3):
        session.iterate(cut=False)
    return session


def whole(session: training.Session, iterations: int) -> float:
    """Seconds a step of everything."""
    began = time.perf_counter()
    for _ in range(iterations):
        session.iterate(cut=False)
    return (time.perf_counter() - began) / iterations / STEPS


def physics(task: str, iterations: int, threads: int) -> float:
    """Seconds a step inside MuJoCo, for actions of a trained stretch replayed through a batch of their own."""
    recording, actions = session_of(task, threads), []
    environment = recording.environment
    assert isinstance(environment, MujocoBatch)
    step, saved = environment.step, environment.save()

    def recorded(action: torch.Tensor) -> Any:
        actions.append(action.clone())
        return step(action)

    environment.step = recorded  # type: ignore[method-assign]
    for _ in range(iterations):
        recording.iterate(cut=False)
    replayed = MujocoBatch(environment.name, LANES, threads=threads, random_elapsed=True)
    replayed.restore(saved)
    taken, advance = 0.0, replayed._batch.step

    class Clocked:
        """The batch, whose steps are clocked."""

        def __getattr__(self, name: str) -> Any:
            return getattr(batch, name)

        def step(self, **keywords: Any) -> None:
            nonlocal taken
            began = time.perf_counter()
            advance(**keywords)
            taken += time.perf_counter() - began

    batch = replayed._batch
    replayed._batch = Clocked()
    for action in actions:
        replayed.step(action)
    return taken / iterations / STEPS


def products(inputs: int, actions: int, rounds: int = 40) -> float:
    """Seconds a step of the matrix products of actor and critic, forwards and backwards, by NumPy."""
    generator = np.random.default_rng(0)

    def drawn(*shape: int) -> Any:
        return generator.standard_normal(shape).astype(np.float32)

    jobs = []
    for sizes in ((inputs, HIDDEN, HIDDEN, actions), (inputs, HIDDEN, HIDDEN, 1)):
        for layer, (i, o) in enumerate(itertools.pairwise(sizes)):
            x, w, dy = drawn(MINIBATCH, i), drawn(i, o), drawn(MINIBATCH, o)
            jobs += [(x, w, np.empty((MINIBATCH, o), np.float32)), (x.T, dy, np.empty((i, o), np.float32))]
            if layer:
                jobs.append((dy, w.T, np.empty((MINIBATCH, i), np.float32)))
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for a, b, out in jobs:
            np.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - began)
    return best * EPOCHS / MINIBATCH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["HalfCheetah-v5", "Reacher-v5"])
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=0)
    chosen = parser.parse_args()
    everything = os.sched_getaffinity(0)
    rows = []
    for task in chosen.tasks:
        rounds = []
        for _ in range(chosen.rounds):
            os.sched_setaffinity(0, {chosen.core})
            session = session_of(task, 1)
            spaces = session.environment.spaces
            assert spaces.observation.shape is not None
            assert spaces.action.shape is not None
            found = {"step": whole(session, chosen.iterations), "physics": physics(task, chosen.iterations, 1)}
            found["products"] = products(spaces.observation.shape[0], spaces.action.shape[0])
            os.sched_setaffinity(0, everything)
            found["two cores"] = whole(session_of(task, 2), chosen.iterations)
            rounds.append(found)
        median = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        ratio = statistics.median((each["step"] - each["physics"]) / each["products"] for each in rounds)
        cores = statistics.median(each["step"] / each["two cores"] for each in rounds)
        rows.append({"task": task, "rounds": rounds, "ratio": ratio, "second core": cores, **median})
    lines = ["# overhead", "", "    python benchmarks/speed/overhead.py", ""]
    lines += ["| task | step | of it physics | update's products | overhead / products | two cores against one |"]
    lines += ["| --- " * 6 + "|"]
    for row in rows:
        times = " | ".join(f"{row[key] * 1e6:.1f} µs" for key in ("step", "physics", "products"))
        lines.append(f"| {row['task']} | {times} | {row['ratio']:.2f} | {row['second core']:.2f} |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "overhead.json").write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "overhead.md").write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()

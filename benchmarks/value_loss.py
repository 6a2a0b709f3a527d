"""Which ways of learning values earn their place: PPO with its defaults, and with each of them changed.

    python benchmarks/value_loss.py [--seeds 3] [--out benchmarks/results]

* `clipped`: the value may move from what it was when acting by at most ε of a scaled reward's unit (as many libraries do);
* `Huber`: the error counts linearly from 1 on;
* `unscaled rewards`: rewards are not divided by the deviation of the return;
* `normalised targets`: targets are brought to mean 0 and deviation 1 by running moments, and values brought back (what PopArt
  does, van Hasselt et al. 2016, without its correction of the last layer), on top of unscaled rewards.

Of every run the mean of its evaluations on the way (20 deterministic episodes each) and the last one of 100 episodes are kept.
Writes value-loss.json and value-loss.md. The algorithms are in this file, since none of them is part of pistar.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import pistar
from pistar import objectives
from pistar.algorithms.ppo import PPO
from pistar.statistics import confidence

STEPS = {"cartpole": 30_000, "arm-reach": 100_000}


@dataclass(frozen=True)
class Clipped(PPO):
    """max((V − R)², (V_old + clip(V − V_old, ±ε) − R)²)."""

    def loss(self, policy: Any, batch: Any, clip: float, entropy_weight: float) -> Any:
        old = batch.target - batch.advantage  # V when the batch was estimated: λ-return minus GAE
        loss, found = super().loss(policy, batch, clip, entropy_weight)
        value = policy.value(batch.observation)
        moved = old + (value - old).clamp(-clip, clip)
        worse = (value - batch.target).square().maximum((moved - batch.target).square())
        plain = objectives.squared_error(value, batch.target, batch.weight)
        return loss + self.value_weight * (objectives.weighted_mean(worse, batch.weight) - plain), found


@dataclass(frozen=True)
class Huber(PPO):
    """|V − R| − ½ from 1 on, (V − R)²/2 before; doubled, so that small errors weigh as they did."""

    def loss(self, policy: Any, batch: Any, clip: float, entropy_weight: float) -> Any:
        loss, found = super().loss(policy, batch, clip, entropy_weight)
        value = policy.value(batch.observation)
        apart = (value - batch.target).abs()
        small = apart.clamp(max=1.0)
        huber = objectives.weighted_mean(small.square() + 2 * (apart - small), batch.weight)
        return loss + self.value_weight * (huber - objectives.squared_error(value, batch.target, batch.weight)), found


@dataclass(frozen=True)
class Normalised(PPO):
    """The critic gives (V − μ)/σ; μ and σ are the algorithm's state, moved after every iteration."""

    def init(self, policy: Any, lanes: int) -> Any:
        return {"mean": 0.0, "deviation": 1.0}

    def improve(self, learner: Any, experience: Any, state: Any, progress: float) -> Any:
        policy, mean, deviation = learner.policy, state["mean"], state["deviation"]
        plain = policy.value
        scaled = Scaled(self, mean, deviation, plain)
        policy.value = lambda observation: plain(observation) * deviation + mean
        try:
            seen = self.estimate(policy, experience).target
            inner = dataclasses.replace(scaled)
            _, metrics = PPO.improve(inner, learner, experience, {}, progress)
        finally:
            del policy.value
        rate = 0.05
        mean = (1 - rate) * mean + rate * float(seen.mean())
        deviation = (1 - rate) * deviation + rate * max(float(seen.std()), 1e-4)
        return {"mean": mean, "deviation": deviation}, metrics


def Scaled(algorithm: PPO, mean: float, deviation: float, plain: Any) -> PPO:
    """PPO whose value error is in units of the deviation."""

    @dataclass(frozen=True)
    class Inner(PPO):
        def loss(self, policy: Any, batch: Any, clip: float, entropy_weight: float) -> Any:
            loss, found = super().loss(policy, batch, clip, entropy_weight)
            now = policy.evaluate(batch.observation, batch.action).value  # not brought back
            wrong = objectives.squared_error(now, batch.target, batch.weight)
            right = objectives.squared_error(now, (batch.target - mean) / deviation, batch.weight)
            return loss + self.value_weight * (right - wrong), found

    return Inner(**{field.name: getattr(algorithm, field.name) for field in dataclasses.fields(algorithm)})


WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "clipped": {"algorithm": "value_loss:Clipped"},
    "Huber": {"algorithm": "value_loss:Huber"},
    "unscaled rewards": {"normalize_rewards": False},
    "normalised targets": {"algorithm": "value_loss:Normalised", "normalize_rewards": False},
}


def run(task: str, way: str, seed: int, place: Path) -> tuple[float, float]:
    """Mean of the evaluations on the way, and the last one."""
    settings: dict[str, Any] = {**WAYS[way], "steps": STEPS[task], "seed": seed, "quiet": True}
    result = pistar.train(task, out=place, **settings)
    lines = [json.loads(line) for line in (place / "evaluations.jsonl").read_text().splitlines()]
    return statistics.mean(line["mean"] for line in lines[:-1]), result.evaluation.mean


def in_words(numbers: list[float]) -> str:
    low, high = confidence(numbers)
    return f"{statistics.mean(numbers):.4g} ± {(high - low) / 2:.2g}"


def table(found: dict[str, Any], seeds: int) -> str:
    lines = [
        "# Value losses",
        "",
        f"`python benchmarks/value_loss.py --seeds {seeds}`: means of {seeds} seeds ± the half-width of their",
    ]
    lines += [
        "95 % interval (Student's t).",
        "",
        "| task | steps | | mean on the way | last |",
        "| --- | --- | --- | --- | --- |",
    ]
    for task, ways in found.items():
        for way, rows in ways.items():
            along, last = (list(column) for column in zip(*rows, strict=True))
            lines.append(f"| {task} | {STEPS[task]:,} | {way} | {in_words(along)} | {in_words(last)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        for task in STEPS:
            for way in WAYS:
                for seed in range(chosen.seeds):
                    place = Path(directory) / f"{task}-{way.replace(' ', '-')}-{seed}"
                    found.setdefault(task, {}).setdefault(way, []).append(run(task, way, seed, place))
                    print(task, way, seed, found[task][way][-1], flush=True)
    (chosen.out / "value-loss.json").write_text(json.dumps(found, indent=1) + "\n")
    (chosen.out / "value-loss.md").write_text(table(found, chosen.seeds))
    print(table(found, chosen.seeds))


if __name__ == "__main__":
    main()

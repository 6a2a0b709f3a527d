"""What a clone is worth: how much of its demonstrator it reaches, and how much sooner PPO is done that begins with it.

    python benchmarks/cloning.py [--seeds 5] [--out benchmarks/results]

arm-reach is shown by the task's PD controller, cartpole by a policy that PPO has trained. For several numbers of episodes
the share of the way from random actions to the demonstrator is measured over 100 episodes; then PPO goes on from the clone of
the most episodes, with the exploration of the start and with the fitted one, beside PPO from scratch, until an evaluation of
20 episodes reaches the threshold. Writes cloning.json and cloning.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pistar
from pistar import demonstrations, recording
from pistar.evaluation import controller, lanes_for, task_of
from pistar.tasks.task import Execution

CASES: dict[str, dict[str, Any]] = {
    "arm-reach": {"numbers": (10, 50, 200), "steps": 800_000, "every": 20_000, "threshold": -20.0},
    "cartpole": {"numbers": (1, 5, 20), "steps": 150_000, "every": 5_000, "threshold": 475.0},
}
WAYS = ("scratch", "initial", "fitted")


def record(task: str, numbers: tuple[int, ...], place: Path) -> tuple[str, float]:
    """Directories of demonstrations, one for each number; what shows them, and its mean return."""
    made = task_of(Path(), task)
    policy = None
    if task == "cartpole":
        settings = {"steps": 200_000, "seed": 100, "evaluation": {"every": 0, "final_episodes": 20}, "quiet": True}
        policy = pistar.train(task, out=place / "expert", **settings).policy
    for number in numbers:
        environment = made.make(lanes_for(made, number), Execution(), training=False)
        choose = controller(policy, True, 0) if policy else made.baselines()["PD controller"](environment, 0)
        episodes = recording.record(environment, choose, number // environment.lanes, 12345)
        demonstrations.write(place / f"demos-{number}", episodes, environment.spaces)
        environment.close()
    if policy is not None:
        return "a policy trained by PPO", pistar.evaluate(policy, task).mean
    return "PD controller", pistar.evaluate(fresh(task, place), task).baselines["PD controller"].mean


def fresh(task: str, place: Path) -> pistar.Policy:
    """Any policy, to have the baselines judged beside it."""
    settings = {"steps": 2_048, "evaluation": {"every": 0, "final_episodes": 1}, "quiet": True}
    return pistar.train(task, out=place / "fresh", **settings).policy


def run(task: str, case: dict[str, Any], way: str, demos: Path | None, seed: int, place: Path) -> dict[str, Any]:
    """Train until the threshold; the steps that took, or None, and how the clone itself does."""
    evaluation = {"every": case["every"], "episodes": 20, "final_episodes": 1}
    settings: dict[str, Any] = {"steps": case["steps"], "seed": seed, "evaluation": evaluation, "quiet": True}
    if demos is not None:
        settings |= {"demonstrations": demos, "cloning": {} if way == "scratch" else {"exploration": way}}

    def done(progress: pistar.Progress) -> bool:
        lines = (place / "evaluations.jsonl").read_text().splitlines() if (place / "evaluations.jsonl").exists() else []
        return bool(lines) and json.loads(lines[-1])["mean"] >= case["threshold"]

    result = pistar.train(task, out=place, on_iteration=done, **settings)
    found: dict[str, Any] = {"steps": result.steps if result.reason == "callback" else None}
    if demos is not None:
        judged = pistar.evaluate(place / "cloned.safetensors", task)
        found |= {"clone": judged.mean, "random": judged.baselines["random"].mean}
        found |= json.loads((place / "cloning.jsonl").read_text().splitlines()[-1])
    return found


def clone_only(task: str, demos: Path, seed: int, place: Path) -> float:
    """The share of the demonstrator's way from random actions that a clone goes (its return, and random's)."""
    settings = {"steps": 1, "seed": seed, "evaluation": {"every": 0, "final_episodes": 1}, "quiet": True}
    pistar.train(task, out=place, demonstrations=demos, **settings)
    judged = pistar.evaluate(place / "cloned.safetensors", task)
    return judged.mean, judged.baselines["random"].mean  # type: ignore[return-value]


def measure(task: str, seeds: int) -> dict[str, Any]:
    case = CASES[task]
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        who, expert = record(task, case["numbers"], place)
        shares: dict[str, list[float]] = {}
        for number in case["numbers"]:
            for seed in range(seeds):
                clone, random = clone_only(task, place / f"demos-{number}", seed, place / f"clone-{number}-{seed}")
                shares.setdefault(str(number), []).append((clone - random) / (expert - random))
        most = place / f"demos-{case['numbers'][-1]}"
        steps: dict[str, list[int | None]] = {}
        for way in WAYS:
            for seed in range(seeds):
                demos = None if way == "scratch" else most
                steps.setdefault(way, []).append(run(task, case, way, demos, seed, place / f"{way}-{seed}")["steps"])
                print(task, way, seed, steps[way][-1], flush=True)
    return {"demonstrator": who, "expert": expert, "threshold": case["threshold"], "shares": shares, "steps": steps}


def table(found: dict[str, Any], seeds: int) -> str:
    lines = [
        "# Cloning",
        "",
        f"`python benchmarks/cloning.py --seeds {seeds}`; medians of {seeds} seeds, and their range.",
        "",
    ]
    lines += [
        "| task | shown by | its return | episodes | share of the way from random to it |",
        "| --- | --- | --- | --- | --- |",
    ]
    for task, row in found.items():
        for number, shares in row["shares"].items():
            share = f"{100 * statistics.median(shares):.0f} % ({100 * min(shares):.0f} to {100 * max(shares):.0f})"
            lines.append(f"| {task} | {row['demonstrator']} | {row['expert']:.4g} | {number} | {share} |")
    lines += ["", "Steps of PPO until the mean of 20 deterministic episodes reaches the threshold:", ""]
    lines += [
        "| task | threshold | from scratch | from the clone | from the clone, fitted exploration |",
        "| --- | --- | --- | --- | --- |",
    ]
    for task, row in found.items():
        cells = [steps_in_words(row["steps"][way], CASES[task]["steps"]) for way in WAYS]
        lines.append(f"| {task} | {row['threshold']:g} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def steps_in_words(steps: list[int | None], most: int) -> str:
    known = sorted(most + 1 if s is None else s for s in steps)
    missed = sum(s is None for s in steps)
    words = [f"> {most:,}" if s > most else f"{s:,}" for s in (known[len(known) // 2], known[0], known[-1])]
    return f"{words[0]} ({words[1]} to {words[2]})" + (f", {missed} of {len(steps)} never" if missed else "")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    found = {task: measure(task, chosen.seeds) for task in CASES}
    (chosen.out / "cloning.json").write_text(json.dumps(found, indent=1) + "\n")
    (chosen.out / "cloning.md").write_text(table(found, chosen.seeds))
    print(table(found, chosen.seeds))


if __name__ == "__main__":
    main()

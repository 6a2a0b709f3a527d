"""What is trained: suites of rows, a row being one setting that several seeds run.

A row's score is one of: the mean of the last 10 of its evaluations (``last-10``), the return of the final deterministic
episodes on fresh seeds (``final``), or the exact fraction of the optimum (``fraction``). Rows stand in one of four columns:

* ``defaults``: the library as installed, one setting for all continuous tasks and one for all discrete ones;
* ``recipe``: what the task's recipe changes of that: lanes, horizon, γ and steps, nothing else (`recipes.check`);
* ``published``: settings that a paper gives for the task, which may change anything;
* ``peer``: another library, in the same protocol.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.learning import recipes

Column = Literal["defaults", "recipe", "published", "peer"]
FAMILY = ("ppo", "trpo", "a2c", "npg", "spo", "ppo-penalty", "ppg", "impala")
LAST = 10  # evaluations that the score "last-10" is the mean of


@dataclass(frozen=True)
class Row:
    """One setting. ``asked`` is the score that it should reach, ``aim`` a better one that is reported beside it."""

    name: str
    arguments: str  # of `pistar train`, or of a peer's script
    score: Literal["last-10", "final", "fraction"]
    asked: float | None = None
    judged_by: Literal["median", "mean", "every"] = "median"  # of the seeds' scores
    task: str = ""  # as tables call it; the rows of a task share a panel of the picture
    algorithm: str = ""
    column: Column = "defaults"
    evaluations: int | None = None  # during training; None: not checked
    aim: float | None = None
    asked_seconds: float | None = None  # at most so many of training for a million steps

    @property
    def command(self) -> str:
        """What was typed for each seed."""
        program = "python benchmarks/learning/sb3_trpo.py" if self.column == "peer" else "pistar train"
        return f"{program} {self.arguments} --seed SEED"

    @property
    def file(self) -> str:
        """The row's name as that of a file or a folder."""
        return self.name.replace(", ", "-").replace(" ", "-").replace("/", "-")

    def matches(self, pattern: str) -> bool:
        """Whether every word of ``pattern`` (``*`` stands for anything) is a word of the name: 'Hopper-v5 ppo'."""
        words = self.name.replace(",", " ").split()
        return all(any(fnmatch.fnmatchcase(word, wanted) for word in words) for wanted in pattern.split())

    def shortened(self, steps: int) -> Row:
        """The same setting for ``steps`` steps, with 12 evaluations of 2 episodes: whether it works, not how well."""
        every = max(1, steps // 12)
        changed = {"--steps": steps, "--evaluation.every": every, "--every": every}
        changed |= dict.fromkeys(("--evaluation.episodes", "--evaluation.final-episodes", "--episodes"), 2)
        words = self.arguments.split()
        for place, word in enumerate(words):
            if word in changed:
                words[place + 1] = str(changed[word])
        return dataclasses.replace(self, arguments=" ".join(words), evaluations=None)


@dataclass(frozen=True)
class Suite:
    """Rows that share a page. ``seeds`` are those that nothing was tuned on."""

    title: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    about: str = ""

    def chosen(self, patterns: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """The rows that match one of the patterns, where there are any, and stand in one of the columns, likewise."""
        return [
            row
            for row in self.rows
            if (not patterns or any(row.matches(pattern) for pattern in patterns))
            and (not columns or row.column in columns)
        ]


# ---- MuJoCo ----------------------------------------------------------------------------------------------------------

NAMED = {"Reacher-v5": "reacher", "CartPole-v1": "cartpole", "Pendulum-v1": "pendulum"}  # pistar's own names
# What PPO's defaults are asked for: score, the best published at three times the steps, seconds of training a million steps.
MUJOCO: dict[str, tuple[float, float, float | None]] = {
    "HalfCheetah-v5": (5500.0, 7300.0, 60.0),
    "Hopper-v5": (3000.0, 3400.0, None),
    "Walker2d-v5": (3900.0, 4900.0, 130.0),
    "Ant-v5": (1600.0, 4000.0, None),
    "Reacher-v5": (-4.1, -3.7, 60.0),
}
# sb3-contrib's one setting that differs from task to task, as the RL Baselines3 Zoo publishes it; Reacher is not among them.
MAX_KL = {"HalfCheetah-v5": 0.04}


def family_rows(task: str, protocol: str, evaluations: int, algorithms: Sequence[str] = FAMILY) -> list[Row]:
    """Every algorithm on a task by its defaults and, where there is one, by the task's recipe."""
    rows = []
    for algorithm in algorithms:
        arguments = f"{NAMED.get(task, task)} --algorithm {algorithm} {protocol}"
        row = Row(f"{task} {algorithm}", arguments, "last-10", None, "mean", task, algorithm, "defaults", evaluations)
        rows.append(row)
        changes = recipes.flags(task, algorithm)
        if changes:
            name, arguments = f"{row.name} recipe", f"{arguments} {changes}"
            rows.append(dataclasses.replace(row, name=name, arguments=arguments, column="recipe"))
    return rows


def mujoco_rows() -> list[Row]:
    """A million steps, every 20,000 of them 20 deterministic episodes, 100 on Reacher."""
    rows = []
    for task, (asked, aim, seconds) in MUJOCO.items():
        episodes = 100 if task == "Reacher-v5" else 20
        protocol = f"--steps 1000000 --evaluation.every 20000 --evaluation.episodes {episodes}"
        for row in family_rows(task, protocol, 50):
            judged = row.name == f"{task} ppo"
            rows.append(dataclasses.replace(row, asked=asked, aim=aim, asked_seconds=seconds) if judged else row)
        peer = f"{task} --steps 1000000 --every 20000 --episodes {episodes} --max-kl {MAX_KL.get(task, 0.01)}"
        rows.append(Row(f"{task} sb3-contrib trpo", peer, "last-10", None, "mean", task, "trpo", "peer", 50))
    return rows


# ---- classic control and Atari ---------------------------------------------------------------------------------------

CLASSIC = {  # task -> steps, and the score by which Gymnasium calls it solved
    "CartPole-v1": (200_000, 475.0),
    "Acrobot-v1": (500_000, -100.0),
    "Pendulum-v1": (500_000, None),
    "MountainCar-v0": (1_000_000, -110.0),
    "MountainCarContinuous-v0": (500_000, 90.0),
}
PONG = "ALE/Pong-v5"
# The task brings the settings of a paper with it; this takes them back to what other discrete tasks are learned with.
PONG_DEFAULTS = {
    "ppo": "--lanes 8 --horizon 128 --learning-rate 1e-3:0 --ppo.clip 0.2 --ppo.epochs 4",
    "a2c": "--lanes 16 --horizon 8",
    "impala": "--lanes 16 --horizon 64",
}


def classic_rows() -> list[Row]:
    """50 evaluations of 20 deterministic episodes; cartpole and pendulum are pistar's own, the others Gymnasium's."""
    rows = []
    for task, (steps, solved) in CLASSIC.items():
        protocol = f"--steps {steps} --evaluation.every {steps // 50} --evaluation.episodes 20"
        for row in family_rows(task, protocol, 50):
            judged = row.name == f"{task} ppo"
            rows.append(dataclasses.replace(row, asked=solved) if judged else row)
    return rows


def atari_rows() -> list[Row]:
    """Pong for two million steps of four frames, 20 whole games at the end."""
    protocol = "--steps 2000000 --evaluation.every 200000 --evaluation.episodes 10 --evaluation.final-episodes 20"
    rows = []
    for algorithm, back in PONG_DEFAULTS.items():
        arguments = f"{PONG} --algorithm {algorithm} {protocol} --normalize-rewards --warm-up 1000 {back}"
        rows.append(Row(f"Pong {algorithm}", arguments, "final", None, "mean", "Pong", algorithm))
    arguments = f"{PONG} --algorithm ppo {protocol}"
    rows.insert(1, Row("Pong ppo published", arguments, "final", None, "mean", "Pong", "ppo", "published"))
    return rows


# ---- earlier ones ----------------------------------------------------------------------------------------------------

# 17 evaluations, the last with the last step; every epoch is taken, as was the default then.
SEVENTEEN = "--steps 1e6 --evaluation.every 58823 --ppo.max-kl none"
GOAL = "--arm-joint-open.goal episode"
PPO_MUJOCO = (
    Row("Reacher-v5", f"reacher {SEVENTEEN} --evaluation.episodes 100", "last-10", -4.2, "mean", evaluations=17),
    Row("HalfCheetah-v5", f"HalfCheetah-v5 {SEVENTEEN} --evaluation.episodes 20", "last-10", 5000.0, "mean", evaluations=17),
)  # fmt: skip
CARTPOLE = (
    Row("cartpole, native", "cartpole --steps 200000", "final", 475.0, "every"),
    Row("CartPole-v1, lanes", "CartPole-v1 --steps 200000", "final", 475.0, "every"),
)
LINEAR_SOFTMAX = (
    Row("arm-joint-open, fixed goal", "arm-joint-open --steps 500000", "fraction", 0.99),
    Row("arm-joint-open, goal per episode", f"arm-joint-open {GOAL} --steps 500000", "fraction", 0.99),
    Row("arm-joint, fixed goal", "arm-joint --steps 5000000", "fraction", 0.97),
)

FRESH = tuple(range(1000, 1010))
SUITES = {
    "mujoco": Suite(
        "The family on MuJoCo v5",
        tuple(mujoco_rows()),
        FRESH,
        "A million steps; every 20,000 of them 20 deterministic episodes are played (100 on Reacher). A seed's score is the mean of "
        "its last 10 evaluations.",
    ),
    "classic": Suite(
        "The family on classic control",
        tuple(classic_rows()),
        FRESH,
        "50 evaluations of 20 deterministic episodes each; a seed's score is the mean of the last 10. CartPole and Pendulum are "
        "pistar's own, the others Gymnasium's.",
    ),
    "atari": Suite(
        "Pong",
        tuple(atari_rows()),
        FRESH[:3],
        "Two million steps of four frames, sticky actions of probability 0.25; a seed's score is the mean of 20 whole games at the end.",
    ),
    "ppo-mujoco": Suite("ppo-mujoco", PPO_MUJOCO, tuple(range(10))),
    "cartpole": Suite("cartpole", CARTPOLE, tuple(range(10))),
    "linear-softmax": Suite("linear-softmax", LINEAR_SOFTMAX, tuple(range(5))),
}

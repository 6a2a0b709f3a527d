"""Experiment = task + algorithm + policy + training + evaluation + checkpoints + reporting: all that decides a run, as one value.

Values come in layers, each over the one before: the dataclasses' defaults, the algorithm's recipe for continuous or
discrete actions, the task's recipe, a TOML file, flags. The resolved whole is what a run directory holds and what
``resume`` reads. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pistar import bounds, configuration
from pistar.algorithms import ALGORITHMS
from pistar.algorithms.algorithm import Algorithm
from pistar.errors import UnknownName, UsageError
from pistar.policies import POLICIES
from pistar.ranges import searched
from pistar.report.mirrors import MIRRORS
from pistar.schedules import Schedule, linear
from pistar.tasks import TASKS
from pistar.tasks.task import Execution, Task

TABLES = ("task", "algorithm", "policy", "training", "evaluation", "checkpoints", "reporting", "cloning")
WORLDS = ("atari", "pettingzoo", "simulator")  # tasks that are given with the name of a world, as KIND:NAME
KINDS = {"task": TASKS, "algorithm": ALGORITHMS, "policy": POLICIES}
Table = Mapping[str, Any]


@dataclass(frozen=True)
class Training:
    """How long, how wide and how fast."""

    steps: int = 1_000_000  # environment steps in all, rounded up to whole iterations
    schedule_steps: int | None = None  # over which schedules run; none: all, and a run that is extended keeps them
    seed: int = 0  # the run's one seed; every random stream is derived from it
    lanes: int = searched(16, choices=(4, 8, 16, 32, 64))  # parallel streams of experience, B; decides what is learned
    horizon: int = searched(128, choices=(32, 64, 128, 256, 512))  # steps per lane and iteration, T
    learning_rate: Schedule = searched(linear(3e-4, 0.0), 1e-4, 1e-2, scale="log")  # step size of the optimizer
    critic_learning_rate: Schedule | None = None  # step size for what serves the critic alone; none: as the rest
    optimizer: Literal["adam", "sgd"] = "adam"  # how gradients become steps
    adam_epsilon: float = 1e-8  # added to Adam's denominator
    max_gradient_norm: float = 0.5  # gradients longer than this are scaled down to it; 0: never
    normalize_rewards: bool = True  # divide rewards by the running deviation of the discounted return
    warm_up: int = 1000  # uncounted random steps that give the first moments
    stagger: bool = True  # first episodes start at a random elapsed time, where the environment can
    symmetry: str = "none"  # whose mirror images of rollouts are learned from too: none, task or module:NAME
    lag: int = 0  # updates by which the parameters that collect are behind; 0: the newest collect
    overlap: bool = True  # with a lag, collect in a thread of its own while learning; changes no result
    workers: int | None = None  # processes that step the environment; 0: this one; none: as many as pay, measured
    start_method: Literal["fork", "spawn"] = "fork"  # how worker processes start
    threads: int = 1  # threads of torch and of the simulator
    device: Literal["cpu", "cuda"] = "cpu"  # where tensors live
    graphs: bool = True  # on CUDA, capture steps of acting and gradient steps as graphs and replay them
    precision: Literal["float32", "bfloat16"] = "float32"  # of dense layers' products on CUDA; all else stays float32
    stop_at: float | None = None  # end once the mean return of the last 100 training episodes reaches this
    time_limit: float | None = None  # end after this many seconds of training

    def __post_init__(self) -> None:
        bounds.at_least(1, self, "steps", "schedule_steps", "lanes", "horizon", "threads")
        bounds.at_least(
            0,
            self,
            "learning_rate",
            "critic_learning_rate",
            "max_gradient_norm",
            "warm_up",
            "lag",
            "workers",
            "time_limit",
        )
        bounds.above(0, self, "adam_epsilon")
        if self.precision != "float32" and self.device != "cuda":
            raise UsageError(f"precision {self.precision} needs --device cuda; leave it out")
        if self.symmetry not in ("none", "task") and ":" not in self.symmetry:
            raise UsageError(f"symmetry: expected none, task or module:NAME, received {self.symmetry!r}")
        if self.symmetry != "none" and self.lag:
            raise UsageError("symmetry needs the policy that acted, which a lag has put aside; leave one of them out")

    @property
    def execution(self) -> Execution:
        """The part of these settings that environments need."""
        return Execution(self.threads, self.workers or 0, self.device, self.start_method)

    @property
    def iterations(self) -> int:
        """Whole iterations that cover ``steps``."""
        return -(-self.steps // (self.lanes * self.horizon))


@dataclass(frozen=True)
class EvaluationSettings:
    """When and on how many episodes the policy is judged during training."""

    episodes: int = 20  # per evaluation, a fixed quota per lane
    every: int | None = None  # environment steps between evaluations; 0: never; none: a sixteenth of the run
    at: tuple[int, ...] = ()  # exact steps to evaluate at instead (the end of the iteration that reaches them)
    deterministic: bool = True  # the distribution's mode instead of a sample
    final_episodes: int = 100  # of the evaluation after the last update

    def __post_init__(self) -> None:
        bounds.at_least(1, self, "episodes", "final_episodes", "at")
        bounds.at_least(0, self, "every")


@dataclass(frozen=True)
class CheckpointSettings:
    """When the whole state is saved. Iteration 0 is always saved, before the first step."""

    every: int | None = None  # iterations between checkpoints; 0: only the last; none: a twentieth of the run
    keep: int = 2  # newest checkpoints that are kept; fewer than 2 would leave none where the newest is damaged

    def __post_init__(self) -> None:
        bounds.at_least(0, self, "every")
        bounds.at_least(2, self, "keep")


@dataclass(frozen=True)
class ReportingSettings:
    """Who is told of the run beside its own directory; it changes nothing of what is learned."""

    to: tuple[str, ...] = ()  # wandb, mlflow, or a class of your own as module:Class

    def __post_init__(self) -> None:
        for kind in self.to:
            MIRRORS.require_known(kind)
        if len(set(self.to)) < len(self.to):
            raise UsageError(f"reporting.to names a mirror twice: {', '.join(self.to)}")


@dataclass(frozen=True)
class CloningSettings:
    """How the first policy is cloned from recorded episodes, where there are such."""

    demonstrations: str | None = None  # directory of recorded episodes; none: nothing is cloned
    passes: int = 100  # most passes over the episodes, of policy and critic each
    minibatch: int = 256  # steps in a minibatch
    learning_rate: float = 1e-3  # step size of the optimizer
    held_out: float = 0.1  # share of the episodes that decides when to stop, at least one; 0: all passes are made
    patience: int = 10  # passes without a gain on what is held out, after which the best one counts
    value_weight: float = 0.25  # weight of the critic's squared error beside the log-likelihood
    max_gradient_norm: float = 0.5  # gradients longer than this are scaled down to it; 0: never
    exploration: Literal["initial", "fitted"] = "initial"  # the head's own parameters afterwards, such as a deviation

    def __post_init__(self) -> None:
        bounds.at_least(1, self, "passes", "minibatch", "patience")
        bounds.at_least(0, self, "learning_rate", "value_weight", "max_gradient_norm")
        bounds.between(0, 1, self, "held_out")


@dataclass(frozen=True)
class Experiment:
    """All that decides a run."""

    task: Task
    algorithm: Algorithm
    policy: Any  # a policy kind: a frozen dataclass with build(spaces, generator) -> Policy
    training: Training
    evaluation: EvaluationSettings
    checkpoints: CheckpointSettings
    reporting: ReportingSettings = ReportingSettings()
    cloning: CloningSettings = CloningSettings()

    def to_table(self) -> dict[str, Any]:
        """The TOML tables of this experiment, every value resolved."""
        tables = {name: configuration.to_table(getattr(self, name)) for name in TABLES}
        return {n: {"kind": KINDS[n].kind_of(getattr(self, n)), **t} if n in KINDS else t for n, t in tables.items()}

    @staticmethod
    def from_table(table: Table, source: str = "experiment.toml") -> Experiment:
        """Build from complete tables, as ``to_table`` gives them; unknown or ill-typed keys are refused."""
        for name in table:
            if name not in TABLES:
                raise UnknownName(f"table in {source}", name, TABLES)
        parts: dict[str, Any] = {}
        for name in TABLES:
            values = dict(table.get(name, {}))
            cls = dataclasses.fields(Experiment)[TABLES.index(name)].type
            if name in KINDS:
                if "kind" not in values:
                    raise UsageError(f"[{name}] in {source} has no kind (known: {', '.join(KINDS[name].names())})")
                cls = KINDS[name].get(values.pop("kind"))
            else:
                cls = {
                    "training": Training,
                    "evaluation": EvaluationSettings,
                    "checkpoints": CheckpointSettings,
                    "reporting": ReportingSettings,
                    "cloning": CloningSettings,
                }[name]
            parts[name] = configuration.build(cls, values, f"[{name}] in {source}")
        return Experiment(**parts)


def find_world(name: str) -> dict[str, Any] | None:
    """The [task] table of ``KIND:NAME`` or of an Atari game's id; None where the name is something else."""
    kind, _, world = name.partition(":")
    if kind in WORLDS and world:
        return {"kind": kind, "id": world}
    return {"kind": "atari", "id": name} if name.startswith("ALE/") else None


def find_task(name: str) -> dict[str, Any]:
    """The [task] table that a name stands for.

    A registered task, ``module:Class`` of a Task, ``KIND:NAME`` of a kind that names worlds (``pettingzoo:pistonball_v6``), or
    else anything Gymnasium can make: an id, or ``module:Class``. Raises UnknownName with the nearest task or Gymnasium id.
    """
    if name in TASKS.names():
        return {"kind": name}
    world = find_world(name)
    if world is not None:
        return world
    if ":" not in name:
        if not re.search(r"-v\d+$", name):
            hint = "A Gymnasium id such as CartPole-v1, or module:Class of your own environment or task, is a task too"
            raise UnknownName("task", name, TASKS.names(), hint)
        from pistar.envs import targets  # imports Gymnasium, which is only needed for its ids

        targets.check_registered(name, name)
    elif "-v" not in name:
        target = TASKS.get(name)
        if isinstance(target, type) and issubclass(target, Task):
            return {"kind": name}
    return {"kind": "gymnasium", "id": name}


def resolve(task: Table, *layers: tuple[Table, str]) -> Experiment:
    """Fill every value: defaults < algorithm's recipe < task's recipe < ``layers`` in their order (table, source)."""
    tables, sources = [table for table, _ in layers], [source for _, source in layers]
    for table, source in layers:
        for name in table:
            if name not in TABLES:
                raise UnknownName(f"table in {source}", name, TABLES)
    task_table = configuration.layer(task, *(t.get("task", {}) for t in tables))
    task_class = TASKS.get(task_table["kind"])
    built_task: Task = configuration.build(
        task_class,
        {k: v for k, v in task_table.items() if k != "kind"},
        f"[task] in {sources[-1] if sources else 'the call'}",
    )
    user = configuration.layer({}, *tables)
    chosen = user.get("algorithm", {}).get("kind") or built_task.algorithm
    algorithm_class = ALGORITHMS.get(chosen)
    recipe = built_task.recipe(chosen)
    if built_task.discount is not None and "discount" in {f.name for f in dataclasses.fields(algorithm_class)}:
        recipe = configuration.layer({"algorithm": {"discount": built_task.discount}}, recipe)
    defaults = algorithm_class.recipes.get(built_task.actions, {})
    base = {"algorithm": {"kind": chosen}, "policy": {"kind": "mlp"}}
    whole = configuration.layer(base, defaults, recipe, user, {"task": task_table})
    experiment = Experiment.from_table(whole, sources[-1] if sources else "the call")
    return complete(experiment)


def complete(experiment: Experiment) -> Experiment:
    """Replace every "none: ..." default that depends on other values."""
    training, evaluation, checkpoints = experiment.training, experiment.evaluation, experiment.checkpoints
    if evaluation.every is None:
        evaluation = dataclasses.replace(evaluation, every=max(1, training.steps // 16))
    if checkpoints.every is None:
        checkpoints = dataclasses.replace(checkpoints, every=max(1, training.iterations // 20))
    return dataclasses.replace(experiment, evaluation=evaluation, checkpoints=checkpoints)


def read(path: Path) -> Experiment:
    """The experiment of a run directory's ``experiment.toml`` (its [run] table, provenance, is not part of it)."""
    table = configuration.read_toml(path)
    table.pop("run", None)
    return Experiment.from_table(table, str(path))

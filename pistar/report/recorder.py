"""Everything that a run writes about itself while it runs: records, mirror, progress line, picture."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from pistar import configuration
from pistar.experiment import Experiment
from pistar.judgement import Judgement
from pistar.report import health, jsonl, mirrors
from pistar.report.jsonl import JsonLines
from pistar.report.picture import learning_curve
from pistar.report.profile import Profile
from pistar.report.progress import Progress
from pistar.report.sink import Sink
from pistar.report.tensorboard import TensorBoardMirror
from pistar.rollout import Rollout
from pistar.run import RunDirectory
from pistar.tree import leaves

if TYPE_CHECKING:
    from pistar.grouped_session import GroupedSession
    from pistar.session import Session

ENOUGH = 1_000_000  # entries of a leaf that its statistics look at


class Recorder:
    """Opens a run's sinks; with ``offsets`` (of a checkpoint) what was written after it is cut off first.

    A file that cannot be written ends the run with StorageError; all earlier records stand, and ``pistar resume`` goes
    on from the last checkpoint.
    """

    def __init__(
        self, run: RunDirectory, experiment: Experiment, *, offsets: dict[str, int] | None = None, quiet: bool = False
    ) -> None:
        self.run, self.experiment = run, experiment
        self.profile: Profile | None = None
        self._bounds: dict[str, health.Bounds] = {}  # by group; "" where there is but one policy
        training, done, new = experiment.training, 0, not run.tensorboard.exists()
        if offsets is not None:
            jsonl.truncate_to(run.metrics, offsets["metrics"])
            jsonl.truncate_to(run.evaluations, offsets["evaluations"])
            # A run that was killed at its very beginning has no records to read.
            record = jsonl.last(run.metrics) if offsets["metrics"] else None
            done = 0 if record is None else int(record["steps"])
        self.metrics, self.evaluations = JsonLines(run.metrics), JsonLines(run.evaluations)
        board, table = TensorBoardMirror(run.tensorboard, None if new else done), experiment.to_table()
        if new:
            board.describe(configuration.to_toml(table))
        resumed_at = None if offsets is None else done
        self.mirrors: list[Sink] = [board, *mirrors.opened(experiment.reporting.to, run, table, resumed_at, quiet)]
        planned = training.iterations * training.lanes * training.horizon
        self.progress = Progress(planned, done=done, quiet=quiet)
        self.sinks: list[Sink] = [self.metrics, *self.mirrors, self.progress]

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:  # each is closed, whatever another one raises
            for sink in (self.evaluations, *self.sinks):
                stack.callback(sink.close)

    def offsets(self) -> dict[str, int]:
        """Lengths of the record files, on the disk; what a checkpoint stores."""
        return {"metrics": self.metrics.offset(), "evaluations": self.evaluations.offset()}

    def iteration(
        self,
        session: Session | GroupedSession,
        rollout: Rollout | Mapping[str, Rollout],
        metrics: dict[str, float],
        steps: int,
    ) -> dict[str, Any]:
        """Write one iteration's record and return it.

        ``return`` and ``length`` are means over the last 100 training episodes, ``episodes`` those that ended in this
        iteration; ``time`` counts the whole run's collecting and learning, its interruptions left out.
        """
        collector, training = session.collector, session.experiment.training
        recent = collector.recent()
        planned = training.schedule_steps or training.steps
        before = (session.iteration - 1) * training.lanes * training.horizon / planned  # progress that the update saw
        record: dict[str, Any] = {
            "iteration": session.iteration,
            "steps": steps,
            "return": recent[0],
            "length": recent[1],
            "episodes": collector.episodes,
            **{f"update/{name}": value for name, value in metrics.items()},
            "update/learning_rate": training.learning_rate.at(before),
            **self._facts(session, rollout),
            **{f"info/{name}": value for name, value in collector.info.items()},
        }
        if collector.reward_scale is not None:
            record["reward/scale"] = collector.reward_scale.factor
        record["time"] = {"seconds": session.seconds, "steps_per_second": steps / max(session.seconds, 1e-9)}
        if self.profile is not None:
            record["time"]["profile"] = self.profile.so_far()
        for sink in self.sinks:
            sink.write(record)
        return record

    def _facts(self, session: Any, rollout: Rollout | Mapping[str, Rollout], group: str = "") -> dict[str, Any]:
        """`statistics` and, now and then, `health`; of several groups of agents, with their names in the keys."""
        if isinstance(rollout, Mapping):
            parts = {name: self._facts(session.members[name], part, name) for name, part in rollout.items()}
            return {key.replace("/", f"/{n}/", 1): x for n, part in parts.items() for key, x in part.items()}
        facts: dict[str, Any] = dict(statistics(rollout))
        if health.due(session.iteration, rollout.reward.numel()):
            bounds = self._bounds.get(group)
            if bounds is None or bounds.policy is not session.policy:
                bounds = self._bounds[group] = health.Bounds(session.policy)
            facts |= {**health.unvarying(rollout), **bounds.shares(rollout), **health.pushes(session.learner)}
        return facts

    def evaluation(self, judgement: Judgement, iteration: int, steps: int) -> None:
        """Write one evaluation's record."""
        record = {"iteration": iteration, "steps": steps, **judgement.to_json()}
        self.evaluations.write(record)
        self._mirror(steps, "evaluation", judgement)

    def _mirror(self, steps: int, group: str, judgement: Judgement) -> None:
        for mirror in self.mirrors:
            mirror.write({"steps": steps, f"{group}/length": judgement.length, f"{group}/mean": judgement.mean})

    def final(self, judgement: Judgement, iteration: int, steps: int) -> None:
        """Write the last evaluation and draw the picture."""
        self.evaluations.write({"iteration": iteration, "steps": steps, "final": True, **judgement.to_json()})
        self._mirror(steps, "final", judgement)
        task = self.experiment.task
        learning_curve(
            jsonl.read(self.run.metrics),
            jsonl.read(self.run.evaluations),
            {name: comparison.mean for name, comparison in judgement.baselines.items()},
            self.run.picture,
            title=f"{judgement.task} · {self.experiment.to_table()['algorithm']['kind']}",
            threshold=task.threshold,
        )


def statistics(rollout: Rollout) -> dict[str, float]:
    """Mean, deviation and extremes of every leaf of actions and observations: as the head sampled, as the task gave.

    Over all entries that count; of a long rollout of large observations, over evenly spaced steps.
    """
    result: dict[str, float] = {}
    for name, tree in (("action", rollout.action), ("observation", rollout.observation)):
        for path, leaf in leaves(tree):
            stride = 1 + leaf.numel() // ENOUGH
            values = leaf[::stride] if rollout.weight is None else leaf[::stride][rollout.weight[::stride] > 0]
            values = values.to(torch.float32)
            if values.numel() == 0:
                continue
            deviation, mean = torch.std_mean(values, correction=0)
            least, greatest = torch.aminmax(values)
            key = "/".join((name, *path))
            found = {"mean": mean, "deviation": deviation, "minimum": least, "maximum": greatest}
            result |= {f"{key}/{what}": float(value) for what, value in found.items()}
    return result

"""A search as one value: what is trained, what is searched, on which seeds. It is a TOML file and an entry of the study.

Two drivers with equal plans may share a study; how many trials they make, with how many workers and until when is no part
of it. The ranges are written out, so that a search goes on with those that it began with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pistar import bounds, configuration
from pistar.errors import ArtefactError, UsageError
from pistar.experiment import TABLES, Experiment
from pistar.ranges import Choices, Interval, Range
from pistar.tune import space
from pistar.tune.space import Dimension, Value
from pistar.tune.storage import require_known

Sampler = Literal["tpe", "gp", "random"]


@dataclass(frozen=True)
class Method:
    """How trials are chosen and measured."""

    task: str  # the task as it was named
    seeds: int = 3  # runs of a trial, with the seeds from [training] seed on
    rungs: int = 8  # times per run at which a hopeless trial may be stopped
    sampler: Sampler = "tpe"  # who proposes

    def __post_init__(self) -> None:
        bounds.at_least(1, self, "seeds", "rungs")


@dataclass(frozen=True)
class Extent:
    """How far a search goes, and by whom; may be another each time that it goes on."""

    trials: int = 40  # trials that have a result, those that were stopped included; retries do not count
    workers: int = 1  # trials side by side, each in a process of its own
    finalists: int = 3  # best trials that are trained on further seeds before one is chosen
    compare: int = 10  # fresh seeds on which defaults and tuned are compared; 0: none
    time_limit: float | None = None  # begin no trial after so many seconds
    storage: str | None = None  # the study's address; none: a journal in the directory
    study: str = "pistar"  # its name there

    def __post_init__(self) -> None:
        bounds.at_least(1, self, "trials", "workers", "finalists")
        bounds.at_least(0, self, "compare", "time_limit")
        if self.storage is not None:
            require_known(self.storage)


@dataclass(frozen=True)
class Plan:
    """A search."""

    method: Method
    base: Experiment  # the starting point, trial 0
    searched: tuple[Dimension, ...]

    def __post_init__(self) -> None:
        space.require_comparable(self.base.training)

    @property
    def seeds(self) -> range:
        """The seeds of every trial."""
        first = self.base.training.seed
        return range(first, first + self.method.seeds)

    def at(self, point: Mapping[str, Value]) -> Experiment:
        """The experiment at a point of the space; UsageError where there is none, or where its curve would have no shape."""
        found = space.place(self.base, self.searched, point)
        if found.training.iterations < min(self.method.rungs, self.base.training.iterations):
            size = f"{found.training.lanes} lanes × {found.training.horizon} steps"
            raise UsageError(f"{size} leave {found.training.iterations} iterations, fewer than {self.method.rungs}")
        return found

    def to_tables(self) -> dict[str, Any]:
        """TOML tables: [tune], [search] and those of the base."""
        search = {dimension.name: table_of(dimension.range) for dimension in self.searched}
        return {"tune": configuration.to_table(self.method), "search": search, **self.base.to_table()}

    @staticmethod
    def from_tables(tables: Mapping[str, Any], source: str) -> Plan:
        """The plan of ``to_tables``; ArtefactError where they are none."""
        try:
            method = configuration.build(Method, tables["tune"], f"[tune] in {source}")
            base = Experiment.from_table({name: tables[name] for name in TABLES if name in tables}, source)
            searched = []
            for name, table in tables["search"].items():
                section, field = space.locate(base, name)
                searched.append(Dimension(section, field, range_of(table, f"{name} of [search] in {source}")))
            plan = Plan(method, base, tuple(searched))
            if plan.at(space.start(base, searched)) != plan.at(space.start(base, searched)) or not searched:
                raise UsageError(f"[search] in {source} is empty")
        except (UsageError, KeyError, TypeError, AttributeError, ValueError, StopIteration) as error:
            reason = f"it lacks [{error.args[0]}]" if isinstance(error, KeyError) else str(error)
            raise ArtefactError(f"{source} is not the plan of a search: {reason}") from error
        return plan


def table_of(reach: Range) -> dict[str, Any]:
    """A range as a table."""
    if isinstance(reach, Choices):
        return {"choices": configuration.plain(reach.values)}
    return {"low": reach.low, "high": reach.high, "scale": reach.scale}


def range_of(table: Mapping[str, Any], where: str) -> Range:
    """The range of a table."""
    if "choices" in table:
        return Choices(tuple(tuple(each) if isinstance(each, list) else each for each in table["choices"]))
    return configuration.build(Interval, table, where)


def differences(mine: Plan, other: Plan) -> list[str]:
    """What two plans disagree in, in words."""
    ours, theirs = mine.to_tables(), other.to_tables()
    found = []
    for section in dict.fromkeys((*ours, *theirs)):
        one, two = ours.get(section, {}), theirs.get(section, {})
        keys = [key for key in dict.fromkeys((*one, *two)) if one.get(key) != two.get(key)]
        found += [f"{section}.{key}: {two.get(key, 'absent')} there, {one.get(key, 'absent')} here" for key in keys]
    return found


def result_tables(plan: Plan, point: Mapping[str, Value]) -> dict[str, Any]:
    """The tables of a point that ``pistar train --config`` takes; what follows from other values is left to follow."""
    experiment = plan.at(point)
    training = dataclasses.replace(experiment.training, workers=plan.base.training.workers)
    return space.open_tables(dataclasses.replace(experiment, training=training))

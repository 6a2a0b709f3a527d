"""Plans and trials for tests, made without training."""

from __future__ import annotations

from typing import Any

from pistar import experiment, settings
from pistar.tune import space
from pistar.tune.plan import Method, Plan, Sampler
from pistar.tune.study import Study, Ticket

SEARCH = ("ppo.clip", "ppo.discount", "lanes", "ppo.normalize-advantages")


def plan(
    task: str = "cartpole",
    *,
    seeds: int = 2,
    rungs: int = 2,
    sampler: Sampler = "tpe",
    search: tuple[str, ...] = SEARCH,
    **more: Any,
) -> Plan:
    base = settings.resolve(experiment.find_task(task), {"steps": 50_000, **more}, None, "the test")
    return Plan(Method(task, seeds, rungs, sampler), base, space.dimensions(base, (), search))


def areas(study: Study, value: float) -> list[list[float]]:
    return [[value] * study.plan.method.rungs for _ in study.plan.seeds]


def finish(study: Study, ticket: Ticket, value: float) -> None:
    study.complete(ticket, areas(study, value), [value] * study.plan.method.seeds)

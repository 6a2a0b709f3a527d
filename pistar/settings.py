"""Settings: the flat spelling of an experiment's tables that flags and keyword arguments share.

::

    steps, lanes, learning_rate, ...     a field of [training]
    algorithm, policy                    a kind, or a table with one, or an instance
    ppo, mlp, arm-joint, ...             fields of that kind, refused where another kind is chosen
    evaluation, reporting, ...           fields of that table
    demonstrations                       the field of [cloning] of that name

``pistar.train("cartpole", lanes=8, ppo={"clip": 0.1})`` and ``pistar train cartpole --lanes 8 --ppo.clip 0.1`` are the
same mapping. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pistar import configuration, experiment
from pistar.errors import UnknownName, UsageError
from pistar.experiment import (
    KINDS,
    TABLES,
    CheckpointSettings,
    CloningSettings,
    EvaluationSettings,
    Experiment,
    ReportingSettings,
    Training,
)
from pistar.fields import field_types

Table = Mapping[str, Any]
PLAIN = {
    "training": Training,
    "evaluation": EvaluationSettings,
    "checkpoints": CheckpointSettings,
    "cloning": CloningSettings,
    "reporting": ReportingSettings,
}


def resolve(task: Table, settings: Mapping[str, Any], config: Path | None, source: str) -> Experiment:
    """The experiment that settings over the TOML file ``config`` stand for; ``source`` is what errors call the settings.

    ``task`` is what ``find_task`` gives. Every error is a UsageError.
    """
    layers = [] if config is None else [(tables_from_file(config), str(config))]
    lower = [table for table, _ in layers]
    for table, name in layers:  # before the task is built from it, so that a mistake is told with the file's name
        check_tables({key: value for key, value in table.items() if key == "task"}, {"task": task["kind"]}, name)
    tables = tables_from_settings(task, settings, *lower)
    kinds = chosen_kinds(task, *lower, tables)
    for table, name in layers:
        check_tables(table, kinds, name)
    return experiment.resolve(task, *layers, (tables, source))


def tables_from_settings(task: Table, settings: Mapping[str, Any], *lower: Table) -> dict[str, dict[str, Any]]:
    """The tables for ``experiment.resolve(task, *lower, tables)``; every value is checked against the chosen kinds.

    ``task`` is what ``find_task`` gives; ``lower`` are layers below the settings (a TOML file's tables), because they
    take part in choosing the kinds. The task is repeated in the result, so that it wins over a file's [task].
    """
    tables: dict[str, dict[str, Any]] = {"task": dict(task)}
    claims: list[Claim] = []
    for name, value in settings.items():
        if name in field_types(Training):
            tables.setdefault("training", {})[name] = in_seconds(value) if name == "time_limit" else value
        elif name == "demonstrations":
            tables.setdefault("cloning", {})[name] = None if value is None else str(value)
        elif name in TABLES:
            tables[name] = configuration.layer(tables.get(name, {}), table_of(name, value))
        else:
            claims.append(Claim(*kind_named(name), require_table(name, value)))
    check_shape(tables, "the settings")
    chosen = configuration.layer({}, *(layer.get("task", {}) for layer in (*lower, tables)))["kind"]
    # The task's own first: what the other kinds are may depend on its options.
    absorb(tables, [claim for claim in claims if claim.sort == "task"], {"task": chosen})
    kinds = chosen_kinds(task, *lower, tables)
    absorb(tables, [claim for claim in claims if claim.sort != "task"], kinds)
    check_tables(tables, kinds, "the settings")
    return tables


class Claim(NamedTuple):
    """Settings that are spelled with a kind, as in ``ppo={"clip": 0.1}``."""

    sort: str
    kind: str
    values: Table


def absorb(tables: dict[str, dict[str, Any]], claims: Iterable[Claim], kinds: Mapping[str, str]) -> None:
    """Lay claims over their tables; one of a kind that is not chosen is refused."""
    for sort, kind, values in claims:
        if kind != kinds[sort]:
            spelled = ", ".join(f"{kind}.{key.replace('_', '-')}" for key in values) or kind
            chosen = f"but {kinds[sort]!r} is chosen; drop it or choose {kind!r}"
            raise UsageError(f"{spelled}: a setting of the {sort} {kind!r}, {chosen}")
        tables[sort] = configuration.layer(tables.get(sort, {}), values)


def tables_from_file(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, ready to be a layer; a run's experiment.toml is one, its [run] table left aside."""
    tables = configuration.read_toml(path)
    tables.pop("run", None)
    check_shape(tables, str(path))
    if "time_limit" in tables.get("training", {}):
        tables["training"]["time_limit"] = in_seconds(tables["training"]["time_limit"])
    return tables


def chosen_kinds(task: Table, *layers: Table) -> dict[str, str]:
    """The kinds of task, algorithm and policy that ``experiment.resolve(task, *layers)`` arrives at."""
    user = configuration.layer({}, *layers)
    task_table = configuration.layer(task, user.get("task", {}))
    options = {key: value for key, value in task_table.items() if key != "kind"}
    built = configuration.build(KINDS["task"].get(task_table["kind"]), options, f"the task {task_table['kind']}")
    algorithm = user.get("algorithm", {}).get("kind") or built.algorithm
    recipes = KINDS["algorithm"].get(algorithm).recipes
    # To tell its actions, a task may have to build its environment; most algorithms choose no policy by them.
    recipe = recipes.get(built.actions, {}) if any("policy" in tables for tables in recipes.values()) else {}
    policy = configuration.layer({"policy": {"kind": "mlp"}}, recipe, built.recipe(algorithm), user)["policy"]
    return {"task": task_table["kind"], "algorithm": algorithm, "policy": policy["kind"]}


def check_shape(tables: Table, source: str) -> None:
    """Refuse what is no table of an experiment at all; after it, kinds can be chosen."""
    for name, table in tables.items():
        if name not in TABLES:
            raise UnknownName(f"table in {source}:", name, TABLES)
        kind = require_table(f"[{name}] in {source}", table).get("kind", "")
        if name in KINDS and not isinstance(kind, str):
            known = ", ".join(KINDS[name].names())
            raise UsageError(f"kind in [{name}] in {source}: expected one of {known}, received {kind!r}")


def check_tables(tables: Table, kinds: Mapping[str, str], source: str) -> None:
    """Refuse unknown keys and ill-typed values; a table without a ``kind`` is of the one in ``kinds``."""
    check_shape(tables, source)
    for name, table in tables.items():
        if name in KINDS:
            kind = table.get("kind", kinds[name])
            values = {key: value for key, value in table.items() if key != "kind"}
            configuration.check(KINDS[name].get(kind), values, f"[{name}] in {source} (kind {kind})")
        else:
            configuration.build(PLAIN[name], table, f"[{name}] in {source}")  # complete without any key


def setting_names() -> list[str]:
    """Every name that ``tables_from_settings`` takes."""
    kinds = [kind for registry in KINDS.values() for kind in registry.names()]
    return [*field_types(Training), "demonstrations", *TABLES, *kinds]


def kind_named(name: str) -> tuple[str, str]:
    """(sort, kind) of a registered kind; ``linear_softmax`` stands for ``linear-softmax``."""
    for sort, registry in KINDS.items():
        for kind in (name, name.replace("_", "-")):
            if kind in registry.names():
                return sort, kind
    raise UnknownName("setting", name, setting_names())


def table_of(name: str, value: Any) -> dict[str, Any]:
    """The table that a value for a whole table stands for: a kind, a table, or an instance."""
    if name in KINDS and isinstance(value, str):
        return {"kind": value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = {"kind": KINDS[name].kind_of(value)} if name in KINDS else {}
        return {**kind, **configuration.to_table(value)}
    return dict(require_table(name, value))


def require_table(name: str, value: Any) -> Table:
    """``value``, or a UsageError where it is not a table."""
    if isinstance(value, Mapping):
        return value
    raise UsageError(f"{name}: expected a table of settings, such as {{key = value}}, received {value!r}")


def in_seconds(value: Any) -> Any:
    """Seconds of "90s", "10m" or "1h30m"; anything else but text stays as it is."""
    if not isinstance(value, str) or value == "none":
        return value
    match = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?", value.strip())
    try:
        if match is None or not value.strip():
            raise ValueError
        hours, minutes, rest = (float(part or 0) for part in match.groups())
    except ValueError as error:
        raise UsageError(f"time_limit: expected a time such as 90s, 10m or 1h30m, received {value!r}") from error
    return hours * 3600 + minutes * 60 + rest

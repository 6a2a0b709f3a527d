"""A search from its plan to its result: begin or go on, make the trials, choose, compare, write."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pistar import configuration
from pistar.errors import ArtefactError, UsageError
from pistar.tune import comparison, plan, results
from pistar.tune.crew import Crew
from pistar.tune.driver import Driver, Say, Signals
from pistar.tune.plan import Extent, Plan
from pistar.tune.results import Outcome
from pistar.tune.storage import Claim, open_storage, without_password
from pistar.tune.study import Study


def begin(place: Path, wanted: Plan, extent: Extent) -> None:
    """Write the plan of a search, or find that the one in ``place`` is the same; UsageError where it is another."""
    path = place / "tune.toml"
    if path.exists():
        changed = plan.differences(wanted, read(place)[0])
        if changed:
            listed = "\n  ".join(changed)
            raise UsageError(
                f"{place} holds a search for something else:\n  {listed}\n"
                f"Go on with that one by `pistar tune --resume {place}`, or choose another place with --out"
            )
    elif place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UsageError(f"{place} exists already and holds no search; choose another place with --out")
    kept = configuration.to_table(extent)
    if extent.storage is not None:
        kept["storage"] = without_password(extent.storage)
    results.put(path, configuration.to_toml({**wanted.to_tables(), "extent": kept, "run": {"driver": name_of(place)}}))


def read(place: Path) -> tuple[Plan, Extent, str]:
    """The plan, the extent and the driver's name of a directory; errors say what is wrong with it."""
    path = place / "tune.toml"
    try:
        tables: Mapping[str, Any] = configuration.read_toml(path)
        extent = configuration.build(Extent, tables.get("extent", {}), f"[extent] in {path}")
        driver = str(tables.get("run", {}).get("driver", ""))
    except (UsageError, AttributeError) as error:
        raise ArtefactError(f"{path} is damaged: {error}") from error
    return Plan.from_tables(tables, str(path)), extent, driver


def name_of(place: Path) -> str:
    """The name of a directory's driver, a new one where it has none."""
    known = read(place)[2] if (place / "tune.toml").exists() else ""
    return known or uuid.uuid4().hex


def go_on(place: Path, extent: Extent, say: Say) -> tuple[Study, Outcome | None]:
    """Make the trials that are missing, and all that follows from them; no outcome where no trial has a value."""
    wanted, _, name = read(place)
    with ExitStack() as stack:
        claim = Claim(place / "driver.lock", f"the search in {place}")
        stack.callback(claim.release)
        storage = open_storage(extent.storage, place / "journal.log")
        study = Study.open(storage, extent.study, wanted, name, extent.storage is not None)
        stack.callback(study.recover)  # whatever ends the driver, a trial is not left running where that can be helped
        crew = stack.enter_context(Crew(extent.workers, place / "logs"))
        stack.enter_context(Signals(crew))
        Driver(wanted, study, crew, place, say).search(extent.trials, extent.time_limit)
        finished = study.finished()
        if not finished:
            return study, None
        chosen, areas = comparison.choose(wanted, crew, place, say, finished, extent.finalists)
        first = Outcome(chosen, areas, results.importance(study), None)
        results.write(study, place, first)  # before the comparison, which takes a while
        compared = comparison.compare(wanted, crew, place, say, chosen, extent.compare)
        outcome = Outcome(chosen, areas, first.importance, compared)
        results.write(study, place, outcome)
        return study, outcome

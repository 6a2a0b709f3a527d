"""A study as a driver keeps it: trials are asked for, reported, finished, given back.

A trial that somebody died over is *failed and retried*: its point is put back first, then it is marked as failed, so that
a kill between the two loses nothing; a retry keeps the directory of the first attempt and goes on with its runs. Trials of
this driver's directory are stale when it starts, because nobody else works there. Of other machines' trials, those are stale
whose beat, an entry that its driver changes every few seconds, has stood still for minutes by this machine's own clock.
Optuna's heartbeat is not used: journals have none, and it beats only inside ``study.optimize``.
"""

from __future__ import annotations

import contextlib
import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pistar import seeding
from pistar.errors import ArtefactError, UsageError
from pistar.ranges import Choices
from pistar.tune import plan as plans
from pistar.tune import racing, space
from pistar.tune.plan import Plan
from pistar.tune.space import Value
from pistar.tune.storage import WAY_OUT, require_optuna

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

SILENCE = 120.0  # seconds without a beat after which another machine's trial counts as stale
DEATHS, ERRORS = 10, 2  # times that a trial is tried in all, where workers die over it, where it raises
Areas = list[list[float]]


@dataclass(frozen=True)
class Ticket:
    """A trial that is being made."""

    number: int
    identity: int  # the storage's own number
    origin: int  # the number of its first attempt, which names its directory
    point: dict[str, Value]


@dataclass(frozen=True)
class Finished:
    """A trial that has its area."""

    number: int
    origin: int
    value: float
    point: dict[str, Value]
    areas: Areas  # [seeds][rungs]
    finals: list[float]  # [seeds], returns of the last evaluations


@dataclass
class Study:
    """The study of a plan; ``driver`` names this directory, ``shared`` says that others may have one of their own."""

    plan: Plan
    storage: BaseStorage
    study: optuna.Study
    driver: str
    shared: bool
    beats: dict[int, tuple[Any, float]] = field(default_factory=dict)  # trial -> (last beat seen, when by our clock)
    beaten: int = 1

    @staticmethod
    def open(storage: BaseStorage, name: str, plan: Plan, driver: str, shared: bool) -> Study:
        """The study called ``name``, begun with the plan's starting point where it is new; refused where it is another's."""
        optuna = require_optuna()
        if name in optuna.get_all_study_names(storage):  # asked first, because a journal notes every attempt to create
            study = optuna.load_study(storage=storage, study_name=name)
        else:
            study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        known = study.user_attrs.get("plan")
        if known is None:
            study.set_user_attr("plan", json.dumps(plan.to_tables()))
        else:
            try:
                tables = json.loads(known)
            except (TypeError, ValueError) as error:
                raise ArtefactError(
                    f"the study {name!r} was not made by pistar tune; choose another --study"
                ) from error
            changed = plans.differences(plan, Plan.from_tables(tables, f"the study {name!r}"))
            if changed:
                listed = "\n  ".join(changed)
                raise UsageError(
                    f"the study {name!r} searches something else:\n  {listed}\nChoose another --study or --out"
                )
        found = Study(plan, storage, study, driver, shared)
        found.require_sound()
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(space.start(plan.base, plan.searched), user_attrs={"defaults": True})
        return found

    def require_sound(self) -> None:
        """ArtefactError where what a trial says of itself cannot be."""
        for trial in self.trials():
            try:
                if trial.state.name in ("COMPLETE", "PRUNED"):
                    space.place(self.plan.base, self.plan.searched, trial.params)
                if trial.state.name == "COMPLETE":
                    done = finished(trial)
                    cells = {(len(done.areas), len(areas)) for areas in done.areas}
                    assert cells == {(self.plan.method.seeds, self.plan.method.rungs)}, "areas are missing"
                    assert len(done.finals) == self.plan.method.seeds, "returns are missing"
                    mean = sum(areas[-1] for areas in done.areas) / len(done.areas)
                    assert abs(mean - done.value) <= 1e-9 * (1 + abs(mean)), "its value is not its mean area"
            except Exception as error:
                reason = f"trial {trial.number} of the study is damaged: {error!r}"
                raise ArtefactError(f"{reason}. {WAY_OUT}") from error

    # ---- trials ------------------------------------------------------------------------------------------------------

    def trials(self, *states: str) -> list[FrozenTrial]:
        """All trials, or those in some states, in order."""
        return [t for t in self.study.get_trials(deepcopy=False) if not states or t.state.name in states]

    def count(self, *states: str) -> int:
        """How many trials are in some states."""
        return len(self.trials(*states))

    def finished(self) -> list[Finished]:
        """The trials that have their areas, in order."""
        return [finished(trial) for trial in self.trials("COMPLETE")]

    def ask(self) -> Ticket:
        """The next trial: one that waits, or a new one. What is proposed depends on the plan's seed and the trials alone."""
        self.study.sampler = sampler(self.plan, len(self.trials()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls half of its samplers' arguments experimental
            trial = self.study.ask(distributions(self.plan))
        trial.set_user_attr("driver", self.driver)
        origin = trial.user_attrs.get("origin", trial.number)
        return Ticket(trial.number, trial._trial_id, origin, dict(trial.params))

    def report(self, ticket: Ticket, areas: Areas) -> bool:
        """Note the areas so far; whether the trial is hopeless, or another machine has given it up."""
        rungs = self.plan.method.rungs
        cell = (len(areas) - 1) * rungs + len(areas[-1])
        so_far = sum(each[-1] for each in areas) / len(areas)
        try:
            self.storage.set_trial_intermediate_value(ticket.identity, cell, so_far)
        except require_optuna().exceptions.UpdateFinishedTrialError:
            return True
        return racing.hopeless(areas, [done.areas for done in self.finished()])

    def complete(self, ticket: Ticket, areas: Areas, finals: Sequence[float]) -> None:
        """The trial has its value."""
        value = sum(each[-1] for each in areas) / len(areas)
        self.end(ticket.number, ticket.identity, "COMPLETE", value, areas=areas, finals=list(finals))

    def stop(self, ticket: Ticket, reason: str) -> None:
        """The trial ends without a value, as a bad one: hopeless, or not finite."""
        self.end(ticket.number, ticket.identity, "PRUNED", stopped=reason)

    def end(self, number: int, identity: int, state: str, value: float | None = None, **notes: Any) -> None:
        """Write down what a trial came to; nothing where another machine, which thought this one dead, has ended it."""
        optuna = require_optuna()
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            for name, note in notes.items():
                self.storage.set_trial_user_attr(identity, name, note)
            self.study.tell(number, value, state=optuna.trial.TrialState[state], skip_if_finished=True)

    def give_back(self, number: int, reason: str, *, died: bool = False, raised: bool = False) -> bool:
        """Fail a trial and put its point back; False where it has been tried too often."""
        trial = self.trials()[number]
        attributes, point = trial.user_attrs, self.point_of(trial)
        deaths, errors = int(attributes.get("deaths", 0)) + died, int(attributes.get("errors", 0)) + raised
        again = deaths < DEATHS and errors < ERRORS
        retried = any(t.user_attrs.get("retry_of") == number for t in self.trials())
        if again and point is not None and not retried and not trial.state.is_finished():
            origin = attributes.get("origin", number)
            note = {"retry_of": number, "origin": origin, "deaths": deaths, "errors": errors}
            kept = {"defaults": True} if attributes.get("defaults") else {}
            self.study.enqueue_trial(point, user_attrs={**note, **kept})
        self.end(number, trial._trial_id, "FAIL", failure=reason)
        return again

    def point_of(self, trial: FrozenTrial) -> dict[str, Value] | None:
        """The point of a trial, or the one that it was to have; None where its driver was killed before it had either."""
        for point in (trial.params, trial.system_attrs.get("fixed_params", {})):
            if set(point) == {dimension.parameter for dimension in self.plan.searched}:
                return dict(point)
        return None

    # ---- those that somebody died over -------------------------------------------------------------------------------

    def recover(self) -> list[int]:
        """Give back every trial that this directory's driver has left running; the numbers of those."""
        left = [
            t.number for t in self.trials("RUNNING") if not self.shared or t.user_attrs.get("driver") == self.driver
        ]
        for number in left:
            self.give_back(number, "its driver ended")
        return left

    def beat(self, tickets: Sequence[Ticket]) -> None:
        """Say that this driver lives, and look whether the others do; only where a study is shared."""
        if not self.shared:
            return
        for ticket in tickets:
            with contextlib.suppress(require_optuna().exceptions.UpdateFinishedTrialError):
                self.storage.set_trial_user_attr(ticket.identity, "beat", self.beaten)
        self.beaten += 1
        now, seen = time.monotonic(), {}
        for trial in self.trials("RUNNING"):
            mark, since = self.beats.get(trial.number, (None, now))
            current = trial.user_attrs.get("beat", 0)
            seen[trial.number] = (current, since if mark == current else now)
            if trial.user_attrs.get("driver") != self.driver and now - seen[trial.number][1] > SILENCE:
                self.give_back(trial.number, f"its driver has been silent for {SILENCE:.0f} s")
        self.beats = seen


def finished(trial: FrozenTrial) -> Finished:
    """A trial of the state COMPLETE."""
    assert trial.value is not None
    areas = [[float(area) for area in each] for each in trial.user_attrs["areas"]]
    finals = [float(each) for each in trial.user_attrs["finals"]]
    origin = int(trial.user_attrs.get("origin", trial.number))
    return Finished(trial.number, origin, trial.value, dict(trial.params), areas, finals)


def distributions(plan: Plan) -> dict[str, BaseDistribution]:
    """Parameter -> Optuna's distribution."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for dimension in plan.searched:
        reach = dimension.range
        if isinstance(reach, Choices):
            found[dimension.parameter] = CategoricalDistribution([space.label(value) for value in reach.values])
        elif reach.scale == "complement":
            found[dimension.parameter] = FloatDistribution(1 - reach.high, 1 - reach.low, log=True)
        elif space.is_integral(plan.base, dimension):
            found[dimension.parameter] = IntDistribution(int(reach.low), int(reach.high), log=reach.scale == "log")
        else:
            found[dimension.parameter] = FloatDistribution(reach.low, reach.high, log=reach.scale == "log")
    return found


def sampler(plan: Plan, number: int) -> Any:
    """Who proposes trial ``number``; CMA-ES is left out, because Optuna keeps its state as a pickle."""
    optuna = require_optuna()
    seed = seeding.derive(plan.base.training.seed, "search", number) % 2**31
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if plan.method.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if plan.method.sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=8)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, multivariate=True, constant_liar=True)

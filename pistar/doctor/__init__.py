"""Why does my environment not learn? ``examine`` plays it, takes it apart and says in words what is wrong.

`pistar.testing.check_environment` judges pistar's own contract and stops at the first breach. The doctor examines any
Gymnasium environment as it is, without pistar's adapter in between, since that raises at the first fault; it goes on
after every fault and also names what is no breach but hard to learn from.

What this leaves out: whether the task can be learned, an environment that never returns from a call, and faults rarer
than one in a few hundred random steps.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pistar import configuration, experiment
from pistar.doctor import declared, ends, playing, repeating, running
from pistar.doctor.findings import Diagnosis, Finding, Place
from pistar.envs import targets
from pistar.errors import PistarError, UsageError

__all__ = ["Diagnosis", "Finding", "Place", "examine"]

PLAY_SECONDS = 20.0  # of the random play, which takes at least 50 steps whatever they cost
LANES = 2


def examine(
    target: targets.Target,
    *,
    steps: int = 600,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    render: bool = True,
    mask: str | None = None,
) -> Diagnosis:
    """All findings about a Gymnasium id, ``module:Class``, a registered task or a callable that makes an environment.

    ``steps`` random steps are taken on each of two lanes. ``options`` are keyword arguments of the environment's
    constructor. ``mask`` is the entry of the observation that says which choices are allowed; a world of pistar's own contract
    names it by itself. Raises UsageError (or a kind of it) where no environment can be made of ``target``, or where there is no
    such entry.
    """
    # Imported here: it imports torch, which `pistar doctor --help` does without.
    from pistar.testing.environments.examination import reseeded_streams

    diagnosis = Diagnosis(targets.name_of(target))
    with calm(), reseeded_streams(None):
        native = native_maker(target, options or {})
        if native is not None and mask is not None:
            raise UsageError(f"mask: {diagnosis.target} says by itself which choices are allowed; leave it out")
        if native is not None:
            from pistar.doctor.native import examine_native
            from pistar.doctor.symmetry import examine_symmetries

            made("the task", lambda: native(native.agents)).close()
            guarded(diagnosis, "contract", lambda: examine_native(diagnosis, native, steps, seed, native.agents))
            guarded(diagnosis, "symmetry", lambda: examine_symmetries(diagnosis, target, native, seed))
        else:
            examine_gymnasium(diagnosis, target, steps, seed, dict(options or {}), render, mask)
    return diagnosis


@contextlib.contextmanager
def calm() -> Iterator[None]:
    """No warnings from elsewhere between the findings, and what environments print goes to standard error."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Native:
    """How lanes of something that keeps pistar's own contract are made, ``agents`` to a world."""

    make: Callable[[int], Any]
    agents: int = 1

    def __call__(self, lanes: int) -> Any:
        """An environment of ``lanes`` lanes."""
        return self.make(lanes)


def native_maker(target: targets.Target, options: dict[str, Any]) -> Native | None:
    """How lanes of a task or of a native class are made; None where what counts is Gymnasium's interface.

    MuJoCo ids that pistar steps by itself are native ones: Gymnasium's code for them is never run.
    """
    from pistar.envs.environment import Environment
    from pistar.tasks import TASKS
    from pistar.tasks.gymnasium import MUJOCO, Gymnasium
    from pistar.tasks.task import Execution, Task

    if isinstance(target, str) and experiment.find_world(target):
        table = experiment.find_task(target)
        kind = TASKS.get(table.pop("kind"))
        world: Task = configuration.build(kind, {**table, "options": options}, f"the task {target}")
        return Native(
            lambda lanes: world.make(lanes, Execution(), training=False), made("the task", lambda: world.agents)
        )
    found = resolved(target)
    if isinstance(target, str) and not options and target in MUJOCO:
        batch = Gymnasium(id=target)
        return Native(lambda lanes: batch.make(lanes, Execution(), training=True))
    if isinstance(found, type) and issubclass(found, Task):
        task: Task = configuration.build(found, {}, f"the task {target}")
        return Native(lambda lanes: task.make(lanes, Execution(), training=True), task.agents)
    if isinstance(found, type) and issubclass(found, Environment):
        return Native(lambda lanes: found(lanes))  # type: ignore[call-arg] # by convention a native class takes its lanes first
    return None


def resolved(target: targets.Target) -> Any:
    """The class that a registered task's name or a ``module:Class`` stands for; anything else is itself."""
    from pistar.tasks import TASKS

    if not isinstance(target, str):
        return target
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))
    if target in TASKS.names():
        return TASKS.get(target)
    if ":" in target:
        return targets.attribute(targets.import_module(target.partition(":")[0], target), target.partition(":")[2])
    return target


def examine_gymnasium(
    diagnosis: Diagnosis,
    target: targets.Target,
    steps: int,
    seed: int,
    options: dict[str, Any],
    render: bool,
    mask: str | None,
) -> None:
    """All findings about a raw Gymnasium environment."""

    def make() -> Any:
        return targets.make(target, options)

    environment = made("the environment", make)
    if mask is not None:
        from pistar.heads import action_head, require_mask

        require_mask(environment.observation_space, mask, action_head(environment.action_space))
    layouts = declared.check_spaces(diagnosis, environment)
    if hasattr(environment.action_space, "sample"):
        examine_play(diagnosis, make, layouts[0], steps, seed, mask)
    if render:
        guarded(diagnosis, "render", lambda: running.check_drawing(diagnosis, environment, target, options))
    guarded(diagnosis, "close", lambda: running.check_closing(diagnosis, make))
    repeating.quietly_close(environment)


def examine_play(
    diagnosis: Diagnosis, make: playing.Make, layout: Any, steps: int, seed: int, mask: str | None
) -> None:
    """Whatever needs steps to be seen."""
    lanes: list[playing.Lane] = []
    guarded(
        diagnosis,
        "interface",
        lambda: lanes.extend(playing.play(diagnosis, make, layout, LANES, steps, seed, PLAY_SECONDS, mask)),
    )
    taken = sum(len(lane.step_seconds) for lane in lanes)
    if not taken:
        return
    for topic in ("interface", "observation"):
        if diagnosis.clean(topic) and layout:
            what = "reset and step follow it" if topic == "interface" else "finite and as declared"
            diagnosis.ok(topic, f"{what} in {taken} random steps on {LANES} lanes")
    checks: dict[str, Callable[[], None]] = {
        "reward": lambda: ends.check_rewards(diagnosis, lanes),
        "episodes": lambda: ends.check_ends(diagnosis, lanes[0].environment, lanes),
        "randomness": lambda: repeating.check_global_randomness(diagnosis, make, seed, mask),
        "seeding": lambda: repeating.check_seeds(diagnosis, make),
        "restoring": lambda: repeating.check_restoring(diagnosis, make, lanes),
        "after the end": lambda: running.check_after_the_end(diagnosis, make, lanes),
        "speed": lambda: running.check_speed(diagnosis, lanes),
    }
    for topic, check in checks.items():
        guarded(diagnosis, topic, check)
    repeating.quietly_close(*(lane.environment for lane in lanes))


def made(what: str, make: Callable[[], Any]) -> Any:
    """The first instance; an error here is the request's, since there is nothing to examine."""
    try:
        return make()
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        reason = str(error) if isinstance(error, PistarError) else f"the constructor {playing.raised(error)}"
        raise UsageError(f"{what} cannot be made: {reason}") from error


def guarded(diagnosis: Diagnosis, topic: str, check: Callable[[], None]) -> None:
    """Run a check; an environment that raises within is a finding, and no reason to stop."""
    try:
        check()
    except (Exception, SystemExit) as error:
        if not diagnosis.clean("interface"):
            advice = "mend the faults of the interface first"
            diagnosis.warn(topic, f"could not be examined: the environment {playing.raised(error)}", advice)
        elif isinstance(error, PistarError):
            diagnosis.fail(topic, str(error), "mend it and look again")
        else:
            diagnosis.fail(topic, f"the environment {playing.raised(error)}", "mend it and look again")

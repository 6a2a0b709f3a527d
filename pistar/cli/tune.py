"""``pistar tune TASK``: a search for settings that can be killed and gone on with at any moment."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pistar import settings
from pistar.cli import flags, request
from pistar.errors import UsageError
from pistar.experiment import Experiment

if TYPE_CHECKING:
    from pistar.tune.plan import Extent, Plan
    from pistar.tune.results import Outcome
    from pistar.tune.study import Study

USAGE = """
usage: pistar tune TASK [--flag value ...]
       pistar tune --resume DIR [--trials N] [--workers N] ...

Search for settings. A trial is a few runs with consecutive seeds; what is maximised is the area under their evaluation
curves. The defaults are trial 0. What is searched stands beside the settings in their classes; what is given by a flag is
held fixed. In the end the best trials are trained on further seeds, and the defaults and the chosen one on fresh seeds.

  pistar tune arm-reach --steps 50000 --trials 40 --workers 2 --out runs/tuned
  pistar tune --resume runs/tuned --trials 80
  pistar tune CartPole-v1 --steps 1e5 --search learning-rate ppo.clip lanes=8/16 ppo.epochs=2:10
  pistar train arm-reach --config runs/tuned/best.toml

The same command again, or --resume DIR, goes on with a search that was stopped or killed. The directory holds best.toml,
trials.csv, result.json, pictures, the study's journal and every run.
"""

MORE = """
Flags of `pistar train` that are no options of its own are taken too, and held fixed: `pistar train TASK --help`.
"""


@dataclass(frozen=True)
class Options:
    """The flags of ``tune`` that are no settings of its trials."""

    algorithm: str | None = None  # reinforce, a2c, ppo, ... or module:Class; none: the task's recipe, else ppo
    policy: str | None = None  # mlp, ... or module:Class; none: the recipe's, else mlp
    config: str | None = None  # a TOML file of settings to start from
    search: tuple[str, ...] = ()  # settings to search, as ppo.clip, lanes=8/16, ppo.clip=0.1:0.3:log, or whole tables
    trials: int = 40  # trials that have a result, those that were stopped early included
    seeds: int = 3  # runs of a trial; with 1, nothing is stopped early
    sampler: Literal["tpe", "gp", "random"] = "tpe"  # who proposes: gp for few, dear trials
    workers: int = 1  # trials side by side, each in a process of its own
    finalists: int = 3  # best trials that are trained on further seeds before one is chosen
    compare: int = 10  # fresh seeds on which defaults and tuned are compared; 0: none
    time_limit: str | None = None  # begin no trial after so much time, as 90s, 10m or 1h30m
    storage: str | None = (
        None  # postgresql://..., grpc://HOST:PORT for several machines; none: a journal in the directory
    )
    study: str = "pistar"  # the study's name in that storage
    out: str | None = None  # the directory; none: runs/tune-TASK-ALGORITHM
    resume: str | None = None  # go on with the search in this directory
    quiet: bool = False  # print nothing but errors


EXTENT = ("trials", "workers", "finalists", "compare", "time_limit", "storage", "study")
OWN = {field.name for field in dataclasses.fields(Options)}


def main(argv: list[str]) -> int:
    """Run the command."""
    if flags.asks_for_help(argv):
        own = [flags.Group("", "options", lambda: Options)]
        print(flags.help_text(USAGE, own) + "\n" + MORE.rstrip())
        return 0
    arguments = flags.parse(argv, groups(argv))
    options = arguments.options(Options)
    given = {name: arguments.values[""][name] for name in EXTENT if name in arguments.values.get("", {})}
    if "time_limit" in given:
        given["time_limit"] = settings.in_seconds(given["time_limit"])
    extent_of(given)  # refused here, where nothing slow has been imported yet
    if options.resume is not None:
        require_alone(arguments)
        wanted, place = None, find_search(Path(options.resume))
    else:
        task = arguments.only_word(USAGE)
        base = experiment_of(task, options, arguments.values)
        wanted = plan_of(task, base, options, fixed(base, arguments.values))
        place = Path(options.out) if options.out is not None else usual_place(task, base)
    return run(place, wanted, given, options.quiet)


def run(place: Path, wanted: Plan | None, given: Mapping[str, Any], quiet: bool) -> int:
    """Begin a search or go on with it, and say what came out."""
    # Imported here: it imports NumPy and Optuna, and with the first trial torch, which nothing before this line needs.
    from pistar.tune import searching, storage

    storage.require_optuna()
    extent = extent_of(given)
    if wanted is None:
        extent = dataclasses.replace(searching.read(place)[1], **given)
    else:
        searching.begin(place, wanted, extent)

    def say(text: str) -> None:
        if not quiet:
            print(text, flush=True)

    study, outcome = searching.go_on(place, extent, say)
    say(report(study, outcome, place, extent))
    return 0


def extent_of(given: Mapping[str, Any]) -> Extent:
    """How far to go; every mistake in it is a UsageError."""
    from pistar.tune.plan import Extent

    return Extent(**given)


def find_search(place: Path) -> Path:
    """``place``, where it is the directory of a search."""
    if not (place / "tune.toml").is_file():
        raise UsageError(f"{place} holds no search: it has no tune.toml (expected what `pistar tune --out` made)")
    return place


def groups(argv: Sequence[str]) -> list[flags.Group]:
    """Our own options, and the settings of ``train``."""
    return [flags.Group("", "options", lambda: Options), *request.groups(argv)[1:]]


def require_alone(arguments: flags.Arguments) -> None:
    """Refuse what ``--resume`` cannot change."""
    named = [name for name in arguments.values[""] if name not in (*EXTENT, "resume", "quiet")]
    named += [prefix for prefix in arguments.values if prefix]
    if named or arguments.words:
        what = ", ".join([*arguments.words, *(flags.spelled(name) for name in named)])
        raise UsageError(f"--resume goes on with the search as it was planned; drop {what}, or begin another search")


def experiment_of(task: str, options: Options, values: Mapping[str, Mapping[str, Any]]) -> Experiment:
    """The experiment that a search starts from."""
    mine = request.Options(algorithm=options.algorithm, policy=options.policy, config=options.config)
    plain = {key: value for key, value in values.get("", {}).items() if key not in OWN}
    return request.resolve(task, mine, {**values, "": plain})


def fixed(base: Experiment, values: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The settings that flags have given, as TOML names them."""
    from pistar.experiment import KINDS

    kinds = {KINDS[sort].kind_of(getattr(base, sort)): sort for sort in ("algorithm", "policy")}
    found = {f"training.{name}" for name in values.get("", {}) if name not in OWN}
    for prefix, table in values.items():
        section = kinds.get(prefix, prefix)
        found |= {f"{section}.{name}" for name in table if prefix}
    return found


def plan_of(task: str, base: Experiment, options: Options, given: set[str]) -> Plan:
    """The plan of a search; every mistake in it is a UsageError."""
    from pistar.tune import plan, space

    method = plan.Method(task, options.seeds, sampler=options.sampler)
    return plan.Plan(method, base, space.dimensions(base, given, options.search))


def usual_place(task: str, base: Experiment) -> Path:
    """Where a search goes that was given no place; always the same, so that the same command goes on."""
    algorithm = str(base.to_table()["algorithm"]["kind"])
    return Path("runs") / re.sub(r"[^\w.+-]+", "-", f"tune-{task}-{algorithm}")


def report(study: Study, outcome: Outcome | None, place: Path, extent: Extent) -> str:
    """What came out, what it is worth, and what to do next."""
    from pistar.cli.outcome import quoted
    from pistar.report.numerals import aligned
    from pistar.tune import results

    counts = (
        f"{study.count('COMPLETE')} trials with a value, {study.count('PRUNED')} stopped, {study.count('FAIL')} failed"
    )
    if outcome is None:
        return f"{counts}: nothing to choose from yet; go on with `pistar tune --resume {quoted(place)}`"
    lines = [f"{study.plan.method.task}: {counts}; chosen: trial {outcome.chosen.number}", ""]
    lines += [*aligned(results.settings_rows(study, outcome)), ""]
    compared = outcome.comparison
    if compared is not None:
        lines += [
            results.words(compared.area, "area under the curve", len(compared.seeds)),
            results.words(compared.final, "return at the end", len(compared.seeds)),
            "",
        ]
    elif extent.compare:
        lines += ["the defaults are the best that was found", ""]
    names = ("best.toml", "trials.csv", "result.json", "history.png", "settings.png", "comparison.png")
    lines += [str(place / name) for name in names if (place / name).exists()]
    lines += ["", "next:", f"  pistar train {study.plan.method.task} --config {quoted(place / 'best.toml')}"]
    if extent.storage is None:
        lines.append(f"  optuna-dashboard {quoted(place / 'journal.log')}")
    return "\n".join(lines)

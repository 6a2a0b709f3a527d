"""What is searched: which settings, in which ranges, and how a point of that space becomes an experiment.

A dimension is named as TOML names its setting, ``algorithm.clip`` or ``training.learning_rate``. Its range is the one
declared beside the field (`pistar.ranges`), replaced by what an algorithm says about training (`training_ranges`), replaced by
what the user asks for. A range is widened to hold the starting point, because that is the first trial.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pistar import configuration
from pistar.errors import UnknownName, UsageError
from pistar.experiment import KINDS, Experiment, Training, complete
from pistar.fields import field_types, is_union
from pistar.ranges import Choices, Interval, Range, Scale, declared
from pistar.schedules import Schedule

SECTIONS = ("algorithm", "training", "policy")
USUAL = ("algorithm", "training")  # what is searched where nothing is asked for
FIXED = (
    "steps",
    "schedule_steps",
    "seed",
    "time_limit",
    "stop_at",
    "workers",
    "threads",
    "device",
    "start_method",
    "overlap",
)
Value = bool | int | float | str


@dataclass(frozen=True)
class Dimension:
    """One setting and where it may lie."""

    section: str  # a table of the experiment
    field: str
    range: Range

    @property
    def name(self) -> str:
        """As TOML names it."""
        return f"{self.section}.{self.field}"

    @property
    def parameter(self) -> str:
        """What the study calls it: the quantity that is sampled."""
        complement = isinstance(self.range, Interval) and self.range.scale == "complement"
        return f"1 - {self.name}" if complement else self.name


def dimensions(base: Experiment, given: Iterable[str], asked: Sequence[str]) -> tuple[Dimension, ...]:
    """The dimensions of a search around ``base``.

    ``given`` are settings that the user has set and that are held fixed therefore, ``asked`` the words of ``--search``: a
    setting, a setting with a range (``ppo.clip=0.1:0.3:log``, ``lanes=8/16``) or a whole table (``policy``).
    """
    known = {section: ranges_of(base, section) for section in SECTIONS}
    wanted: dict[str, Range] = {}
    for word in asked or USUAL:
        if word in SECTIONS:
            found = {f"{word}.{field}": found for field, found in known[word].items()}
            wanted |= {name: each for name, each in found.items() if name not in wanted and name not in given}
            continue
        text, _, range_text = word.partition("=")
        section, field = locate(base, text)
        name = f"{section}.{field}"
        if range_text:
            wanted[name] = read_range(range_text, base, section, field)
        elif field in known[section]:
            wanted[name] = known[section][field]
        else:
            raise UsageError(f"--search {text}: {name} has no range of its own; give one, as --search {text}=LOW:HIGH")
    result = tuple(
        dimension
        for name, each in wanted.items()
        if (dimension := around(base, named(name, each), strict=name_is_asked(name, base, asked)))
    )
    if not result:
        raise UsageError("nothing is left to search: every setting with a range is given; name some by --search")
    return result


def named(name: str, reach: Range) -> Dimension:
    """The dimension of a setting as TOML names it."""
    section, _, field = name.partition(".")
    return Dimension(section, field, reach)


def ranges_of(base: Experiment, section: str) -> dict[str, Range]:
    """Field -> range of one table, as the classes declare it."""
    part = getattr(base, section)
    found = declared(type(part))
    if section == "training":
        own: Mapping[str, Range | None] = base.algorithm.training_ranges
        for field, each in own.items():
            found.pop(field, None)
            if each is not None:
                found[field] = each
    if section == "algorithm" and base.task.discount is not None:
        found.pop("discount", None)  # it belongs to the problem
    return found


def around(base: Experiment, dimension: Dimension, strict: bool) -> Dimension | None:
    """The dimension with a range that holds the base's value; None (``strict``: an error) where its scale has no place."""
    value, reach = current(base, dimension), dimension.range
    fits = (
        isinstance(value, int | float) and reach.holds(value)
        if isinstance(reach, Interval)
        else not isinstance(value, dict)
    )
    if not fits:
        if strict:
            raise UsageError(
                f"--search: {dimension.name} is {value!r}, which its range has no place for; set another one"
            )
        return None
    return dataclasses.replace(dimension, range=reach.including(value))


def current(base: Experiment, dimension: Dimension) -> Any:
    """A setting's value as a table holds it; of a schedule, its start."""
    value = getattr(getattr(base, dimension.section), dimension.field)
    if isinstance(value, Schedule):
        if value.start == 0 and value.end != 0:
            return None  # its end could not move in proportion
        return value.start
    return tuple(value) if isinstance(value, tuple | list) else value


# ---- what the user asks for ------------------------------------------------------------------------------------------


def name_is_asked(name: str, base: Experiment, asked: Sequence[str]) -> bool:
    """Whether a word names this setting itself, and not its whole table."""
    words = [word.partition("=")[0] for word in asked if word not in SECTIONS]
    return any(".".join(locate(base, word)) == name for word in words)


def locate(base: Experiment, text: str) -> tuple[str, str]:
    """(table, field) of a setting, spelled as flags spell it (``ppo.clip``, ``learning-rate``) or as TOML does."""
    spelled = text.removeprefix("--").replace("-", "_")
    prefix, _, field = spelled.rpartition(".")
    kinds = {KINDS[s].kind_of(getattr(base, s)).replace("-", "_"): s for s in ("algorithm", "policy")}
    section = {"": "training", **kinds}.get(prefix, prefix)
    possible = {s: [name for name in types_of(base, s) if not (s == "training" and name in FIXED)] for s in SECTIONS}
    if section not in SECTIONS or field not in possible[section]:
        shown = {"training": "", **{s: f"{kind}." for kind, s in kinds.items()}}
        known = [f"{shown[s]}{name}".replace("_", "-") for s, names in possible.items() for name in names]
        raise UnknownName("setting to search", text, known)
    return section, field


def read_range(text: str, base: Experiment, section: str, field: str) -> Range:
    """``LOW:HIGH``, ``LOW:HIGH:log`` or ``A/B/C``."""
    where, expected = f"--search {section}.{field}", types_of(base, section)[field]
    if "/" in text:
        return Choices(tuple(choice(expected, word, where) for word in text.split("/")))
    low, _, rest = text.partition(":")
    high, _, scale = rest.partition(":")
    if scale and scale not in get_args(Scale):
        raise UnknownName(f"scale in {where}:", scale, get_args(Scale))
    if number_type(expected) is None:
        raise UsageError(f"{where}: it is no number, so it needs choices, as {field}=A/B; received {text!r}")
    try:
        return Interval(float(low), float(high), scale or "linear")  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(f"{where}: expected LOW:HIGH, LOW:HIGH:log or A/B/C, received {text!r}") from error
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def choice(expected: Any, word: str, where: str) -> Any:
    """One of several choices in the type of its field."""
    number: Any = word
    try:
        number = {"true": True, "false": False}.get(word)
        number = float(word) if number is None else number
    except ValueError:
        number = word
    if number_type(expected) is float and isinstance(number, float):
        return number
    return configuration.plain(configuration.convert(expected, number, where))


def types_of(base: Experiment, section: str) -> dict[str, Any]:
    """Field -> type of one table."""
    cls: Any = type(getattr(base, section))
    return field_types(cls)


def number_type(expected: Any) -> type[int] | type[float] | None:
    """Int or float where a field is a number or a schedule, None or not."""
    members = get_args(expected) if is_union(expected) else (expected,)
    if Schedule in members or float in members:
        return float
    return int if int in members else None


# ---- points ----------------------------------------------------------------------------------------------------------


def is_integral(base: Experiment, dimension: Dimension) -> bool:
    """Whether an interval holds whole numbers."""
    return number_type(types_of(base, dimension.section)[dimension.field]) is int


def label(value: Any) -> Value:
    """A choice as a study can hold it: a scalar, or a list in words."""
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else value


def start(base: Experiment, searched: Sequence[Dimension]) -> dict[str, Value]:
    """The base itself as a point: parameter -> value."""
    point: dict[str, Value] = {}
    for dimension in searched:
        value = current(base, dimension)
        if dimension.parameter != dimension.name:
            value = 1 - value
        point[dimension.parameter] = label(value)
    return point


def place(base: Experiment, searched: Sequence[Dimension], point: Mapping[str, Value]) -> Experiment:
    """The experiment at a point, which is checked as any settings are."""
    tables = open_tables(base)
    for dimension in searched:
        value: Any = point[dimension.parameter]
        if isinstance(dimension.range, Choices):
            value = next(each for each in dimension.range.values if label(each) == value)
        elif dimension.parameter != dimension.name:
            value = 1 - float(value)
        now = getattr(getattr(base, dimension.section), dimension.field)
        if isinstance(now, Schedule) and now.start != value:
            value = configuration.plain(moved(now, float(value)))
        elif isinstance(now, Schedule):
            continue
        tables[dimension.section] = {**tables[dimension.section], dimension.field: configuration.plain(value)}
    return complete(Experiment.from_table(tables, "the trial"))


def open_tables(base: Experiment) -> dict[str, Any]:
    """The tables of an experiment, those values left open that follow from the others (`experiment.complete`)."""
    tables, bare = base.to_table(), dataclasses.replace
    derived = complete(
        bare(base, evaluation=bare(base.evaluation, every=None), checkpoints=bare(base.checkpoints, every=None))
    )
    for name in ("evaluation", "checkpoints"):
        if getattr(derived, name) == getattr(base, name):
            tables[name] = {key: value for key, value in tables[name].items() if key != "every"}
    return tables


def moved(schedule: Schedule, begin: float) -> Schedule:
    """A schedule of the same shape that starts at ``begin``; its end keeps its proportion to the start."""
    end = begin if schedule.start == schedule.end else schedule.end * begin / schedule.start
    return Schedule(begin, end, schedule.shape)


def require_comparable(training: Training) -> None:
    """Refuse settings that end a run early: areas under curves of different length cannot be compared."""
    for name in ("stop_at", "time_limit"):
        if getattr(training, name) is not None:
            raise UsageError(f"{name} ends trials early, so that they cannot be compared; take it out of the --config")

"""What a rule of the diagnosis says of a run, and what all rules ask of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pistar.report.curves import values_of
from pistar.report.finished import Finished, mapping, pair
from pistar.report.sink import finite

Level = Literal["ill", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One illness of one run; ``key`` is the same for the same illness of another."""

    key: str
    level: Level
    title: str
    what: str  # seen, with numbers
    remedy: str  # what to do next


def series(run: Finished, name: str) -> NDArray[np.float64]:
    """The values of a metric, in order of steps: [N]."""
    return values_of(run.flat, (name,))[1]


def later(values: NDArray[np.float64], part: float = 0.5) -> NDArray[np.float64]:
    """The last ``part`` of a series."""
    return values[int(len(values) * (1 - part)) :]


def spread_of_returns(run: Finished) -> float:
    """From the least to the greatest return seen, in training, in evaluations and of baselines: what makes a gap large."""
    seen = [*series(run, "return"), *(mean for _, mean in run.points())]
    seen += [value for value in baselines(run).values() if value is not None]
    return max(seen) - min(seen) if seen else 0.0


def baselines(run: Finished) -> dict[str, float | None]:
    """Name -> mean return, of the final evaluation."""
    table = mapping((run.final or {}).get("baselines"))
    return {name: finite(mapping(each).get("mean")) for name, each in table.items()}


def solved(run: Finished) -> bool:
    """Whether the last evaluation reaches the task's threshold."""
    points = run.points()
    return run.threshold is not None and bool(points) and points[-1][1] >= run.threshold


def beats_controllers(run: Finished) -> bool:
    """Whether there are baselines beside random actions, and the policy is better than each without a doubt."""
    table = mapping((run.final or {}).get("baselines"))
    ends = [pair(mapping(each).get("interval")) for name, each in table.items() if name != "random"]
    return bool(ends) and all(each is not None and each[0] > 0 for each in ends)

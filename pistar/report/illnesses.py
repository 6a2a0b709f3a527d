"""Rules about what goes wrong inside a run: policy, updates, critic, observations, actions.

Each looks at a run's records for one illness and gives a `Finding` or nothing. What comes of a run is judged in ``outcomes``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pistar.report.curves import values_of
from pistar.report.finding import Finding, beats_controllers, later, series, solved, spread_of_returns
from pistar.report.finished import Finished, mapping
from pistar.report.numerals import number
from pistar.report.sink import finite

CERTAIN = 0.05  # of the first entropy: a discrete policy with less has made up its mind
NARROW = -2.0  # nats a dimension: a Gaussian with less has a deviation below 3 % of the action's half range
GAUSSIAN = 0.5 * math.log(2 * math.pi * math.e)  # entropy of a Gaussian of deviation 1, nats
FAR = 0.05  # nats of KL in one update; healthy ones stay near 0.01
CLIPPED = 0.4  # share of ratios beyond the clip; healthy ones stay below 0.25
EXPLAINED = 0.1  # of the targets' variance
ERROR = 0.1  # of its first value: a critic that explains little of little variance may still err by less
BOUNDED = 0.5  # share of action entries at their bounds; healthy ones stay below 0.2
MOVED = 1e-3  # root mean square of the first log-ratio; rounding stays below 1e-4


# ---- the policy ------------------------------------------------------------------------------------------------------


def entropy_collapse(run: Finished) -> Finding | None:
    """A policy that made up its mind before the middle of the run, and has not become better since.

    So does one that has learned all there is. Where threshold and baselines do not tell, the return up to then does: who had
    gained little could not have converged.
    """
    steps, entropy = values_of(run.flat, ("update/entropy",))
    limit = least_entropy(run.action_space, entropy)
    if limit is None or solved(run) or beats_controllers(run):
        return None
    below = np.flatnonzero(entropy < limit)
    if not len(below) or below[0] > len(entropy) // 2 or np.median(later(entropy)) >= limit:
        return None
    since, span = float(steps[below[0]]), spread_of_returns(run)
    if gain(run, since=since) > 0.1 * span:
        return None
    learned = gain(run, until=since) > 0.5 * span
    return Finding(
        "entropy",
        "warning" if learned else "ill",
        "The policy stopped exploring early",
        f"Entropy fell from {number(entropy[0])} to {number(entropy[below[0]])} nats within {number(steps[below[0]])} steps, and "
        f"the return has not improved since; at the end it is {number(entropy[-1])}. A policy that always does the same "
        "sees nothing new to learn from." + (" It may also have learned all there is." if learned else ""),
        "Raise entropy-weight (0.01 is usual for discrete actions) or lower the learning rate.",
    )


def gain(run: Finished, since: float = 0.0, until: float = math.inf) -> float:
    """By how much the return in training at ``until`` steps is above that at ``since`` steps."""
    steps, returns = values_of(run.flat, ("return",))
    between = returns[(steps >= since) & (steps <= until)]
    return float(between[-1] - between[0]) if len(between) else 0.0


def least_entropy(space: Mapping[str, Any], entropy: NDArray[np.float64]) -> float | None:
    """The entropy below which a policy over ``space`` does as good as always the same; None where it cannot be told."""
    kinds = list(leaf_spaces(space))
    if len(entropy) < 4 or not kinds:
        return None
    if all(kind == "box" for kind, _ in kinds):
        return NARROW * sum(size for _, size in kinds)
    if all(kind != "box" for kind, _ in kinds):
        return CERTAIN * float(entropy[0])
    return None


def leaf_spaces(space: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """(kind, entries) of every leaf of a space in the form of `pistar.spaces`."""
    kind, children = space.get("kind"), space.get("children")
    if isinstance(children, list):
        for child in children:
            yield from leaf_spaces(mapping(child[1] if isinstance(child, list) and len(child) == 2 else child))
    elif isinstance(kind, str):
        shape = space.get("shape")
        yield kind, math.prod(n for n in shape if isinstance(n, int)) if isinstance(shape, list) else 1


def largest(value: Any) -> float:
    """The number, or the greater end of a schedule; 0 for what is neither."""
    ends = (value.get("from"), value.get("to")) if isinstance(value, Mapping) else (value,)
    return max(finite(end) or 0.0 for end in ends)


def large_updates(run: Finished) -> Finding | None:
    """Updates that move the policy further than the samples they come from can tell."""
    kl, clipped = series(run, "update/kl"), series(run, "update/clip_fraction")
    allowed = max(largest(run.settings.get(f"algorithm.{name}")) for name in ("wanted_kl", "max_kl"))
    limit = 2 * allowed if allowed >= FAR else FAR  # whoever asks for large steps gets them; a default does not ask
    worst = max((float(np.median(part)) for part in quarters(kl)), default=0.0)
    worst_clip = max((float(np.median(part)) for part in quarters(clipped)), default=0.0)
    if worst <= limit and worst_clip <= CLIPPED:
        return None
    return Finding(
        "kl",
        "ill" if worst > 4 * limit else "warning",
        "Updates move the policy too far",
        f"In the worst quarter of the run an update moves the policy by a KL divergence of {number(worst)} nats (healthy: about "
        f"0.01) and {100 * worst_clip:.0f} % of the ratios lie beyond the clip (healthy: below 25 %).",
        "Lower the learning rate, take fewer epochs or larger minibatches, or stop epochs early with --ppo.max-kl 0.02.",
    )


def quarters(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Four parts of a series of at least four values."""
    return [part for part in np.array_split(values, 4) if len(part)] if len(values) >= 4 else []


def first_ratio(run: Finished) -> Finding | None:
    """Learning evaluates another policy than the one that acted."""
    error = series(run, "update/first_ratio_error")
    if not len(error) or error.max() <= MOVED or finite(run.settings.get("training.lag")):
        return None
    return Finding(
        "ratio",
        "ill",
        "The ratio is not 1 on the first minibatch",
        f"Before the first gradient step of an iteration, log π / π_old should be 0; it is {number(float(np.median(error)))} (root "
        f"mean square), at worst {number(float(error.max()))}. What learning evaluates is not what acted, so every update is off.",
        "Look for dropout or batch normalisation in the policy, for moments that move between acting and learning, and for "
        "randomness in the forward pass; pistar.testing.check_algorithm finds most of them.",
    )


def actions_at_bounds(run: Finished) -> Finding | None:
    """Most of what the environment is given is a bound."""
    names = sorted(
        {name for record in run.flat for name in record if name.startswith("action/") and name.endswith("at_bounds")}
    )
    shares = {name: float(np.median(later(series(run, name), 0.25))) for name in names}
    name = max(shares, key=lambda each: shares[each], default=None)
    if name is None or shares[name] <= BOUNDED:
        return None
    part = name.removeprefix("action/").removesuffix("at_bounds").strip("/")
    return Finding(
        "bounds",
        "warning",
        "Actions lie at their bounds",
        f"{100 * shares[name]:.0f} % of the action's entries{f' in {part}' if part else ''} are at a bound in the last quarter of "
        f"the run ({100 * float(series(run, name)[0]):.0f} % in its first iteration). Beyond a bound every action is the same one, "
        "and its gradient says nothing.",
        "Where full force is not what the task calls for: lower the entropy-weight or initial-log-std, check the scale of the "
        "action space, or squash actions.",
    )


# ---- the critic ------------------------------------------------------------------------------------------------------


def dead_value_function(run: Finished) -> Finding | None:
    """A critic that explains nothing although there is something to explain."""
    explained, error = series(run, "update/explained_variance"), series(run, "update/value_error")
    push = series(run, "gradient/critic")
    if len(push) >= 2 and push.max() == 0.0:
        return Finding(
            "value",
            "ill",
            "The value function is dead",
            "The critic's gradient is exactly 0 in every update that was looked at: it stays what it was before training, and "
            "advantages are measured from arbitrary values.",
            "Check that value-weight is above 0 and that the critic's parameters can change.",
        )
    if len(explained) < 4 or len(error) < 4:
        return None
    late, late_error = float(np.median(later(explained))), float(np.median(later(error)))
    first_error = float(np.median(error[: max(1, len(error) // 20)]))
    # Where all returns are alike, as in a solved task, there is no variance to explain; the error is small then.
    if late >= EXPLAINED or late_error <= ERROR * first_error:
        return None
    return Finding(
        "value",
        "ill",
        "The value function is dead",
        f"In the second half of the run the critic explains {100 * max(late, -9.99):.0f} % of the variance of its targets (median; "
        f"healthy: above 50 %), and its squared error is {number(late_error)}, {number(late_error / max(first_error, 1e-12))} times that "
        "at the start. Advantages are then as noisy as returns.",
        "Check value-weight (0 never trains the critic), the learning rate, normalize-rewards, and whether the observation tells "
        "what the return depends on.",
    )


# ---- what is seen ----------------------------------------------------------------------------------------------------


def still_observation(run: Finished) -> Finding | None:
    """An entry of the observation that has had one value in all that was looked at."""
    looks: dict[str, list[dict[str, Any]]] = {}
    for record in run.records:
        for name, entries in record.items():
            if name.startswith("observation") and name.endswith("/unvarying") and isinstance(entries, Mapping):
                looks.setdefault(name, []).append(dict(entries))
    still = []
    for name, found in looks.items():
        part = name.removeprefix("observation").removesuffix("unvarying").strip("/")
        first = found[0]
        entries = [i for i, value in first.items() if all(i in each and each[i] == value for each in found)]
        still += [f"{part + ' ' if part else ''}{i} (always {number(finite(first[i]) or 0.0)})" for i in entries]
    if not still or max(map(len, looks.values())) < 2:
        return None
    listed = ", ".join(still[:8]) + (f" and {len(still) - 8} more" if len(still) > 8 else "")
    return Finding(
        "still",
        "warning",
        "An observation never varies" if len(still) == 1 else "Observations never vary",
        f"Observation {'entry' if len(still) == 1 else 'entries'} {listed} had one value in every step that was looked at. "
        "Nothing can be learned from it, and a sensor that is not connected looks just like this.",
        "Check where the environment fills it in; leave it out if it is meant to be constant. `pistar doctor` examines an environment.",
    )

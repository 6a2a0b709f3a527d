"""The small worlds solved exactly: returns of random actions, of the best policy, and the most without a needed feature.

All is undiscounted and of finite episodes, by backward induction

    V_t(s) = E_w[ choose_{a} ( r + V_{t+1}(s') ) ]

where w is what chance shows before the choice (a mask, say). A bound lets a policy know all that it may without the feature,
the step included, so that no training can exceed it but by luck in the evaluation. `pistar.tasks.puzzles` states the numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from pistar.envs.puzzles import catch, corridor, gearbox, grid, parts, pursuit, signals, turns

Returns = Mapping[str, float]  # "random", "optimum" and each needed feature


def recall_corridor() -> Returns:
    """At the fork both ways look alike and the sign is gone: without memory at most one in two is right."""
    position, won = [1.0] + [0.0] * corridor.LENGTH, 0.0
    for _ in range(corridor.TIME_LIMIT):
        at_fork = position[-1]
        won += at_fork / 3
        moved = [p * 2 / 3 + before / 3 for p, before in zip(position, [0.0, *position], strict=False)]
        moved[-1] = at_fork / 3 + position[-2] / 3
        position = moved
    return {"random": won, "optimum": 1.0, "memory": 1 / 2}


def masks(ways: Sequence[bool], chance: float) -> Iterator[tuple[tuple[bool, ...], float]]:
    """Every set of open ways with its probability: those of ``ways``, each with ``chance``, but never none of them."""
    inside = sum(ways)
    for mask in itertools.product((False, True), repeat=len(ways)):
        number = sum(mask)
        if number == 0 or any(is_open and not way for is_open, way in zip(mask, ways, strict=True)):
            continue
        probability = chance**number * (1 - chance) ** (inside - number)
        yield mask, probability + (number == 1) * (1 - chance) ** inside / inside


Choice = Callable[[Sequence[float], Sequence[tuple[tuple[bool, ...], float]]], float]


def best_allowed(values: Sequence[float], shown: Sequence[tuple[tuple[bool, ...], float]]) -> float:
    """E over masks of the best open way."""
    return sum(p * max(v for v, is_open in zip(values, mask, strict=True) if is_open) for mask, p in shown)


def any_allowed(values: Sequence[float], shown: Sequence[tuple[tuple[bool, ...], float]]) -> float:
    """E over masks of a random open way."""
    return sum(p * sum(v for v, o in zip(values, mask, strict=True) if o) / sum(mask) for mask, p in shown)


def best_blind(values: Sequence[float], shown: Sequence[tuple[tuple[bool, ...], float]]) -> float:
    """The best way for one who does not know which are open: a closed one is worth nothing."""
    return max(v * sum(p for mask, p in shown if mask[way]) for way, v in enumerate(values))


Cell = tuple[int, int]


def induction(worth: Mapping[Cell, float], steps: int, choice: Choice) -> list[dict[Cell, float]]:
    """The value of every cell with 0, 1, ..., ``steps`` to go, where goals are ``worth`` so much and end the episode."""
    cells = list(itertools.product(range(grid.SIZE), range(grid.SIZE)))
    found = [dict.fromkeys(cells, 0.0)]
    for _ in range(steps):
        values, before = found[-1], {}
        for cell in cells:
            after = [(cell[0] + dx, cell[1] + dy) for dx, dy in parts.MOVES]
            shown = list(masks([each in values for each in after], grid.OPEN))
            before[cell] = choice([worth.get(each, values.get(each, 0.0)) for each in after], shown)
        found.append(before)
    return found


def walked(worth: Mapping[Cell, float], entrance: Cell, steps: int, choice: Choice) -> float:
    """The value of the entrance."""
    return induction(worth, steps, choice)[-1][entrance]


def masked_grid() -> Returns:
    """Without the mask a way is open with a probability that depends on the cell alone."""
    rules = {"random": any_allowed, "optimum": best_allowed, "mask": best_blind}
    entrance = grid.ENTRANCE[False]
    return {name: walked({grid.GOALS[0]: 1.0}, entrance, grid.TIME_LIMIT, rule) for name, rule in rules.items()}


def recall_grid() -> Returns:
    """Nobody moves while the sign is shown, so that without memory each goal is worth one half."""
    known, unknown = {grid.GOALS[0]: 1.0, grid.GOALS[1]: 0.0}, dict.fromkeys(grid.GOALS, 0.5)
    entrance, steps = grid.ENTRANCE[True], grid.TIME_LIMIT - 1
    return {
        "random": walked(known, entrance, steps, any_allowed),
        "optimum": walked(known, entrance, steps, best_allowed),
        "mask": walked(known, entrance, steps, best_blind),
        "memory": walked(unknown, entrance, steps, best_allowed),
    }


def dark_catch() -> Returns:
    """Balls are alike in all columns, so that one who does not look catches one in seven, whatever it does.

    Without memory, what is known of the ball after the first step is where the paddle went: one of three columns.

    Let e(b|p) be the probability to end in column b from column p behind the first step, when the ball is seen no more. The
    return is at most 1/7 Σ_b max_p e(b|p) <= 1/7 Σ_p Σ_b e(b|p) = 3/7, for random and deterministic policies alike.
    """
    return {"random": 1 / catch.COLUMNS, "optimum": 1.0, "memory": 3 / catch.COLUMNS, "image": 1 / catch.COLUMNS}


def mixed_gearbox() -> Returns:
    """All is drawn anew in each step, so that one step says it all; E|u − v| of two loads is 2/3, of a load 1/2."""
    shown = list(itertools.product((False, True), repeat=gearbox.GEARS))[1:]
    even = [(mask, 1 / len(shown)) for mask in shown]
    best, blind = best_allowed(gearbox.WORTH, even), best_blind(gearbox.WORTH, even)
    engaged = sum(mask[0] for mask in shown) / len(shown)
    fixed = engaged * sum(gearbox.WORTH) / gearbox.GEARS
    return {
        "random": any_allowed(gearbox.WORTH, even) * (1 - 2 / 3),
        "optimum": best,
        "mask": blind,
        "the pedal": best * (1 - 1 / 2),
        "the gear": fixed,
    }


@lru_cache(maxsize=1)
def pair_pursuit() -> Returns:
    """Over the offsets of both hunters, 49² states; a bound with one hunter lets it know all, the step included."""
    size, steps = pursuit.SIZE, torch.tensor(pursuit.STEPS)
    cell = torch.cartesian_prod(torch.arange(size), torch.arange(size))
    away = (cell + size // 2) % size - size // 2
    beside = away.abs().sum(1) <= 1
    caught = (beside.unsqueeze(1) & beside).double()
    number = torch.tensor([size, 1])
    # [cells, own step, prey's step] -> cell
    after = ((cell[:, None, None] + steps[:, None] - steps) % size * number).sum(-1)

    def solve(choose: Callable[[Tensor], Tensor]) -> float:
        values = torch.zeros_like(caught)
        for _ in range(pursuit.TIME_LIMIT):
            worth = torch.where(caught > 0, 1.0, values)
            moved = [worth[after[:, :, m]][..., after[:, :, m]] for m in range(len(steps))]  # [S, A, S, A]
            values = choose(torch.stack(moved).mean(0))
        return float(values.mean())

    return {
        "random": solve(lambda q: q.mean((1, 3))),
        "optimum": solve(lambda q: q.amax((1, 3))),
        "partner": solve(lambda q: q.mean(3).amax(1)),
    }


def word_signals() -> Returns:
    """Without a speaker nothing tells the listener of the colour."""
    return {"random": 1 / signals.COLOURS, "optimum": 1.0, "speaker": 1 / signals.COLOURS}


def recall_turns() -> Returns:
    """The open card tells nothing of the one before."""
    return {"random": 1 / turns.CARDS, "optimum": 1.0, "memory": 1 / turns.CARDS}

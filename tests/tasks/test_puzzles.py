"""The small tasks: what they state is what is computed, and what is computed is what simulation and enumeration find."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pistar import artefact, serialization
from pistar.api import train
from pistar.cli import outcome, request
from pistar.envs.native import NativeEnvironment
from pistar.envs.puzzles import catch, corridor, gearbox, grid, pursuit
from pistar.envs.puzzles.catch import DarkCatch
from pistar.envs.puzzles.corridor import Corridor
from pistar.envs.puzzles.gearbox import Gearbox
from pistar.envs.puzzles.grid import Grid
from pistar.envs.puzzles.turns import CARDS, Turns
from pistar.evaluation import play
from pistar.experiment import Experiment
from pistar.grouped_session import opened
from pistar.tasks import TASKS, baselines, puzzles_exact
from pistar.tasks.puzzles import RecallCorridor
from pistar.tasks.task import Execution, Need, Scores
from pistar.watching import Performance

NAMES = [name for name in TASKS.names() if TASKS.get(name).scores is not None]
every_name = pytest.mark.parametrize("name", NAMES)


def scores_of(name: str) -> Scores:
    scores: Scores | None = TASKS.get(name).scores
    assert scores is not None
    return scores


def needs() -> list[Any]:
    every = [(name, need) for name in NAMES for need in scores_of(name).needs]
    return [pytest.param(name, need, id=f"{name}-{need.feature}") for name, need in every]


def computed(name: str) -> dict[str, float]:
    return dict(getattr(puzzles_exact, name.replace("-", "_"))())


@every_name
def test_what_is_stated_is_what_is_computed(name: str) -> None:
    scores = scores_of(name)
    stated = {"random": scores.random, "optimum": scores.optimum}
    stated |= {need.feature: need.bound for need in scores.needs}
    assert stated == pytest.approx(computed(name), abs=1e-9)
    assert all(scores.random < scores.optimum > need.bound for need in scores.needs)


@every_name
def test_random_actions_earn_what_is_stated(name: str) -> None:
    """Within four standard errors of 2,000 episodes."""
    task = TASKS.get(name)()
    environment = task.environment(200 * task.agents, Execution(), training=False)
    played = play(environment, baselines.random(environment, 0), 10, 5).of_worlds(task.agents)
    error = played.returns.std() / math.sqrt(played.returns.size)
    assert abs(played.returns.mean() - scores_of(name).random) <= 4 * error


def test_the_page_says_the_same() -> None:
    """The table of the how-to, a row for each need; a task's further rows leave its own cells empty."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "see-that-features-work.md"
    rows = [
        [cell.strip(" `") for cell in line.split("|")[1:-1]] for line in page.read_text().splitlines() if "|" in line
    ]
    told: dict[tuple[str, str], tuple[float, ...]] = {}
    task, whole = "", (0.0, 0.0)
    for name, _, random, optimum, feature, bound in rows[2:]:
        task = name or task
        whole = (float(random), float(optimum)) if name else whole
        told[task, feature] = (*whole, float(bound))
    scores = {name: scores_of(name) for name in NAMES}
    expected = {(n, need.feature): (s.random, s.optimum, need.bound) for n, s in scores.items() for need in s.needs}
    assert told.keys() == expected.keys()
    for key, numbers in told.items():
        assert numbers == pytest.approx(expected[key], abs=6e-4), key


# ---- bounds, in other ways -------------------------------------------------------------------------------------------


def test_the_fork_looks_alike_and_one_action_serves_one_side() -> None:
    """So that any policy of what is seen there is right for at most one of the two sides."""
    environment = Corridor(2)
    both = torch.tensor([0, 1])
    for position in range(corridor.LENGTH + 1):
        world = {"position": torch.full((2,), position), "side": both, "clock": torch.ones(2, dtype=torch.int64)}
        assert torch.equal(*environment.observe(world).unbind(0))
        rewards = [environment.dynamics(world, torch.full((2,), action)).reward for action in range(3)]
        assert max(float(each.sum()) for each in rewards) == float(position == corridor.LENGTH)


def test_memoryless_policies_catch_three_balls_of_seven() -> None:
    """All 3⁷ ways to go by the paddle's column alone, each with the best first step for every ball."""
    ways = torch.tensor(list(itertools.product(range(3), repeat=catch.COLUMNS)))  # [3⁷, column] -> action
    environment = DarkCatch(len(ways))
    first = torch.arange(catch.COLUMNS // 2 - 1, catch.COLUMNS // 2 + 2)  # where the paddle is behind the first step
    ends = []
    for start in first:
        world = {name: torch.zeros(len(ways), dtype=torch.int64) for name in ("ball", "clock")}
        world = {**world, "clock": world["clock"] + 1, "paddle": start.expand(len(ways))}
        for _ in range(catch.STEPS - 1):
            world = environment.dynamics(world, ways.gather(1, world["paddle"].unsqueeze(1)).squeeze(1)).world
        ends.append(world["paddle"])
    caught = (torch.stack(ends).unsqueeze(-1) == torch.arange(catch.COLUMNS)).any(0).sum(-1)  # [3⁷] balls
    assert int(caught.max()) / catch.COLUMNS == pytest.approx(computed("dark-catch")["memory"])


def test_a_grid_of_four_cells_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps: any way first, then the one of two that leads to the goal: open by itself, or as the last resort."""
    monkeypatch.setattr(grid, "SIZE", 2)
    opened_up = grid.OPEN + (1 - grid.OPEN) ** 2 / 2
    goal = {(1, 1): 1.0}
    assert puzzles_exact.walked(goal, (0, 0), 2, puzzles_exact.best_allowed) == pytest.approx(opened_up)
    assert puzzles_exact.walked(goal, (0, 0), 2, puzzles_exact.best_blind) == pytest.approx(opened_up**2)
    assert puzzles_exact.walked(goal, (0, 0), 2, puzzles_exact.any_allowed) == pytest.approx(1 / 2)


@pytest.mark.parametrize("recall", [False, True])
def test_the_best_walker_earns_the_optimum(recall: bool) -> None:
    """One that has the values of backward induction and sees the mask, in the world itself."""
    environment, lanes = Grid(20_000, recall=recall), 20_000
    seen, goal = environment.reset(2), environment.world["goal"]
    table = value_table(recall)
    total, playing = torch.zeros(lanes), torch.ones(lanes, dtype=torch.bool)
    for step in range(grid.TIME_LIMIT):
        cell = environment.world["cell"]
        worth = table[goal, grid.TIME_LIMIT - 1 - step, cell[:, 0], cell[:, 1]]  # [B, 4]
        outcome = environment.step(worth.masked_fill(seen["mask"] == 0, -1.0).argmax(1))
        total += outcome.reward * playing
        playing &= ~outcome.ended
        seen = outcome.observation
    expected = scores_of("recall-grid" if recall else "masked-grid").optimum
    assert float(total.mean()) == pytest.approx(expected, abs=4 * float(total.std()) / math.sqrt(lanes))


def value_table(recall: bool) -> Tensor:
    """What each way leads to, by goal, steps to go behind it and cell: [goals, T, S, S, 4]."""
    goals = grid.GOALS[: 2 if recall else 1]
    table = torch.zeros(len(goals), grid.TIME_LIMIT, grid.SIZE, grid.SIZE, 4)
    for number, goal in enumerate(goals):
        worth = {each: float(each == goal) for each in goals}
        for left, values in enumerate(puzzles_exact.induction(worth, grid.TIME_LIMIT - 1, puzzles_exact.best_allowed)):
            for x, y in values:
                after = [(x + 1, y), (x, y + 1), (x - 1, y), (x, y - 1)]
                row = [worth.get(each, values.get(each, 0.0)) for each in after]
                table[number, left, x, y] = torch.tensor(row)
    return table


@pytest.mark.parametrize("what", ["random", "optimum", "partner"])
def test_a_small_pursuit_by_plain_recursion(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all of a torus of 4 × 4, two steps long, one hunter's step and one of the prey's after the other."""
    size, moves = 4, pursuit.STEPS
    monkeypatch.setattr(pursuit, "SIZE", size)
    monkeypatch.setattr(pursuit, "TIME_LIMIT", 2)
    puzzles_exact.pair_pursuit.cache_clear()
    try:
        found = computed("pair-pursuit")[what]
    finally:
        puzzles_exact.pair_pursuit.cache_clear()
    mean: Callable[[list[float]], float] = lambda x: sum(x) / len(x)  # noqa: E731
    first, second = {"random": (mean, mean), "optimum": (max, max), "partner": (max, mean)}[what]

    def beside(offset: tuple[int, int]) -> bool:
        return sum(min(x, size - x) for x in offset) <= 1

    @functools.cache
    def value(one: tuple[int, int], other: tuple[int, int], left: int) -> float:
        if left == 0:
            return 0.0

        def fled(mine: tuple[int, int], theirs: tuple[int, int], prey: tuple[int, int]) -> float:
            moved = [
                ((o[0] + m[0] - prey[0]) % size, (o[1] + m[1] - prey[1]) % size)
                for o, m in ((one, mine), (other, theirs))
            ]
            return 1.0 if all(map(beside, moved)) else value(moved[0], moved[1], left - 1)

        return first([second([mean([fled(a, b, prey) for prey in moves]) for b in moves]) for a in moves])

    cells = list(itertools.product(range(size), repeat=2))
    assert found == pytest.approx(mean([value(one, other, 2) for one in cells for other in cells]))


def test_drivers_of_each_kind_earn_what_is_computed() -> None:
    """The best of those who decide on both, on both without a mask, on the gear, on the pedal."""
    expected = computed("mixed-gearbox")
    for what in ("optimum", "mask", "the pedal", "the gear"):
        environment = Gearbox(20_000)
        seen, total = environment.reset(4), torch.zeros(20_000)
        for _ in range(gearbox.STEPS):
            worth = torch.tensor(gearbox.WORTH)[(torch.arange(3) - seen["road"].unsqueeze(1)) % 3]
            gear = (worth if what == "mask" else worth * seen["mask"]["gear"]).argmax(1)
            pedal = torch.zeros(20_000, 1) if what == "the pedal" else seen["load"].clone()
            gear = torch.full_like(gear, 2) if what == "the gear" else gear
            step = environment.step({"gear": gear, "pedal": pedal})
            total, seen = total + step.reward, step.observation
        assert float(total.mean()) == pytest.approx(expected[what], abs=5 * float(total.std()) / math.sqrt(20_000)), (
            what
        )


def test_the_open_card_tells_nothing_of_the_one_to_name() -> None:
    environment: NativeEnvironment = Turns(20_000)
    environment.reset(0)
    world = {**environment.world, "clock": torch.full((20_000,), 5)}
    together = torch.zeros(CARDS, CARDS)
    pairs = (environment.card(world), environment.card(world, 2))  # type: ignore[attr-defined]
    together.index_put_(pairs, torch.ones(20_000), accumulate=True)
    torch.testing.assert_close(together / 20_000, torch.full((CARDS, CARDS), CARDS**-2.0), atol=0.01, rtol=0)


# ---- features, recipes, runs -----------------------------------------------------------------------------------------


def asked(line: str) -> Experiment:
    return request.read(line.split(), "usage: pistar train TASK").experiment


@pytest.mark.parametrize(("name", "need"), needs())
def test_the_flags_take_the_feature_away_and_nothing_else(name: str, need: Need) -> None:
    whole, lacking = asked(name).to_table(), asked(f"{name} {need.flags}").to_table()
    keys = [(table, key) for table in whole for key in whole[table].keys() | lacking[table].keys()]
    changed = {f"{table}.{key}" for table, key in keys if whole[table].get(key) != lacking[table].get(key)}
    allowed = {
        "memory": {"policy.memory"},
        "mask": {"policy.mask", "policy.actor_keys"},
        "image": {"policy.actor_keys"},
        "the pedal": {"task.controls"},
        "the gear": {"task.controls", "policy.mask"},
        "partner": {"task.partner"},
        "speaker": {"task.speaker"},
    }
    task_alone = need.feature == "the pedal"  # then all actions are discrete, whose defaults are others
    assert changed == allowed[need.feature] or (task_alone and allowed[need.feature] <= changed)
    if need.feature in ("mask", "image"):
        session = opened(asked(f"{name} {need.flags} --lanes 4 --horizon 16 --warm-up 0"))
        seen = session.policy.trunk.view.space  # type: ignore[union-attr]
        entries = session.environment.spaces.observation.spaces  # type: ignore[attr-defined]
        session.close()
        named = need.flags.split()[-1].split(",")
        assert getattr(seen, "spaces", {named[0]: seen}) == {key: entries[key] for key in named}, (
            "it is no input either"
        )


@every_name
def test_a_short_run_is_judged_beside_the_exact_scores(name: str, tmp_path: Path) -> None:
    tiny: dict[str, Any] = {"steps": 64, "lanes": 4, "horizon": 16, "warm_up": 8, "quiet": True}
    result = train(name, out=tmp_path / "run", evaluation={"episodes": 4, "final_episodes": 4}, **tiny)
    scores, told = scores_of(name), result.evaluation.to_json()
    assert told["exact"]["without"] == {need.feature: need.bound for need in scores.needs}
    assert told["fraction_of_optimum"] == scores.fraction(result.evaluation.mean) == result.evaluation.fraction
    assert f"without {scores.needs[0].feature} at most" in outcome.of_judgement(result.evaluation)
    frames = list(Performance(artefact.load(tmp_path / "run" / "policy.safetensors"), TASKS.get(name)()).frames(1))
    assert frames[0].shape == (480, 480, 3)
    assert any((frame != frames[0]).any() for frame in frames), "what `pistar watch` shows"


@every_name
def test_a_run_is_resumed_bit_for_bit(name: str, tmp_path: Path) -> None:
    """An iteration after the first one, in the session itself and in one that continues from its state as files keep it."""
    wanted = asked(f"{name} --lanes 4 --horizon 16 --warm-up 8 --seed 3")
    with contextlib.closing(opened(wanted)) as session:
        session.collector.start(wanted.training.warm_up)
        session.iterate(cut=False)
        serialization.write(tmp_path / "state", session.checkpoint(), "test")
        session.iterate(cut=False)
        expected = session.checkpoint()
    with contextlib.closing(opened(wanted, resumed=True)) as session:
        session.restore(serialization.read(tmp_path / "state", "test")[0])
        session.iterate(cut=False)
        found = session.checkpoint()
    for state in (expected, found):
        serialization.write(tmp_path / f"{state is found}", {**state, "seconds": 0.0}, "test")
    assert (tmp_path / "True").read_bytes() == (tmp_path / "False").read_bytes()


def test_a_wrapped_task_knows_no_exact_scores(tmp_path: Path) -> None:
    tiny: dict[str, Any] = {"steps": 64, "lanes": 4, "horizon": 16, "warm_up": 8, "quiet": True}
    tiny |= {"evaluation": {"episodes": 4, "final_episodes": 4}, "mlp": {"memory": "none"}}
    result = train(RecallCorridor(frame_stack=20), out=tmp_path / "run", **tiny)
    assert result.evaluation.scores is None
    assert "fraction_of_optimum" not in result.evaluation.to_json()


def test_the_mask_solves_the_grid_and_without_it_nobody_does(tmp_path: Path) -> None:
    """A short run of each; all of them: benchmarks/composition.py."""
    few: dict[str, Any] = {"steps": 40_000, "evaluation": {"every": 10**6, "final_episodes": 400}, "quiet": True}
    blind: dict[str, Any] = {"mlp": {"mask": None, "actor_keys": ("place",)}}
    whole = train("masked-grid", out=tmp_path / "whole", **few).evaluation
    lacking = train("masked-grid", out=tmp_path / "lacking", **few, **blind).evaluation
    scores = scores_of("masked-grid")
    assert scores.fraction(whole.mean) >= 0.9
    assert lacking.mean <= scores.needs[0].bound + 4 * math.sqrt(scores.needs[0].bound / 400)

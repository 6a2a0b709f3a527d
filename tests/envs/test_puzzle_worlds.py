"""The small worlds: the contract, what is hidden stays hidden, equal lanes for any number of lanes, pictures."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pistar.envs.allowed import OnlyAllowed, random_action
from pistar.envs.environment import Environment
from pistar.envs.native_agents import NativeAgents
from pistar.envs.puzzles import catch, corridor, gearbox, grid
from pistar.envs.puzzles.catch import DarkCatch
from pistar.envs.puzzles.corridor import Corridor
from pistar.envs.puzzles.gearbox import Gearbox
from pistar.envs.puzzles.grid import Grid
from pistar.envs.puzzles.pursuit import Pursuit
from pistar.envs.puzzles.signals import WORDS, Signals
from pistar.envs.puzzles.turns import Turns
from pistar.errors import NumericalError, UsageError
from pistar.tasks import TASKS
from pistar.tasks.task import Execution, Task
from pistar.testing import check_environment
from pistar.tree import map_leaves

NAMES = [name for name in TASKS.names() if TASKS.get(name).scores is not None]
LACKING = {
    "gear": TASKS.get("mixed-gearbox")(controls="gear"),
    "pedal": TASKS.get("mixed-gearbox")(controls="pedal"),
    "hunter": TASKS.get("pair-pursuit")(partner="random"),
    "listener": TASKS.get("word-signals")(speaker="random"),
}
EVERY: dict[str, Task] = {**{name: TASKS.get(name)() for name in NAMES}, **LACKING}
every_task = pytest.mark.parametrize("task", EVERY.values(), ids=EVERY)


def made(task: Task, worlds: int = 3) -> Environment:
    return task.environment(worlds * task.agents, Execution(), training=False)


def test_there_are_eight() -> None:
    assert len(NAMES) == 8


@every_task
def test_the_contract_is_kept(task: Task) -> None:
    check_environment(
        lambda lanes: task.environment(lanes, Execution(), training=False), lanes=3 * task.agents, steps=60
    )


@every_task
def test_it_can_be_drawn(task: Task) -> None:
    """In every step of an episode, and not the same all the time."""
    environment = OnlyAllowed.around(made(task, 2))
    environment.reset(0)
    frames = []
    for _ in range(6):
        frames.append(environment.render(environment.lanes - 1))
        environment.step(random_action(environment.spaces.action, environment.lanes, environment.device))
    assert all(frame is not None and frame.shape == (480, 480, 3) for frame in frames)
    assert any((frame != frames[0]).any() for frame in frames)


def test_the_sign_is_shown_in_the_first_step_only() -> None:
    environment = Corridor(64)
    sign = environment.reset(0)[:, 0]
    assert set(sign.tolist()) == {-1.0, 1.0}
    for _ in range(corridor.LENGTH):
        seen = environment.step(torch.full((64,), corridor.FORWARD)).observation
        assert not seen[:, 0].any()
    assert bool((seen[:, 2] == 1).all())
    step = environment.step(torch.where(sign < 0, corridor.LEFT, corridor.RIGHT))
    assert bool(step.reward.all())
    assert bool(step.terminated.all())


def test_a_closed_way_is_a_fall_and_an_open_one_leads_on() -> None:
    environment = Grid(256)
    seen = environment.reset(3)
    allowed = seen["mask"].bool()
    assert bool(allowed.any(1).all())
    assert not allowed[:, 2:].any(), "west and south of the corner there is nothing"
    step = environment.step(torch.zeros(256, dtype=torch.int64))
    assert torch.equal(step.terminated, ~allowed[:, 0])
    assert not step.reward.any()


@pytest.mark.parametrize("recall", [False, True])
def test_how_often_ways_are_open(recall: bool) -> None:
    """Inside the grid, where four ways lead on: each mask as often as `masks` says."""
    from pistar.tasks.puzzles_exact import masks

    environment, count = Grid(20_000, recall=recall), {}
    environment.reset(1)
    world = {**environment.world, "cell": torch.full((20_000, 2), 2)}
    for row in environment.open_ways(world).tolist():
        count[tuple(row)] = count.get(tuple(row), 0) + 1
    expected = dict(masks([True] * 4, grid.OPEN))
    assert sum(expected.values()) == pytest.approx(1.0)
    for mask, probability in expected.items():
        assert count.get(mask, 0) / 20_000 == pytest.approx(probability, abs=5 * (probability / 20_000) ** 0.5)


def test_nobody_moves_while_the_sign_of_the_grid_is_shown() -> None:
    environment = Grid(64, recall=True)
    first = environment.reset(0)["place"].clone()
    assert set(first[:, 3].tolist()) == {-1.0, 1.0}
    step = environment.step(torch.randint(4, (64,), generator=torch.Generator().manual_seed(0)))
    assert not step.ended.any()
    assert torch.equal(step.observation["place"][:, :2], first[:, :2])
    assert not step.observation["place"][:, 3].any()


def test_the_ball_is_seen_once() -> None:
    environment = DarkCatch(64)
    picture = environment.reset(0)["picture"]
    ball = picture[:, 0].argmax(1)
    assert len(ball.unique()) == catch.COLUMNS
    stay = torch.ones(64, dtype=torch.int64)
    for _ in range(catch.STEPS - 1):
        picture = environment.step(stay).observation["picture"]
        assert not picture[:, :-1].any()
        assert bool((picture[:, -1].argmax(1) == catch.COLUMNS // 2).all())
    step = environment.step(stay)
    assert torch.equal(step.reward, (ball == catch.COLUMNS // 2).float())


def test_gear_and_pedal_are_paid_together() -> None:
    environment = Gearbox(256)
    seen = environment.reset(0)
    gear = torch.full((256,), 2)
    step = environment.step({"gear": gear, "pedal": seen["load"].clone()})
    worth = torch.tensor(gearbox.WORTH)[(gear - seen["road"]) % 3] * seen["mask"]["gear"][:, 2]
    torch.testing.assert_close(step.reward, worth / gearbox.STEPS)


def test_a_hunter_alone_catches_nothing() -> None:
    """The second stands far away; the same with both beside the prey is a catch."""
    environment = Pursuit(1)
    environment.reset(0)
    world = environment.world
    for second, caught in (([3, 3], False), ([0, 0], True)):
        world["offset"] = torch.tensor([[[0, 0], second]])
        after = environment.dynamics(world, torch.zeros(1, 2, dtype=torch.int64))
        assert bool(after.reward[0]) is caught


def test_the_word_is_heard_a_step_later_and_the_colour_is_asked_for() -> None:
    environment = NativeAgents(Signals(32))
    seen = environment.reset(0)
    colour = seen["speaker"][0::2].clone()
    assert not seen["listener"].any()
    lanes = environment.lanes
    word = torch.arange(lanes) % WORDS
    seen = environment.step({"speaker": word, "listener": torch.zeros(lanes, dtype=torch.int64)}).observation
    assert torch.equal(seen["listener"][1::2].argmax(1), word[1::2]), "the speaker's rows are the second of two groups"
    step = environment.step({"speaker": word, "listener": colour.repeat_interleave(2)})
    assert bool((step.reward > 0).all())


def test_players_act_in_turn_and_name_their_own_card() -> None:
    environment = NativeAgents(Turns(16))
    seen, shown = environment.reset(0), []
    for t in range(12):
        shown.append(seen.argmax(1))
        action = shown[t - 2] if t >= 2 else torch.zeros(32, dtype=torch.int64)
        step = environment.step(action)
        assert step.valid is not None
        assert torch.equal(step.valid, torch.arange(32) % 2 == t % 2)
        assert bool((step.reward > 0).all()) is (t >= 2)
        seen = step.observation.clone()


def test_what_no_composed_action_may_be() -> None:
    environment = Gearbox(2)
    environment.reset(0)
    good: dict[str, Any] = {"gear": torch.zeros(2, dtype=torch.int64), "pedal": torch.zeros(2, 1)}
    with pytest.raises(UsageError, match="shapes"):
        environment.step({"gear": good["gear"]})
    with pytest.raises(UsageError, match="shapes"):
        environment.step({**good, "pedal": torch.zeros(2)})
    with pytest.raises(NumericalError, match="lane 1"):
        environment.step({**good, "pedal": torch.tensor([[0.0], [float("nan")]])})


def test_worlds_are_cut_whole() -> None:
    environment = NativeAgents(Pursuit(2))
    environment.reset(0)
    with pytest.raises(UsageError, match="whole worlds"):
        environment.cut(torch.tensor([True, False, False, False]))


@every_task
def test_a_lane_does_not_depend_on_how_many_there_are(task: Task) -> None:
    few, many = made(task, 2), made(task, 5)
    one, other = few.reset(7), many.reset(7)
    map_leaves(lambda x, y: torch.testing.assert_close(x, y[: few.lanes], rtol=0, atol=0), one, other)

"""Lanes in this process: what a plain loop over Gymnasium environments gives, faults with their place, exact restoring."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from worlds import Dice, Keeper, Options, Seeder, Signals, Victim

from pistar.envs.gym_lanes import GymnasiumLanes, replays, spaces_of
from pistar.errors import EnvironmentFailure, NumericalError, UnknownName, UsageError
from pistar.seeding import episode_seed
from pistar.testing import check_environment
from pistar.testing.environments.recording import batch, copied, difference, first_difference, go_on, random_actions

TARGETS: dict[str, Callable[[], Any]] = {
    "CartPole-v1": lambda: gymnasium.make("CartPole-v1"),
    "FrozenLake-v1": lambda: gymnasium.make("FrozenLake-v1"),
    "MountainCarContinuous-v0": lambda: gymnasium.make("MountainCarContinuous-v0"),
    "worlds:Signals": Signals,
}


# Against Gymnasium


@pytest.mark.parametrize("target", TARGETS)
def test_lanes_are_a_plain_loop_over_environments(target: str) -> None:
    seed, offset, lanes, ends = 3, 5, 2, 0
    environment = GymnasiumLanes(target, lanes, lane_offset=offset)
    plain = [TARGETS[target]() for _ in range(lanes)]
    episode = [0] * lanes

    def begin(lane: int) -> Any:
        return plain[lane].reset(seed=episode_seed(seed, lane + offset, episode[lane]))[0]

    def as_batch(observations: list[Any]) -> Any:
        return batch(plain[0].observation_space, observations, torch.device("cpu"))

    shown = [begin(lane) for lane in range(lanes)]
    assert difference(as_batch(shown), environment.reset(seed)) is None
    for action in random_actions(environment, 120, 0):
        step = environment.step(action)
        finals = list(shown)
        for lane in range(lanes):
            finals[lane], reward, terminated, truncated, info = plain[lane].step(single(plain[lane], action, lane))
            shown[lane] = finals[lane]
            assert step.reward[lane] == np.float32(reward)
            assert (bool(step.terminated[lane]), bool(step.truncated[lane])) == (terminated, truncated)
            for name, values in step.info.items():
                np.testing.assert_equal(values[lane].item(), number(info, name))
            if terminated or truncated:
                ends, episode[lane] = ends + 1, episode[lane] + 1
                shown[lane] = begin(lane)
        assert difference(as_batch(shown), step.observation) is None
        if bool(step.ended.any()):
            assert difference(as_batch(finals), step.final_observation, step.ended) is None
        else:
            assert step.final_observation is None
    assert ends > 3 or target.startswith("MountainCar")


def single(environment: Any, action: Any, lane: int) -> Any:
    """One lane of a batch of actions as Gymnasium has it."""
    if isinstance(action, dict):
        return {key: part[lane].item() if part.dim() == 1 else part[lane].numpy() for key, part in action.items()}
    return action[lane].numpy() if isinstance(environment.action_space, spaces.Box) else action[lane].item()


def number(info: Any, name: str) -> float:
    """An entry of a nested dict as float32, NaN where there is none."""
    for key in name.split("/"):
        info = info.get(key, {})
    return float("nan") if info == {} else float(np.float32(info))


def test_scalars_are_those_that_a_lane_reported_in_this_step() -> None:
    environment = GymnasiumLanes(Signals, 4)
    environment.reset(0)
    names = []
    for action in random_actions(environment, 20, 0):
        step = environment.step(action)
        names.append(set(step.info))
        assert list(step.info) == sorted(step.info)
        assert all(not values.isnan().all() for values in step.info.values())
    assert names[0] >= {"height", "terms/speed", "terms/alive"}
    assert "late" in names[-1] - names[0]
    assert set().union(*names) <= {"height", "terms/speed", "terms/alive", "late", "odd"}


def test_spaces_say_what_the_lanes_give() -> None:
    found = spaces_of("worlds:Signals")
    assert found.observation["state"].dtype == np.float32
    assert found.observation["image"].dtype == np.uint8
    assert found.observation["pair"][0] == spaces.Discrete(4, start=-1)
    assert found.action == Signals().action_space


def test_an_environment_may_keep_its_actions() -> None:
    environment = GymnasiumLanes(Keeper, 2)
    environment.reset(0)
    action = torch.rand(2, 2)
    first = action.clone()
    for _ in range(5):
        assert torch.equal(environment.step(action).observation, first)
        action.uniform_()


def test_seeds_fit_numpys_global_stream() -> None:
    environment = GymnasiumLanes(Seeder, 3)
    observation = environment.reset(2**62)
    state = np.random.RandomState(episode_seed(2**62, 1, 0))
    assert observation[1].item() == np.float32(state.rand())
    environment.step(torch.zeros(3, dtype=torch.int64))


def test_every_reset_gets_its_options() -> None:
    environment = GymnasiumLanes(Options, 2, reset_options={"level": 4})
    assert environment.reset(0).flatten().tolist() == [4, 4]
    assert environment.step(torch.zeros(2, dtype=torch.int64)).observation.flatten().tolist() == [4, 4]
    assert environment.cut(torch.tensor([True, False])).flatten().tolist() == [4, 4]


def test_the_contract_is_kept() -> None:
    check_environment(lambda lanes: GymnasiumLanes(Signals, lanes), lanes=3, steps=40)


# Restoring


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("steps", [0, 7, 30])
def test_a_fresh_instance_goes_on_bit_for_bit(target: str, steps: int) -> None:
    first, second = GymnasiumLanes(target, 3), GymnasiumLanes(target, 3)
    observation = first.reset(9)
    actions = random_actions(first, 60, 1)
    go_on(first, actions[:steps])
    state = first.save()
    assert difference(copied(observation), second.restore(state)) is None
    assert first_difference(go_on(first, actions[steps:]), go_on(second, actions[steps:])) is None


def test_what_cannot_be_replayed_is_found_out_and_has_a_tier_of_its_own() -> None:
    assert not replays(Dice)
    assert replays(Signals)
    action = torch.zeros(2, dtype=torch.int64)
    first, second = GymnasiumLanes(Dice, 2), GymnasiumLanes(Dice, 2)
    first.reset(0)
    first.step(action)
    with pytest.raises(EnvironmentFailure, match=r"Dice, lane 0, step 1: .*replaying the 1 actions.*\"boundary\""):
        second.restore(first.save())
    honest = GymnasiumLanes(Dice, 2, restoring="boundary")
    with pytest.raises(UsageError, match="restoring = 'replay', but this environment has 'boundary'"):
        honest.restore(first.save())
    honest.reset(0)
    honest.step(action)
    with pytest.raises(UsageError, match="lane 0 is within an episode"):
        honest.save()
    honest.cut(torch.tensor([True, True]))
    assert GymnasiumLanes(Dice, 2, restoring="boundary").restore(honest.save()).flatten().tolist() == [0, 0]
    with pytest.raises(UsageError, match="holds 2 lanes, but this environment has 3"):
        GymnasiumLanes(Dice, 3, restoring="boundary").restore(honest.save())


# Faults


FAULTS = {
    "raise": r"step raised ValueError: the motor is stuck\nTraceback[\s\S]*in fall\n",
    "exit": "step raised SystemExit: 3",
    "nan observation": r"observation\[1\] is nan \(as float32\)",
    "final nan": r"observation\[0\] is nan",
    "overflow": r"observation\[0\] is inf \(as float32\)",
    "nan reward": "reward is nan",
    "shape": r"step gave an observation outside its space: observation has shape \(1,\), expected \(2,\)",
    "dtype": "observation has dtype complex128, expected float64",
    "none": "observation has the type NoneType",
    "reward vector": "one real number",
    "reward text": "one real number",
    "flag": r"terminated=0.0, expected True or False",
    "info": r"info \[1\], expected a dict",
    "four": r"step returned 4 values, expected the 5 values",
    "reset": "reset raised ValueError: cannot go back",
}


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_lane_and_step_and_a_reset_goes_on(fault: str) -> None:
    options = {"fault": fault, "seed": episode_seed(1, 12, 0), "at": 3}
    environment = GymnasiumLanes(Victim, 4, lane_offset=10, options=options)
    environment.reset(1)
    action = torch.zeros(4, dtype=torch.int64)
    for _ in range(3):
        environment.step(action)
    with pytest.raises(EnvironmentFailure, match=FAULTS[fault]) as caught:
        environment.step(action)
    assert (caught.value.lane, caught.value.step) == (12, 3)
    assert str(caught.value).startswith("Victim, lane 12, step 3: ")
    for world in environment._lanes.environments:
        world.fault = ""
    environment.reset(1)
    assert environment.step(action).reward.tolist() == [1, 1, 1, 1]


def test_a_cut_does_not_look_at_what_a_failed_step_left_in_other_lanes() -> None:
    options = {"fault": "nan reward", "seed": episode_seed(0, 1, 0), "at": 0}
    environment = GymnasiumLanes(Victim, 2, options=options)
    environment.reset(0)
    with pytest.raises(EnvironmentFailure, match="lane 1, step 0: reward is nan"):
        environment.step(torch.zeros(2, dtype=torch.int64))
    environment.cut(torch.tensor([True, False]))


@pytest.mark.parametrize(
    ("action", "error", "words"),
    [
        (torch.zeros(2, 2), UsageError, r"shape \(2, 2\), expected \(3, 2\)"),
        (torch.zeros(3, 2, dtype=torch.int64), UsageError, "dtype int64, expected float32"),
        (torch.tensor([[0, 0], [0, torch.nan], [0, 0]]), NumericalError, r"action\[1\] for lane 1 is nan"),
    ],
)
def test_bad_actions_do_not_reach_the_environment(action: Any, error: type[Exception], words: str) -> None:
    environment = GymnasiumLanes(Keeper, 3)
    environment.reset(0)
    with pytest.raises(error, match=words):
        environment.step(action)
    assert all(not world.kept for world in environment._lanes.environments)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: GymnasiumLanes("CartPoel-v1", 1), UnknownName, "CartPole"),
        (lambda: GymnasiumLanes("no_such_module:Thing", 1), UsageError, "'no_such_module', which cannot be found"),
        (lambda: GymnasiumLanes(object(), 1), UsageError, "a callable that makes one"),  # type: ignore[arg-type]
        (lambda: GymnasiumLanes(dict, 1), UsageError, "has no reset, step, action_space, observation_space"),
        (lambda: GymnasiumLanes("CartPole-v1", 0), UsageError, "lanes is 0"),
        (lambda: GymnasiumLanes("CartPole-v1", 1, restoring="state"), UsageError, "'state'"),  # type: ignore[arg-type]
        (lambda: GymnasiumLanes("CartPole-v1", 1, options={"speed": 1}), EnvironmentFailure, "speed"),
        (lambda: GymnasiumLanes("CartPole-v1", 1).step(torch.zeros(1, dtype=torch.int64)), UsageError, "call reset"),
        (lambda: GymnasiumLanes("CartPole-v1", 1).save(), UsageError, "before reset"),
        (lambda: GymnasiumLanes(Victim, 2, options={"fault": "constructor"}), EnvironmentFailure, "no such motor"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(make: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_lanes_of_different_spaces_are_refused() -> None:
    sizes = iter([2, 3])

    def make() -> Any:
        world = Victim()
        world.observation_space = spaces.Box(0, 1, (next(sizes),))
        return world

    with pytest.raises(EnvironmentFailure, match="its spaces differ from those of the first lane"):
        GymnasiumLanes(make, 2)


# Targets, pictures and closing


def test_modules_are_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cellar.py").write_text(
        "import gymnasium\nfrom worlds import Victim\n"
        "gymnasium.register('Cellar-v0', Victim, max_episode_steps=2)\n"
        "class Inner:\n    World = Victim\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    with closing(GymnasiumLanes("cellar:Cellar-v0", 1)) as environment:
        environment.reset(0)
        action = torch.zeros(1, dtype=torch.int64)
        assert [bool(environment.step(action).truncated) for _ in range(4)] == [False, True, False, True]
    GymnasiumLanes("cellar:Inner.World", 1).close()
    gymnasium.registry.pop("Cellar-v0")
    del sys.modules["cellar"]


def test_frames_are_drawn_where_they_were_asked_for() -> None:
    assert GymnasiumLanes(Options, 2).render() is None
    frame = GymnasiumLanes(Options, 2, render=True).render(1)
    assert frame is not None
    assert frame.shape == (4, 4, 3)


def test_one_environment_that_does_not_close_keeps_no_other_open(capsys: pytest.CaptureFixture[str]) -> None:
    Options.closed = 0
    environment = GymnasiumLanes(Options, 3, options={"stubborn": True}, reset_options={"level": 0})
    environment.close()
    environment.close()
    assert Options.closed == 3
    assert "the door is jammed" in capsys.readouterr().out
    with pytest.raises(UsageError, match="is closed"):
        environment.reset(0)

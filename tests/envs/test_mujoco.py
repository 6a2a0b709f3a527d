"""MuJoCo's batch against Gymnasium's own environments, against itself restored, and without what it might lack."""

import importlib.util
import subprocess
import sys
import types
from contextlib import closing

import numpy as np
import pytest
import torch

from pistar import seeding
from pistar.envs import mujoco_opengl
from pistar.envs.mujoco import TASKS, MujocoBatch, opengl_hint
from pistar.errors import ArtefactError, EnvironmentFailure, MissingExtra, NumericalError, UnknownName, UsageError
from pistar.testing.environments import check_environment

pytest.importorskip("mujoco.batch")
NAMES = sorted(TASKS)
FALLING = ("Ant-v5", "Hopper-v5", "Walker2d-v5")


@pytest.fixture(scope="module")
def gym_make():
    """``gymnasium.make``, which asks for imageio though only its window needs that."""
    import gymnasium

    if importlib.util.find_spec("imageio") is None:
        sys.modules["imageio"] = types.ModuleType("imageio")
    yield lambda name: gymnasium.make(name, disable_env_checker=True)
    if getattr(sys.modules.get("imageio"), "__file__", None) is None:
        sys.modules.pop("imageio", None)


@pytest.fixture
def fresh_opengl():
    """Let a test decide anew, and forget what it decided."""
    mujoco_opengl._choose.cache_clear()
    yield
    mujoco_opengl._choose.cache_clear()


def draw_actions(environment, steps, seed=0):
    """[steps, B, A] float64, uniform in the action space."""
    space = environment.spaces.action
    shape = (steps, environment.lanes, *space.shape)
    return torch.from_numpy(np.random.default_rng(seed).uniform(space.low, space.high, shape))


def trajectory(environment, actions):
    """What float64 holds, and every info, after each action."""
    rows = []
    for action in actions:
        step = environment.step(action)
        infos = [values.numpy().copy() for values in step.info.values()]
        flags = [step.terminated.numpy().copy(), step.truncated.numpy().copy()]
        rows.append([environment.observation64.copy(), environment.reward64.copy(), *flags, *infos])
    return rows


def assert_identical(left, right):
    for t, (one, other) in enumerate(zip(left, right, strict=True)):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"step {t}", strict=True)


# Against Gymnasium


@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_steps_equal_gymnasium_bit_for_bit(name, gym_make):
    seed, lanes = 3, 2
    environment = MujocoBatch(name, lanes)
    environment.reset(seed)
    references = [gym_make(name) for _ in range(lanes)]
    episode, terminations = [0] * lanes, 0
    for lane, reference in enumerate(references):
        start, _ = reference.reset(seed=seeding.episode_seed(seed, lane, 0))
        np.testing.assert_array_equal(environment.observation64[lane], start, strict=True)
    for action in draw_actions(environment, 1000):
        step = environment.step(action)
        for lane, reference in enumerate(references):
            observation, reward, terminated, truncated, info = reference.step(action[lane].numpy())
            ended = terminated or truncated
            mine = environment.final_observation64[lane] if ended else environment.observation64[lane]
            np.testing.assert_array_equal(mine, observation, strict=True)
            assert environment.reward64[lane] == reward
            assert step.reward[lane].item() == np.float32(reward)
            assert (bool(step.terminated[lane]), bool(step.truncated[lane])) == (terminated, truncated)
            assert {key: step.info[key][lane].item() for key in info} == info
            shown = step.final_observation if ended else step.observation
            np.testing.assert_array_equal(shown[lane].numpy(), observation.astype(np.float32), strict=True)
            if ended:
                episode[lane] += 1
                terminations += terminated
                start, _ = reference.reset(seed=seeding.episode_seed(seed, lane, episode[lane]))
                np.testing.assert_array_equal(environment.observation64[lane], start, strict=True)
    assert min(episode) > 0
    assert (terminations > 0) == (name in FALLING)


@pytest.mark.parametrize("name", NAMES)
def test_spaces_are_gymnasiums(name, gym_make):
    ours, theirs = MujocoBatch(name, 1).spaces, gym_make(name)
    assert ours.action == theirs.action_space
    assert ours.observation.shape == theirs.observation_space.shape


# The contract


@pytest.mark.parametrize(("name", "staggered"), [("Reacher-v5", True), ("Hopper-v5", False)])
def test_it_keeps_the_contract(name, staggered):
    check_environment(lambda lanes: MujocoBatch(name, lanes, random_elapsed=staggered), lanes=2, steps=45)


@pytest.mark.parametrize("name", NAMES)
def test_a_fresh_instance_continues_bit_for_bit_from_mid_episode(name):
    with closing(MujocoBatch(name, 3)) as first, closing(MujocoBatch(name, 3, threads=2)) as second:
        first.reset(5)
        actions = draw_actions(first, 90)
        trajectory(first, actions[:37])
        state = first.save()
        shown = second.restore(state)
        assert torch.equal(shown, torch.from_numpy(first.observation64).float())
        assert_identical(trajectory(first, actions[37:]), trajectory(second, actions[37:]))
        assert_identical([first.save()["physics"]], [second.save()["physics"]])


@pytest.mark.parametrize("name", ["Ant-v5", "HalfCheetah-v5"])
def test_the_point_that_velocity_is_measured_from_is_part_of_the_state(name):
    environment = MujocoBatch(name, 1)
    environment.reset(0)
    actions = draw_actions(environment, 5)
    trajectory(environment, actions[:4])
    state = environment.save()
    environment.step(actions[4])
    expected = environment.reward64.copy()
    environment.restore({**state, "before": state["before"] + 0.01})
    environment.step(actions[4])
    assert abs(environment.reward64 - expected) > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_threads_change_no_bit(name):
    runs = []
    for threads in (1, 2):
        environment = MujocoBatch(name, 5, threads)
        environment.reset(1)
        runs.append(trajectory(environment, draw_actions(environment, 40)))
    assert_identical(*runs)


def test_random_elapsed_staggers_first_episodes_only():
    staggered, plain = MujocoBatch("Reacher-v5", 8, random_elapsed=True), MujocoBatch("Reacher-v5", 8)
    assert torch.equal(staggered.reset(2), plain.reset(2))
    ends = [staggered.step(action).truncated.clone() for action in draw_actions(staggered, 100)]
    at = [torch.stack(ends)[:, lane].nonzero().flatten().tolist() for lane in range(8)]
    assert len({steps[0] for steps in at}) > 3
    assert all(np.diff(steps).tolist() == [50] * (len(steps) - 1) and steps[0] < 50 for steps in at)


def test_a_state_of_another_shape_is_refused():
    environment = MujocoBatch("Reacher-v5", 2)
    environment.reset(0)
    with pytest.raises(ArtefactError, match="same number of lanes"):
        MujocoBatch("Reacher-v5", 3).restore(environment.save())
    with pytest.raises(ArtefactError, match="Hopper-v5"):
        MujocoBatch("Hopper-v5", 2).restore(environment.save())


# Faults


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Ant-v5"])
def test_diverging_physics_names_lane_and_step(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = MujocoBatch(name, 3)
    environment.reset(0)
    actions = draw_actions(environment, 3)
    trajectory(environment, actions[:2])
    environment._task.qvel[1] = 1e13
    with pytest.raises(EnvironmentFailure, match=f"{name}, lane 1, step 2: expected stable physics") as caught:
        environment.step(actions[2])
    assert (caught.value.lane, caught.value.step) == (1, 2)
    assert not list(tmp_path.iterdir())  # MuJoCo would have left a log file here
    fresh = MujocoBatch(name, 3)
    for restarted in (environment, fresh):
        restarted.reset(0)
    assert_identical(trajectory(environment, actions), trajectory(fresh, actions))


def test_bad_requests_are_refused_before_they_reach_the_physics():
    with pytest.raises(UnknownName, match="did you mean 'Reacher-v5'"):
        MujocoBatch("Reacher-v4", 1)
    with pytest.raises(UsageError, match="at least 1 lane"):
        MujocoBatch("Reacher-v5", 0)
    environment = MujocoBatch("Reacher-v5", 2)
    with pytest.raises(UsageError, match="reset"):
        environment.step(torch.zeros(2, 2))
    environment.reset(0)
    with pytest.raises(UsageError, match=r"shape \(2, 2\), received \(2, 3\)"):
        environment.step(torch.zeros(2, 3))
    with pytest.raises(NumericalError, match="lane 1"):
        environment.step(torch.tensor([[0.0, 0.0], [0.0, torch.nan]]))


def test_a_missing_mujoco_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(MissingExtra, match=r'pip install "pistar\[mujoco\]"'):
        MujocoBatch("Reacher-v5", 1)


def test_mujoco_is_imported_only_when_something_is_built():
    code = "import sys, pistar.envs.mujoco; sys.exit('mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Pictures


@pytest.mark.parametrize("name", NAMES)
def test_flat_pictures_show_the_lane_and_disturb_nothing(name):
    drawn, undrawn = MujocoBatch(name, 2, opengl=False), MujocoBatch(name, 2)
    drawn.reset(4)
    undrawn.reset(4)
    actions = draw_actions(drawn, 20)
    assert_identical(trajectory(drawn, actions[:10]), trajectory(undrawn, actions[:10]))
    frames = [drawn.render(lane) for lane in (0, 1)]
    assert all(frame.shape == (480, 480, 3) and frame.dtype == np.uint8 for frame in frames)
    assert (frames[0] != frames[1]).any()
    assert_identical(trajectory(drawn, actions[10:]), trajectory(undrawn, actions[10:]))


def test_the_flat_picture_puts_the_target_where_it_is():
    environment = MujocoBatch("Reacher-v5", 4, opengl=False)
    observation = environment.reset(0)
    for lane, (x, y) in enumerate(observation[:, 4:6].tolist()):
        column, row = (int(240 + sign * at / 0.66 * 480) for sign, at in ((1, x), (-1, y)))
        red, green, blue = environment.render(lane)[row, column].astype(int)
        assert red > 200 > 100 > max(green, blue)


def test_without_opengl_frames_are_flat_and_the_hint_names_packages(monkeypatch, fresh_opengl):
    monkeypatch.setenv("MUJOCO_GL", "off")
    assert "apt-get install libegl1" in opengl_hint()
    with closing(MujocoBatch("Reacher-v5", 1)) as asked, closing(MujocoBatch("Reacher-v5", 1, opengl=False)) as flat:
        asked.reset(0)
        flat.reset(0)
        np.testing.assert_array_equal(asked.render(), flat.render())


@pytest.mark.parametrize("trial", ["import os; os.abort()", "raise SystemExit('the picture stays empty')"])
def test_an_opengl_that_crashes_or_draws_nothing_costs_a_trial_only(trial, monkeypatch, fresh_opengl):
    monkeypatch.setattr(mujoco_opengl, "TRIAL", trial)
    expected = "empty" if "empty" in trial else "code -6"
    assert expected in opengl_hint()


def test_opengl_renders_where_it_works():
    if opengl_hint() is not None:
        pytest.skip("no OpenGL here")
    with closing(MujocoBatch("HalfCheetah-v5", 2)) as environment:
        environment.reset(0)
        first, second = environment.render(0), environment.render(1)
        assert first.shape == (480, 480, 3)
        assert first.dtype == np.uint8
        assert (first != second).any()
        assert first.std() > 10


def test_without_opengl_frames_are_flat_and_the_reason_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mujoco_opengl, "make_renderer", lambda *_: None)
    monkeypatch.setattr(mujoco_opengl, "hint", lambda: "install libegl1")
    batch = MujocoBatch("Reacher-v5", 1)
    batch.reset(0)
    with pytest.warns(UserWarning, match="install libegl1") as told:
        frames = [batch.render(), batch.render()]
    assert len(told) == 1
    flat = MujocoBatch("Reacher-v5", 1, opengl=False)
    flat.reset(0)
    assert all((frame == flat.render()).all() for frame in frames)

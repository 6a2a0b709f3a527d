"""Atari games beside ale-py itself: the same frames and scores, whole games, and what holds in training only."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

pytest.importorskip("ale_py", reason="needs pip install 'pistar[atari]'")
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from pistar import experiment
from pistar.envs.atari import Atari, ForLearning, game_of
from pistar.errors import EnvironmentFailure, UnknownName, UsageError
from pistar.experiment import resolve
from pistar.seeding import episode_seed
from pistar.session import Session
from pistar.tasks.atari import Atari as Task
from pistar.tasks.task import Execution
from pistar.testing import check_environment

GAME = "ALE/Breakout-v5"


def actions(lanes: int, steps: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randint(4, (steps, lanes), generator=generator))


@pytest.mark.slow  # a seeded reset boots the emulator, and the examination asks for hundreds
def test_the_contract_holds() -> None:
    check_environment(lambda lanes: Atari(GAME, lanes, frame_limit=60), lanes=2, steps=24)


@pytest.mark.slow
def test_the_contract_holds_for_lives_as_episodes() -> None:
    # Starts are where a life was lost, so they follow the play and not the seed: lanes are examined as dependent ones.
    def make(lanes: int) -> ForLearning:
        return ForLearning(Atari(GAME, lanes, noops=5), clip_rewards=True, lives_are_episodes=True)

    check_environment(make, lanes=2, steps=40, independent_lanes=False)


def test_frames_are_those_of_the_emulator() -> None:
    """The maximum of the last two of 4 frames, grey, reduced to 84 × 84: recomputed from the raw screen."""
    game = "ALE/MsPacman-v5"  # whose dots pay 10, which clipping would change
    environment = Atari(game, 1, sticky=0.0)
    seen = [environment.reset(0)[0]]
    raw = gymnasium.make(game, obs_type="grayscale", frameskip=1, repeat_action_probability=0.0).unwrapped
    raw.reset(seed=episode_seed(0, 0, 0))
    score = 0.0
    for action in actions(1, 100):
        step = environment.step(action)
        seen.append(step.observation[0])
        reward, screens = 0.0, []
        for _ in range(4):
            screen, gain, _, _, _ = raw.step(int(action))
            reward += float(gain)
            screens.append(screen)
        expected = np.maximum(screens[-1], screens[-2]).astype(np.float64)  # [210, 160]
        assert float(step.reward[0]) == reward
        score += reward
        newest = step.observation[0, -1].numpy().astype(np.float64)
        assert np.abs(newest - reduced(expected)).max() <= 3  # levels of grey; the emulator rounds in whole numbers
        assert torch.equal(step.observation[0, :-1], seen[-2][1:])
    assert step.info["lives"][0] == raw.ale.lives()
    assert score >= 10


@pytest.mark.parametrize("game", ["ALE/Pong-v5", "ALE/Breakout-v5"])
def test_observations_are_bit_for_bit_those_of_gymnasiums_preprocessing(game: str) -> None:
    pytest.importorskip("cv2", reason="Gymnasium's AtariPreprocessing needs opencv-python-headless")
    raw = gymnasium.make(game, frameskip=1, repeat_action_probability=0.0)
    bare = AtariPreprocessing(raw, noop_max=0, frame_skip=4, screen_size=84, grayscale_obs=True)
    reference, environment = FrameStackObservation(bare, 4, padding_type="zero"), Atari(game, 1, sticky=0.0)
    seen, _ = reference.reset(seed=episode_seed(0, 0, 0))
    assert np.array_equal(environment.reset(0)[0].numpy(), seen)
    ended = 0
    for action in actions(1, 400):
        step = environment.step(action)
        seen, reward, terminated, truncated, _ = reference.step(int(action[0]))
        shown = step.observation if step.final_observation is None else step.final_observation
        assert np.array_equal(shown[0].numpy(), seen)
        assert (float(step.reward[0]), bool(step.terminated[0])) == (reward, terminated)
        if terminated or truncated:
            ended += 1
            seen, _ = reference.reset(seed=episode_seed(0, 0, ended))
            assert np.array_equal(step.observation[0].numpy(), seen)
    assert ended > 0 or game == "ALE/Pong-v5"


def test_by_its_name_alone_a_game_is_seen_by_convolutions() -> None:
    plan = resolve(experiment.find_task(GAME), ({"training": {"lanes": 2}}, "the test"))
    with closing(Session(plan)) as session:
        layers = [module for module in session.policy.modules() if isinstance(module, torch.nn.Conv2d)]
        assert [(each.in_channels, each.out_channels) for each in layers] == [(4, 32), (32, 64), (64, 64)]
        assert plan.policy.hidden == ()


def reduced(screen: np.ndarray) -> np.ndarray:
    """[210, 160] -> [84, 84] by the mean over the area that a pixel covers."""

    def weights(old: int, new: int) -> np.ndarray:
        edges, ratio = np.arange(old), old / new
        low, high = np.arange(new)[:, None] * ratio, (np.arange(new)[:, None] + 1) * ratio
        return np.clip(np.minimum(high, edges + 1) - np.maximum(low, edges), 0, 1) / ratio

    return weights(210, 84) @ screen @ weights(160, 84).T


def test_equal_seeds_give_equal_games_whatever_the_other_lanes_do() -> None:
    one, two, wide = Atari(GAME, 1), Atari(GAME, 1), Atari(GAME, 2, threads=2)
    shown = [environment.reset(4) for environment in (one, two, wide)]
    cut = torch.tensor([True])
    for t, action in enumerate(actions(1, 30)):
        if t == 15:
            shown = [one.cut(cut), two.cut(cut), wide.cut(torch.tensor([True, False]))]
        assert torch.equal(shown[0], shown[1])
        assert torch.equal(shown[0][0], shown[2][0])
        other = torch.tensor([int(action[0]), t % 4])
        shown = [environment.step(a).observation for environment, a in ((one, action), (two, action), (wide, other))]


def test_games_are_restored_by_playing_them_again() -> None:
    environment, plan = Atari(GAME, 3), actions(3, 100)
    environment.reset(1)
    for action in plan[:60]:
        environment.step(action)
    environment.cut(torch.tensor([False, True, False]))
    for action in plan[60:80]:
        environment.step(action)
    state, other = environment.save(), Atari(GAME, 3)
    assert state["elapsed"].tolist() == [80, 20, 80]
    other.restore(state)
    for action in plan[80:]:
        one, two = environment.step(action), other.step(action)
        assert torch.equal(one.observation, two.observation)
        assert torch.equal(one.reward, two.reward)
    state["observation"][0] += 1
    with pytest.raises(EnvironmentFailure, match="leads to another observation"):
        other.restore(state)


def test_training_clips_rewards_and_ends_lives_and_judging_does_neither() -> None:
    task = Task(id=GAME, lives_are_episodes=True)
    bare = task.make(2, Execution(), training=False)
    learning = task.for_learning(task.make(2, Execution(), training=True))
    bare.reset(3)
    learning.reset(3)
    lives, lost = torch.full((2,), 5.0), 0
    for action in actions(2, 110):
        raw, clipped = bare.step(action), learning.step(action)
        assert torch.equal(clipped.observation, raw.observation)  # the game goes on
        assert torch.equal(clipped.reward, raw.reward.clamp(-1, 1))
        assert torch.equal(clipped.info["score"], raw.reward)
        fewer = raw.info["lives"] < lives
        lives = torch.where(raw.ended, 5.0, raw.info["lives"])
        assert torch.equal(clipped.terminated, raw.terminated | fewer)
        if (fewer & ~raw.ended).any():
            rows = fewer & ~raw.ended
            assert torch.equal(clipped.final_observation[rows], raw.observation[rows])
            lost += int(rows.sum())
    assert lost > 1


def test_names_lead_to_games() -> None:
    assert experiment.find_task("ALE/MsPacman-v5") == {"kind": "atari", "id": "ALE/MsPacman-v5"}
    assert experiment.find_task("atari:pong") == {"kind": "atari", "id": "pong"}
    assert [game_of(name) for name in ("ALE/MsPacman-v5", "ms_pacman", "MsPacman")] == ["ms_pacman"] * 3
    with pytest.raises(UnknownName, match="did you mean 'ALE/Breakout-v5'"):
        Atari("ALE/Brakeout-v5", 1)
    with pytest.raises(UsageError, match="which options cannot change"):
        Atari(GAME, 1, options={"reward_clipping": True})


def test_a_session_learns_from_images_and_resumes() -> None:
    table = {"kind": "atari", "id": GAME}
    tables: dict[str, Any] = {"training": {"steps": 64, "lanes": 2, "horizon": 8}, "policy": {"hidden": [8]}}
    plan = resolve(table, (tables, "the test"))
    whole, other = Session(plan), Session(plan)
    whole.collector.start()
    whole.iterate(cut=False)
    other.restore(whole.checkpoint())
    whole.iterate(cut=False)
    other.iterate(cut=False)
    assert torch.equal(whole.learner.parameters, other.learner.parameters)


def test_a_picture_is_what_the_policy_sees() -> None:
    environment = Atari(GAME, 1)
    newest = environment.reset(0)[0, -1].numpy()
    frame = environment.render()
    assert frame is not None
    assert frame.shape == (336, 336, 3)
    assert np.array_equal(frame[::4, ::4, 0], newest)

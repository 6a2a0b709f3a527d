"""Atari games through ale-py's vectorised form, which does the standard preprocessing in C++.

Machado et al. 2018 (Revisiting the Arcade Learning Environment), section 5: an action is repeated for 4 frames, and repeated
once more in place of the next with probability 0.25 (sticky actions); a frame is the maximum of the last two, grey, 84 × 84;
4 frames are stacked, the newest last; an episode is a whole game. The older protocol of Mnih et al. 2015 begins a game with up
to 30 idle actions instead (``sticky=0``, ``noops=30``).

Every lane's games are seeded as ``environment`` prescribes: ale-py takes a seed for each, and a lane that ends is reset at
once. Restoring replays the actions since each game began. `ForLearning` holds what Mnih et al. do in training only.

What this leaves out: two-player games, and the game's own colours: a picture is what the policy sees.
"""

from __future__ import annotations

import difflib
import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pistar.envs import failures
from pistar.envs.action_log import ActionLog
from pistar.envs.environment import Environment, Spaces, State, Step, Tree
from pistar.envs.gym_lanes import as_arrays, lane_mask
from pistar.envs.layout import Array, Layout
from pistar.envs.wrappers import Wrapper
from pistar.errors import MissingExtra, UnknownName, UsageError
from pistar.seeding import episode_seed

ENLARGED = 4  # pixels of a picture's edge for one of the observation's
OWN = ("num_envs", "num_threads", "autoreset_mode", "reward_clipping", "episodic_life", "batch_size")


class Atari(Environment):
    """``lanes`` games of ``name`` (``"ALE/Pong-v5"`` or ``"pong"``), stepped on ``threads`` threads; observations [B, 4, 84, 84].

    ``sticky``: probability of repeating the last action; ``noops``: most idle actions at a game's start; ``frame_limit``:
    frames after which a game is cut. ``options``: further arguments of ale-py's AtariVectorEnv. ``info["lives"]``: lives left.

    Raises MissingExtra, UnknownName or UsageError at construction.
    """

    restoring = "replay"

    def __init__(
        self,
        name: str,
        lanes: int,
        *,
        threads: int = 1,
        sticky: float = 0.25,
        noops: int = 0,
        frame_limit: int = 108_000,
        options: dict[str, Any] | None = None,
    ) -> None:
        if lanes < 1:
            raise UsageError(f"lanes is {lanes}, expected at least 1")
        self.name, self.lanes = name, lanes
        self._game: Any = make(name, lanes, threads, sticky, noops, frame_limit, options or {})
        self.spaces = Spaces(self._game.single_observation_space, self._game.single_action_space)
        self._actions = Layout(self.spaces.action, "action")
        self._log = ActionLog(self._actions, lanes)
        self._seed: int | None = None
        self._steps = 0  # since `reset`
        self._episode = [0] * lanes
        self._observation: Array = np.zeros((lanes, *self.spaces.observation.shape), np.uint8)  # type: ignore[misc]

    def reset(self, seed: int) -> Tree:
        """Start game 0 on every lane; [B, 4, 84, 84]."""
        self._open()
        self._seed, self._steps, self._episode = seed, 0, [0] * self.lanes
        return self._begin(np.ones(self.lanes, bool))

    def step(self, action: Tree) -> Step:
        """Advance every game by one action [B]."""
        game = self._open()
        if self._seed is None:
            raise UsageError("step was called before reset; call reset(seed) first")
        chosen = self._actions.actions(as_arrays(action), self.lanes)
        self._log.append(chosen)
        self._observation, reward, terminated, truncated, info = game.step(chosen[0])
        self._steps += 1
        ended = terminated | truncated
        observation, final = torch.from_numpy(self._observation.copy()), None
        if ended.any():
            final = observation
            for lane in np.flatnonzero(ended).tolist():
                self._episode[lane] += 1
            observation = self._begin(ended)
        return Step(
            observation=observation,
            reward=torch.from_numpy(reward.astype(np.float32)),
            terminated=torch.from_numpy(terminated.copy()),
            truncated=torch.from_numpy(truncated.copy()),
            final_observation=final,
            info={"lives": torch.from_numpy(info["lives"].astype(np.float32))},
        )

    def _begin(self, lanes: Array) -> Tensor:
        """Start game ``self._episode[lane]`` of the chosen lanes; what all lanes see."""
        assert self._seed is not None
        chosen = np.flatnonzero(lanes).tolist()
        seeds = np.array([episode_seed(self._seed, lane, self._episode[lane]) for lane in chosen])
        # At first, ale-py wants to reset all.
        fresh, _ = self._open().reset(seed=seeds, options=None if lanes.all() else {"reset_mask": lanes})
        shown = self._observation.copy()
        shown[lanes] = fresh[lanes]
        self._observation = shown
        for lane in chosen:
            self._log.begin(lane)
        return torch.from_numpy(shown.copy())

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next game of the chosen lanes."""
        self._open()
        mask = lane_mask(lanes, self.lanes)
        if self._seed is None:
            raise UsageError("cut was called before reset; call reset(seed) first")
        for lane in np.flatnonzero(mask).tolist():
            self._episode[lane] += 1
        return self._begin(mask.copy()) if mask.any() else torch.from_numpy(self._observation.copy())

    def save(self) -> State:
        """Each lane's game number and the actions since its start."""
        if self._seed is None:
            raise UsageError("save was called before reset; call reset(seed) first")
        return {
            "restoring": "replay",
            "seed": self._seed,
            "steps": self._steps,
            "episode": np.array(self._episode, np.int64),
            "elapsed": np.array([self._log.length - start for start in self._log.started], np.int64),
            "actions": self._log.packed(),
            "observation": self._observation.copy(),
        }

    def restore(self, state: State) -> Tree:
        """Play each lane's game again up to where it was saved, and require the stored observation bit for bit."""
        game = self._open()
        if state.get("restoring") != "replay" or len(state.get("episode", ())) != self.lanes:
            raise UsageError(f"the state is not one of {self.lanes} lanes of Atari games; received {sorted(state)}")
        self._seed, self._steps = int(state["seed"]), int(state["steps"])
        self._episode = np.asarray(state["episode"]).tolist()
        elapsed = np.asarray(state["elapsed"])
        longest = int(elapsed.max())
        self._begin(np.ones(self.lanes, bool))
        self._log.unpack(state["actions"], elapsed.tolist())
        played = [self._log.of_lane(lane)[0] for lane in range(self.lanes)]
        for t in range(longest):
            starting = elapsed == longest - t  # lanes with shorter games begin later, so that all arrive together
            if t and starting.any():
                self._restart(starting)
            action = np.array(
                [played[b][t - longest + elapsed[b]] if t >= longest - elapsed[b] else 0 for b in range(self.lanes)]
            )
            self._observation = game.step(action.astype(np.int64))[0]
        if (elapsed == 0).any() and longest:
            self._restart(elapsed == 0)
        if self._observation.tobytes() != np.asarray(state["observation"]).tobytes():
            raise failures.broke_contract(
                self.name,
                "replaying the actions since each game began leads to another observation than before",
                None,
                self._steps,
            )
        return torch.from_numpy(self._observation.copy())

    def _restart(self, lanes: Array) -> None:
        """Start the chosen lanes' games without a note of it."""
        assert self._seed is not None
        seeds = np.array(
            [episode_seed(self._seed, lane, self._episode[lane]) for lane in np.flatnonzero(lanes).tolist()]
        )
        fresh, _ = self._open().reset(seed=seeds, options={"reset_mask": lanes})
        self._observation = np.where(lanes[:, None, None, None], fresh, self._observation)

    def render(self, lane: int = 0) -> np.ndarray | None:
        """The newest frame as the policy sees it, enlarged: [336, 336, 3]."""
        frame = self._observation[lane, -1].repeat(ENLARGED, 0).repeat(ENLARGED, 1)
        return np.repeat(frame[:, :, None], 3, axis=2)

    def close(self) -> None:
        """Close the games; safe to call twice."""
        game, self._game = self._game, None
        if game is not None:
            game.close()

    def _open(self) -> Any:
        if self._game is None:
            raise UsageError(f"{self.name} is closed; make a new one")
        return self._game


class ForLearning(Wrapper):
    """What Mnih et al. 2015 do in training only: rewards are clipped to ±1, and a lost life is an end.

    A life's end is told as a termination; the game goes on, and the next episode begins where it stands. ``info["score"]`` is
    the game's own reward.
    """

    def __init__(self, environment: Environment, *, clip_rewards: bool, lives_are_episodes: bool) -> None:
        super().__init__(environment)
        self._clip, self._by_life = clip_rewards, lives_are_episodes
        self._lives = torch.zeros(self.lanes)

    def reset(self, seed: int) -> Tree:
        """Start game 0 on every lane."""
        self._lives = torch.zeros(self.lanes)
        return self.environment.reset(seed)

    def step(self, action: Tree) -> Step:
        """The same step as it is learned from."""
        step = self.environment.step(action)
        step.info = {**step.info, "score": step.reward.clone()}
        if self._clip:
            step.reward = step.reward.clamp(-1.0, 1.0)
        if self._by_life:
            lives, over = step.info["lives"], step.ended
            lost = (lives < self._lives) & ~over
            self._lives = lives.masked_fill(over, 0.0)
            if bool(lost.any()):
                step.terminated = step.terminated | lost
                if step.final_observation is None:
                    step.final_observation = step.observation.clone()
                else:
                    step.final_observation[lost] = step.observation[lost]
        return step

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next game of the chosen lanes."""
        self._lives = self._lives.masked_fill(lanes, 0.0)
        return self.environment.cut(lanes)

    def own_state(self) -> State:
        """The lives left."""
        return {"lives": self._lives.clone()}

    def restore_own(self, state: State, observation: Tree) -> Tree:
        """Take them over."""
        self._lives = state["lives"].clone()
        return observation


def make(
    name: str, lanes: int, threads: int, sticky: float, noops: int, frame_limit: int, options: dict[str, Any]
) -> Any:
    """ale-py's vector environment; it is told to reset in the next step, and is reset before it."""
    game = game_of(name)
    from ale_py.vector_env import AtariVectorEnv

    if set(options) & set(OWN):
        raise UsageError(
            f"{', '.join(sorted(set(options) & set(OWN)))}: settings of the task, which options cannot change"
        )
    return AtariVectorEnv(
        game,
        lanes,
        num_threads=threads,
        repeat_action_probability=sticky,
        noop_max=noops,
        max_num_frames_per_episode=frame_limit,
        **{"reward_clipping": False, "use_fire_reset": False, **options},
    )


def game_of(name: str) -> str:
    """ale-py's word for a game: ``ALE/MsPacman-v5`` -> ``ms_pacman``; raises UnknownName with the nearest."""
    if importlib.util.find_spec("ale_py") is None:
        raise MissingExtra("ale-py", "atari", name)
    from ale_py import roms

    games = {game.title().replace("_", "").lower(): game for game in roms.get_all_rom_ids()}
    short = name.removeprefix("ALE/").partition("-v")[0].replace("_", "").lower()
    if short not in games:
        near = difflib.get_close_matches(short, games, n=5, cutoff=0.3) or list(games)[:5]
        raise UnknownName("Atari game", name, [f"ALE/{games[each].title().replace('_', '')}-v5" for each in near])
    return str(games[short])

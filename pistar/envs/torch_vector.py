"""Simulators that speak torch tensors: ``obs, reward, done, extras["time_outs"]``, as rsl_rl's VecEnv, Isaac Lab and mjlab do.

Such a simulator steps ``num_envs`` lanes at once on its own device, resets a lane within the step that ends it, and seldom
tells what the lane saw last. A *time-out* is a truncation. Where ``extras`` holds no ``final_observation``, the observation
before the step stands in for the last one, so that a time-out is bootstrapped from V(s_t) as rsl_rl does; over one step of a
long episode the difference is small. With one, the bootstrap is exact.

Observations may be a tensor, or a dict (or TensorDict) of them, such as ``policy`` and ``critic``. ``reset`` may return them
alone or with extras; ``get_observations`` is not needed. Numbers under ``extras["log"]`` or ``extras["episode"]`` become info.

It differs from ``gym_vector``, which speaks NumPy and Gymnasium's spaces. Restoring is possible right after all lanes were
restarted only (tier ``boundary``), and repeats a run bit for bit only where the simulator's ``seed`` settles everything.

What this leaves out: actions other than one vector of real numbers, and restarting single lanes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.envs import failures, targets
from pistar.envs.environment import Environment, Spaces, State, Step, Tree
from pistar.errors import UsageError
from pistar.seeding import derive, world_seed
from pistar.tree import leaves, map_leaves

FINAL = ("final_observation", "final_obs")  # where extras may hold what ended lanes saw last
LOGS = ("log", "episode")  # where extras may hold numbers
NEEDED = ("num_envs", "num_actions", "reset", "step")


class TorchVector(Environment):
    """``lanes`` environments of a simulator that ``target`` makes, given ``num_envs`` and ``options``.

    ``entries`` chooses among a dict's entries (none: all). ``action_limit``: actions lie within ± this and a policy's [−1, 1]
    is mapped to it; none: they are unbounded, and the policy's numbers are passed on as they are. ``random_elapsed``: after a
    restart, episodes begin at random elapsed times, where the simulator counts them in ``episode_length_buf``.

    Raises UsageError, or EnvironmentFailure where the simulator raises.
    """

    restoring = "boundary"
    cuts_single_lanes = False

    def __init__(
        self,
        target: targets.Target,
        lanes: int,
        *,
        options: dict[str, Any] | None = None,
        entries: tuple[str, ...] = (),
        action_limit: float | None = None,
        random_elapsed: bool = False,
    ) -> None:
        self.name, self.lanes = targets.name_of(target), lanes
        self._entries, self._random_elapsed = entries, random_elapsed
        self._seed: int | None = None
        self._steps = self._restarts = 0
        self._restarted = False
        made = targets.created(target, targets.resolve(target), {"num_envs": lanes, **(options or {})})
        self._simulator: Any = made
        missing = [name for name in NEEDED if not hasattr(made, name)]
        if missing:
            raise UsageError(
                f"{self.name} made a {type(made).__name__}, which has no {', '.join(missing)}; expected a vectorised "
                "simulator of torch tensors, as rsl_rl.env.VecEnv"
            )
        if made.num_envs != lanes:
            raise UsageError(f"{self.name} has {made.num_envs} lanes (num_envs), expected {lanes}")
        self._observation = self._reset_all(0)
        self.device = next(leaf for _, leaf in leaves(self._observation)).device
        limit = np.inf if action_limit is None else action_limit
        action = spaces.Box(-limit, limit, (int(made.num_actions),), np.float32)
        self.spaces = Spaces(space_of(self._observation), action)

    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane; [B, ...]."""
        self._seed, self._steps, self._restarts = seed, 0, 0
        return self._restart()

    def step(self, action: Tree) -> Step:
        """Advance every lane by one action [B, n]; lanes that end are reset by the simulator."""
        if self._seed is None:
            raise UsageError("step was called before reset; call reset(seed) first")
        before, self._restarted = self._observation, False
        result = self._call("step", action.clone())  # the simulator may keep it, or write to it
        if not isinstance(result, tuple) or len(result) not in (4, 5):
            raise self._broken(f"step returned {type(result).__name__}, expected (obs, reward, done, extras)")
        observation, reward, done, extras = result if len(result) == 4 else _merged(result)
        self._observation = self._shown(observation, extras)
        ended = self._per_lane("done", done).bool()
        late = extras.get("time_outs")
        truncated = torch.zeros_like(ended) if late is None else self._per_lane("time_outs", late).bool() & ended
        final = None
        if bool(ended.any()):
            told = next((extras[name] for name in FINAL if extras.get(name) is not None), None)
            final = before if told is None else self._shown(told, {})
        self._steps += 1
        return Step(
            observation=map_leaves(torch.clone, self._observation),
            reward=self._per_lane("reward", reward).to(torch.float32, copy=True),
            terminated=ended & ~truncated,
            truncated=truncated,
            final_observation=final,
            info=self._scalars(extras),
        )

    def cut(self, lanes: Tensor) -> Tree:
        """Restart all lanes; [B, ...]. Raises UsageError for some of them."""
        if not bool(lanes.all()):
            raise UsageError(f"{self.name} restarts all lanes or none; received a cut of {int(lanes.sum())}")
        self._restarts += 1
        return self._restart()

    def save(self) -> State:
        """What ``restore`` needs; raises UsageError unless all lanes were restarted just before."""
        if not self._restarted:
            raise UsageError(f"{self.name} restores at episode boundaries only; call save right after cut(all lanes)")
        return {"restoring": "boundary", "seed": self._seed, "steps": self._steps, "restarts": self._restarts}

    def restore(self, state: State) -> Tree:
        """Begin the episodes before which ``save`` was called; [B, ...]."""
        if state.get("restoring") != "boundary" or "restarts" not in state:
            raise UsageError("the state was saved by another kind of environment; expected one of a vector simulator")
        self._seed, self._steps, self._restarts = int(state["seed"]), int(state["steps"]), int(state["restarts"])
        return self._restart()

    def render(self, lane: int = 0) -> np.ndarray | None:
        """What the simulator's own ``render`` draws, where it has one and gives an array [height, width, 3]."""
        frame = self._simulator.render() if callable(getattr(self._simulator, "render", None)) else None
        return None if frame is None else np.asarray(frame)

    def close(self) -> None:
        """Close the simulator, where it can be; safe to call twice."""
        simulator, self._simulator = self._simulator, None
        if callable(getattr(simulator, "close", None)):
            simulator.close()

    def _restart(self) -> Tree:
        assert self._seed is not None
        seed = world_seed(self._seed, "vector", self._restarts)
        self._observation = self._reset_all(seed)
        if self._random_elapsed and hasattr(self._simulator, "episode_length_buf"):
            elapsed = self._simulator.episode_length_buf
            generator = torch.Generator().manual_seed(derive(seed, "elapsed"))
            numbers = torch.randint(int(self._simulator.max_episode_length), elapsed.shape, generator=generator)
            elapsed.copy_(numbers.to(elapsed))
        self._restarted = True
        return map_leaves(torch.clone, self._observation)

    def _reset_all(self, seed: int) -> Tree:
        if callable(getattr(self._simulator, "seed", None)):
            self._simulator.seed(seed)
        result = self._call("reset")
        observation, extras = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
        return self._shown(observation, extras)

    def _shown(self, observation: Any, extras: Mapping[str, Any]) -> Tree:
        """The observation as a tree of fresh tensors, since the simulator may write its next one into the same memory.

        Older simulators give further entries as extras["observations"].
        """
        further = extras.get("observations") if isinstance(extras, Mapping) else None
        if isinstance(observation, Tensor) and further is not None:
            observation = {"policy": observation, **{name: further[name] for name in further.keys() - {"policy"}}}
        tree = _as_tree(observation)
        if isinstance(tree, dict):
            unknown = [name for name in self._entries if name not in tree]
            if unknown:
                raise UsageError(f"{self.name} has no entries {unknown}; its observation has {sorted(tree)}")
            tree = {name: tree[name] for name in self._entries or sorted(tree)}
            if list(tree) == ["policy"]:
                tree = tree["policy"]
        for path, leaf in leaves(tree):
            if not isinstance(leaf, Tensor) or leaf.shape[:1] != (self.lanes,):
                raise self._broken(
                    f"its observation {'/'.join(path)} is {leaf!r:.60}, expected a tensor [{self.lanes}, ...]"
                )
        return map_leaves(torch.clone, tree)

    def _per_lane(self, word: str, value: Any) -> Tensor:
        if not isinstance(value, Tensor) or value.numel() != self.lanes:
            raise self._broken(f"step gave {word} = {value!r:.60}, expected a tensor [{self.lanes}]")
        return value.reshape(self.lanes)

    def _scalars(self, extras: Mapping[str, Any]) -> dict[str, Tensor]:
        """The numbers that the simulator logs, repeated for every lane."""
        found: dict[str, Tensor] = {}
        for name, value in (item for log in LOGS for item in (extras.get(log) or {}).items()):
            if isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1):
                number = torch.as_tensor(value, dtype=torch.float32, device=self.device)
                found[str(name)] = number.reshape(()).expand(self.lanes)
        return found

    def _call(self, call: str, *arguments: Any) -> Any:
        if self._simulator is None:
            raise UsageError(f"{self.name} is closed; make a new one")
        try:
            return getattr(self._simulator, call)(*arguments)
        except (Exception, SystemExit) as error:
            raise failures.raised(self.name, call, error, None, self._steps) from error

    def _broken(self, problem: str) -> Exception:
        return failures.broke_contract(self.name, problem, None, self._steps)


def _merged(result: tuple[Any, ...]) -> tuple[Any, Any, Any, Mapping[str, Any]]:
    """Gymnasium's five values (Isaac Lab without its wrapper) as four."""
    observation, reward, terminated, truncated, extras = result
    late = truncated.bool() & ~terminated.bool()
    return observation, reward, terminated.bool() | truncated.bool(), {**extras, "time_outs": late}


def _as_tree(observation: Any) -> Tree:
    """A tensor, or a dict (or TensorDict) of such, as plain dicts; real numbers as float32."""
    if isinstance(observation, Tensor):
        return observation.float() if observation.is_floating_point() else observation
    if hasattr(observation, "keys"):
        return {str(name): _as_tree(observation[name]) for name in observation.keys()}  # noqa: SIM118 # a TensorDict's
    return observation


def space_of(tree: Tree) -> spaces.Space[Any]:
    """The space of one lane of an observation tree [B, ...]: unbounded boxes, bytes as images."""
    if isinstance(tree, dict):
        return spaces.Dict({name: space_of(part) for name, part in tree.items()})
    shape = tuple(tree.shape[1:])
    if tree.dtype == torch.uint8:
        return spaces.Box(0, 255, shape, np.uint8)
    if tree.dtype == torch.bool:
        return spaces.MultiBinary(shape)
    return spaces.Box(-np.inf, np.inf, shape, np.float32 if tree.is_floating_point() else np.int64)

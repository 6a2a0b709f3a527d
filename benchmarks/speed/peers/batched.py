"""pistar's batch of MuJoCo simulations as peers' environments, to tell what they gain by the physics alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pistar.envs.mujoco import MujocoBatch


def stable_baselines(task: str, lanes: int, seed: int, returns: list[float]) -> Any:
    """A ``VecEnv`` of Stable-Baselines3; notes the returns of finished episodes."""
    from stable_baselines3.common.vec_env import VecEnv

    class Batch(VecEnv):
        def __init__(self) -> None:
            self.batch = MujocoBatch(task, lanes)
            self.totals, self.lengths = np.zeros(lanes), np.zeros(lanes, int)
            super().__init__(lanes, self.batch.spaces.observation, self.batch.spaces.action)

        def reset(self) -> Any:
            return self.batch.reset(seed).numpy().copy()

        def step_async(self, actions: Any) -> None:
            self.actions = torch.from_numpy(actions)

        def step_wait(self) -> Any:
            step = self.batch.step(self.actions)
            reward, ended = step.reward.numpy().copy(), step.ended.numpy()
            self.totals += reward
            infos: list[dict[str, Any]] = [{} for _ in range(lanes)]
            for lane in np.flatnonzero(ended):
                assert step.final_observation is not None
                returns.append(float(self.totals[lane]))
                infos[lane] = {
                    "terminal_observation": step.final_observation[lane].numpy().copy(),
                    "TimeLimit.truncated": bool(step.truncated[lane] & ~step.terminated[lane]),
                }
                self.totals[lane] = 0
            return step.observation.numpy().copy(), reward, ended.copy(), infos

        def close(self) -> None:
            self.batch.close()

        def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
            return [None] * lanes

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
            raise NotImplementedError

        def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
            raise NotImplementedError

        def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
            return [False] * lanes

    return Batch()


class RslBatch:
    """What rsl_rl's ``Lanes`` here steps, all lanes at once."""

    def __init__(self, task: str, lanes: int, seed: int, returns: list[float]) -> None:
        self.batch, self.totals, self.returns = MujocoBatch(task, lanes), np.zeros(lanes), returns
        self.observation = self.batch.reset(seed).clone()

    def step(self, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reward, done, time-outs: [B] each."""
        space = self.batch.spaces.action
        step = self.batch.step(actions.clamp(torch.from_numpy(space.low), torch.from_numpy(space.high)))
        self.observation = step.observation.clone()
        self.totals += step.reward.numpy()
        ended = step.ended
        for lane in ended.nonzero().flatten().tolist():
            self.returns.append(float(self.totals[lane]))
            self.totals[lane] = 0
        return step.reward.clone(), ended.long(), (step.truncated & ~step.terminated).float()

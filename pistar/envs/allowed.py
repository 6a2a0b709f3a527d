"""Actions that a mask allows: drawn at random among them, or made one of them.

A mask is what `pistar.heads` takes: one number per choice of a discrete action, 0 where it is forbidden; of a composed
action, a dict of its parts' masks by name (of a tuple "0", "1", ..., or a tuple), in which free parts may be missing. One
that forbids every value of an index forbids none.

This is for actions that no policy chose: before the first moments, of the random baseline, in examinations of worlds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from pistar.envs.environment import Environment, State, Step, Tree
from pistar.envs.wrappers import Wrapper
from pistar.errors import UnknownName, UnsupportedSpace
from pistar.seeding import derive
from pistar.tree import map_leaves

Space = spaces.Space[Any]


def random_action(space: Space, lanes: int, device: torch.device, mask: Tree = None) -> Tree:
    """One action per lane, uniform over what ``mask`` [B, ...] allows, from the space's own random stream: [B, ...]."""
    if mask is None:
        samples = [space.sample() for _ in range(lanes)]
    else:
        rows = map_leaves(lambda x: x.cpu().numpy() > 0, mask)
        samples = [sample(space, map_leaves(lambda x, lane=lane: x[lane], rows)) for lane in range(lanes)]
    return map_leaves(lambda *x: torch.as_tensor(np.stack(x)).to(device), samples[0], *samples[1:])


def random_steps(
    environment: Environment, mask: str | dict[str, str] | None, seed: int, steps: int
) -> tuple[Tree, Tensor, Tensor, Tensor]:
    """Random actions, uniform over what is allowed of the space (standard normal where it has no bounds).

    What was seen [T, B, ...], rewards, ends and which entries were valid [T, B].
    """
    space = environment.spaces.action
    space.seed(derive(seed, "warm-up", "actions") % 2**31)
    observation = environment.reset(derive(seed, "warm-up"))
    seen, rewards, ended, valid = [], [], [], []
    for _ in range(steps):
        seen.append(map_leaves(torch.clone, observation))
        allowed = mask_in(observation, mask)
        step = environment.step(random_action(space, environment.lanes, environment.device, allowed))
        rewards.append(step.reward.clone())
        ended.append(step.ended.clone())
        valid.append(torch.ones_like(step.ended) if step.valid is None else step.valid.clone())
        observation = step.observation
    together = map_leaves(lambda *x: torch.stack(x), seen[0], *seen[1:])
    return together, torch.stack(rewards), torch.stack(ended), torch.stack(valid)


def sample(space: Space, allowed: Tree) -> Any:
    """One element of the space, from its own random stream; ``allowed`` holds bools of one lane, None for a free part."""
    if allowed is None:
        return space.sample()
    if isinstance(space, spaces.Dict):
        return {name: sample(part, _part(allowed, name)) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(sample(part, _part(allowed, index)) for index, part in enumerate(space.spaces))
    if isinstance(space, spaces.Discrete):
        return space.start + space.dtype.type(_one_of(allowed.reshape(-1), space.np_random))
    if isinstance(space, spaces.MultiDiscrete):
        shares = np.split(allowed.reshape(-1), np.cumsum(space.nvec.reshape(-1))[:-1])
        chosen = [_one_of(share, space.np_random) for share in shares]
        return (np.reshape(chosen, space.shape) + space.start).astype(space.dtype)
    if isinstance(space, spaces.MultiBinary):
        return (space.sample() * allowed.reshape(space.shape)).astype(space.dtype)
    raise UnsupportedSpace(f"a mask forbids discrete choices, of which {space} has none; leave its mask out")


def _one_of(allowed: np.ndarray, stream: np.random.Generator) -> int:
    """The index of one that is allowed; of any where none is."""
    return int(stream.choice(np.flatnonzero(allowed if allowed.any() else ~allowed)))


def made_allowed(space: Space, action: Tree, mask: Tree) -> Tree:
    """The action [B, ...] itself where ``mask`` [B, ...] allows it; of an index else the next value up, round and round."""
    if mask is None:
        return action
    if isinstance(space, spaces.Dict):
        return {name: made_allowed(part, action[name], _part(mask, name)) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(made_allowed(part, action[i], _part(mask, i)) for i, part in enumerate(space.spaces))
    lanes = len(action)
    allowed = mask.reshape(lanes, -1) > 0
    if isinstance(space, spaces.Discrete):
        return _next(action - int(space.start), allowed) + int(space.start)
    if isinstance(space, spaces.MultiDiscrete):
        start = torch.as_tensor(np.asarray(space.start).reshape(-1), device=action.device).to(action.dtype)
        indices = (action.reshape(lanes, -1) - start).unbind(-1)
        shares = torch.split(allowed, space.nvec.reshape(-1).tolist(), -1)
        moved = torch.stack([_next(index, share) for index, share in zip(indices, shares, strict=True)], -1)
        return (moved + start).view(action.shape)
    if isinstance(space, spaces.MultiBinary):
        return action * allowed.view(lanes, *space.shape).to(action.dtype)
    raise UnsupportedSpace(f"a mask forbids discrete choices, of which {space} has none; leave its mask out")


def _next(index: Tensor, allowed: Tensor) -> Tensor:
    """The first of index, index + 1, ... (modulo n) that is allowed, or index where none is: [B], [B, n] -> [B]."""
    count = allowed.shape[-1]
    order = (index.long().unsqueeze(-1) + torch.arange(count, device=index.device)) % count
    offset = allowed.gather(-1, order).to(torch.int8).argmax(-1)  # the first of several; 0 where there is none
    return ((index.long() + offset) % count).to(index.dtype)


def _part(mask: Tree, key: str | int) -> Tree:
    """The mask of one part of a composed action; None where it is free."""
    return mask[int(key)] if isinstance(mask, tuple) else mask.get(str(key))


class OnlyAllowed(Wrapper):
    """Takes any action and executes an allowed one, so that a world with a mask can be given a fixed list of actions."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._mask: Tree = None  # [B, ...] of the current observation

    @staticmethod
    def around(environment: Environment) -> Environment:
        """The environment so wrapped where it has a mask, else itself."""
        return environment if environment.mask is None else OnlyAllowed(environment)

    def _noted(self, observation: Tree) -> Tree:
        self._mask = map_leaves(torch.clone, mask_in(observation, self.mask))
        return observation

    def reset(self, seed: int) -> Tree:
        """As the contract says."""
        return self._noted(self.environment.reset(seed))

    def step(self, action: Tree) -> Step:
        """As the contract says, with a copy of the action."""
        step = self.environment.step(made_allowed(self.spaces.action, action, self._mask))
        self._noted(step.observation)
        return step

    def cut(self, lanes: Tensor) -> Tree:
        """As the contract says."""
        return self._noted(self.environment.cut(lanes))

    def save(self) -> State:
        """The wrapped environment's own: nothing is added."""
        return self.environment.save()

    def restore(self, state: State) -> Tree:
        """As the contract says."""
        return self._noted(self.environment.restore(state))


def mask_in(observation: Tree, name: str | dict[str, str] | None) -> Tree:
    """The mask called ``name`` of an observation, None without a name; raises UnknownName where there is no such entry.

    Where agents form groups, ``name`` has one for each group that has a mask, and so has what is given.
    """
    if name is None:
        return None
    if isinstance(name, dict):
        return {group: mask_in(observation[group], each) for group, each in name.items()}
    if not isinstance(observation, dict) or name not in observation:
        known = observation if isinstance(observation, dict) else ()
        raise UnknownName("entry of the observation to mask actions:", name, known)
    return observation[name]

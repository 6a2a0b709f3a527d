"""The rules of the environment contract, and the checks that need no second run: one declaration, one outcome.

What can be judged only by comparing runs (seeds, lanes, cuts, restoring) is in `pistar.testing.environments`.
"""

from __future__ import annotations

from typing import Any, Never, get_args

import gymnasium
import numpy as np
import torch
from torch import Tensor

from pistar.envs.environment import Environment, Restoring, Step
from pistar.errors import UsageError
from pistar.heads import action_head, require_mask
from pistar.testing.violation import ContractViolation
from pistar.tree import Tree

RULES = {
    "declaration": "name, spaces, lanes, restoring, device and mask are set and true of the instance",
    "observation": "observations are trees of finite tensors [B, ...] on `device`, in the observation space",
    "reward": "reward and every stream are finite float32 [B]; info is a mapping of names to float [B]",
    "flags": "terminated, truncated and valid are bool [B] on `device`",
    "final observation": "where a lane ended, final_observation holds its last observation, before the reset",
    "valid": "an entry is invalid only right after its lane's episode ended; it ends nothing and ignores its action",
    "global randomness": "no draw comes from the global streams of random, numpy or torch, and none is reseeded",
    "determinism": "in the tiers `state` and `replay`, equal seeds and equal actions give equal bits",
    "reset": "reset(seed) starts episode 0 on every lane and forgets all that went before",
    "seed": "episode k of lane b starts from episode_seed(seed, b, k): equal seeds, equal starts; others differ",
    "episode starts": "the start of a lane's next episode does not depend on actions, lengths or other lanes",
    "lanes": "lanes are independent: what one of them does changes nothing for another",
    "instances": "two instances are independent: what one of them does changes nothing for the other",
    "ownership": "step reads its action during the call only and changes none; writes to outcomes change no later step",
    "cut": "cut starts the next episode of the chosen lanes and leaves all others where they are",
    "save": "save returns a dict of str to tensors, arrays, JSON scalars, lists or such dicts, and changes nothing",
    "restore": "a fresh instance given what save returned shows the same observation and continues bit for bit",
    "close": "close is safe to call twice",
}


def violate(rule: str, finding: str) -> Never:
    """Raise ContractViolation for a rule of this list."""
    raise ContractViolation(rule, finding, RULES)


def check_declaration(environment: Environment, lanes: int) -> None:
    """The attributes that everything else relies on."""
    for attribute in ("name", "spaces", "lanes", "restoring", "device"):
        if not hasattr(environment, attribute):
            violate("declaration", f"{type(environment).__name__} has no attribute {attribute!r}")
    if environment.lanes != lanes:
        violate("declaration", f"make({lanes}) gave an environment that says lanes = {environment.lanes!r}")
    if not isinstance(environment.name, str) or not environment.name:
        violate("declaration", f"name must be a non-empty str, received {environment.name!r}")
    if environment.restoring not in get_args(Restoring):
        violate("declaration", f"restoring must be one of {get_args(Restoring)}, received {environment.restoring!r}")
    if not isinstance(environment.device, torch.device):
        violate("declaration", f"device must be a torch.device, received {environment.device!r}")
    for which in ("observation", "action"):
        space = getattr(environment.spaces, which, None)
        if not isinstance(space, gymnasium.Space):
            violate("declaration", f"spaces.{which} must be a gymnasium Space of one lane, received {space!r}")
    if environment.mask is not None:
        try:
            require_mask(environment.spaces.observation, environment.mask, action_head(environment.spaces.action))
        except UsageError as error:
            violate("declaration", f"mask is {environment.mask!r}: {error}")


def check_observation(environment: Environment, tree: Tree, whence: str, lanes: Tensor | None = None) -> None:
    """Shape, dtype, device and membership in the space; ``lanes`` [B] bool limits the last to some rows."""
    _check_part(environment, environment.spaces.observation, tree, whence, lanes)


def _check_part(
    environment: Environment, space: gymnasium.Space[Any], tree: Tree, whence: str, lanes: Tensor | None
) -> None:
    if isinstance(space, gymnasium.spaces.Dict):
        if not isinstance(tree, dict) or set(tree) != set(space.spaces):
            received = list(tree) if isinstance(tree, dict) else type(tree).__name__
            violate("observation", f"{whence}: expected a dict of {list(space.spaces)}, received {received}")
        for name, part in space.spaces.items():
            _check_part(environment, part, tree[name], f"{whence}/{name}", lanes)
    elif isinstance(space, gymnasium.spaces.Tuple):
        if not isinstance(tree, tuple) or len(tree) != len(space.spaces):
            violate("observation", f"{whence}: expected a tuple of {len(space.spaces)}, received {type(tree).__name__}")
        for index, part in enumerate(space.spaces):
            _check_part(environment, part, tree[index], f"{whence}/{index}", lanes)
    else:
        _check_leaf(environment, space, tree, whence)
        _check_values(space, tree, whence, lanes)


def _check_values(space: gymnasium.Space[Any], leaf: Tensor, whence: str, lanes: Tensor | None) -> None:
    for wrong, word in ((~leaf.isfinite(), "not finite"), (_outside(space, leaf), f"outside {space}")):
        if lanes is not None:
            wrong[~lanes] = False
        if bool(wrong.any()):
            lane, *entry = wrong.nonzero()[0].tolist()
            place = f"lane {lane}, entry {entry}" if entry else f"lane {lane}"
            violate("observation", f"{whence}: {place} is {leaf[(lane, *entry)].item()!r}, which is {word}")


def _check_leaf(environment: Environment, space: gymnasium.Space[Any], leaf: Any, whence: str) -> None:
    if not isinstance(leaf, Tensor):
        violate("observation", f"{whence}: expected a torch.Tensor, received {type(leaf).__name__}")
    shape = (environment.lanes, *(space.shape or ()))
    if tuple(leaf.shape) != shape:
        violate("observation", f"{whence}: expected shape {list(shape)}, received {list(leaf.shape)}")
    own = torch.as_tensor(np.zeros((), space.dtype)).dtype
    allowed = {torch.float32, own} if own.is_floating_point else {own}
    if leaf.dtype not in allowed:
        violate("observation", f"{whence}: expected {' or '.join(map(str, allowed))}, received {leaf.dtype}")
    if leaf.device.type != environment.device.type:
        violate("observation", f"{whence}: expected a tensor on {environment.device}, received one on {leaf.device}")


def _outside(space: gymnasium.Space[Any], leaf: Tensor) -> Tensor:
    """[B, ...] bool: the values that the space forbids; bounds are rounded to the tensor's own precision."""

    def bound(values: Any) -> Tensor:
        return torch.as_tensor(np.asarray(values)).to(leaf.device, leaf.dtype)

    if isinstance(space, gymnasium.spaces.Box):
        return (leaf < bound(space.low)) | (leaf > bound(space.high))
    if isinstance(space, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete):
        count = space.n if isinstance(space, gymnasium.spaces.Discrete) else space.nvec
        return (leaf < bound(space.start)) | (leaf >= bound(space.start + count))
    if isinstance(space, gymnasium.spaces.MultiBinary):
        return (leaf != 0) & (leaf != 1)
    return torch.zeros_like(leaf, dtype=torch.bool)


def check_step(environment: Environment, step: Step, t: int) -> None:
    """All that one outcome says about itself; ``t`` names it in messages."""
    if not isinstance(step, Step):
        violate("declaration", f"step must return a pistar.envs.environment.Step, received {type(step).__name__}")
    for name in ("terminated", "truncated", "valid"):
        flag = getattr(step, name)
        if flag is not None or name != "valid":
            _check_vector(environment, flag, "flags", f"{name} of step {t}", (torch.bool,))
    _check_vector(environment, step.reward, "reward", f"reward of step {t}", (torch.float32,))
    for name, stream in step.streams.items():
        _check_vector(environment, stream, "reward", f"stream {name!r} of step {t}", (torch.float32,))
    for name, values in step.info.items():
        _check_vector(environment, values, "reward", f"info[{name!r}] of step {t}", (torch.float32, torch.float64))
    for name, rewards in {"reward": step.reward, **step.streams}.items():
        if not bool(rewards.isfinite().all()):
            lane = int((~rewards.isfinite()).nonzero()[0])
            violate("reward", f"{name} of step {t} is {rewards[lane].item()!r} on lane {lane}")
    check_observation(environment, step.observation, f"observation of step {t}")
    if bool(step.ended.any()):
        if step.final_observation is None:
            violate("final observation", f"a lane ended at step {t}, but final_observation is None")
        check_observation(environment, step.final_observation, f"final_observation of step {t}", step.ended)


def _check_vector(
    environment: Environment, value: Any, rule: str, whence: str, dtypes: tuple[torch.dtype, ...]
) -> None:
    if not isinstance(value, Tensor):
        violate(rule, f"{whence}: expected a torch.Tensor, received {type(value).__name__}")
    if tuple(value.shape) != (environment.lanes,):
        violate(rule, f"{whence}: expected shape [{environment.lanes}], received {list(value.shape)}")
    if value.dtype not in dtypes:
        violate(rule, f"{whence}: expected {' or '.join(map(str, dtypes))}, received {value.dtype}")
    if value.device.type != environment.device.type:
        violate(rule, f"{whence}: expected a tensor on {environment.device}, received one on {value.device}")


def check_state(state: Any, whence: str = "save()") -> None:
    """``save``'s result consists of what a checkpoint can hold: no objects, no pickles."""
    if isinstance(state, dict):
        for key, value in state.items():
            if not isinstance(key, str):
                violate("save", f"{whence} has the key {key!r}; keys are str")
            check_state(value, f"{whence}[{key!r}]")
    elif isinstance(state, list):
        for index, value in enumerate(state):
            check_state(value, f"{whence}[{index}]")
    elif isinstance(state, np.ndarray):
        if state.dtype.hasobject:
            violate("save", f"{whence} is an array of Python objects")
    elif not isinstance(state, Tensor | str | int | float | bool | None) or isinstance(state, np.generic):
        violate("save", f"{whence} is a {type(state).__name__}: {state!r:.60}")

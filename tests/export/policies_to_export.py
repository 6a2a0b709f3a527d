"""Policies of every kind, for tests of what is exported: shaken, so that no output is near its start, and with moments."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from pistar.envs.environment import Spaces
from pistar.export import ExportedPolicy, to_bytes
from pistar.families import FAMILIES
from pistar.features import FEATURE_MAPS
from pistar.memories import MEMORIES
from pistar.networks import ACTIVATIONS
from pistar.policies import POLICIES
from pistar.policies.linear_softmax import LinearSoftmax
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.tree import map_leaves

NUMBERS = spaces.Box(-np.inf, np.inf, (3,), np.float32)
NEAR = spaces.Box(-2.0, 3.0, (3,), np.float32)
ALLOWED = spaces.MultiBinary(3)
TWO = spaces.Box(np.array([-1.0, 0.2], np.float32), np.array([1.0, 0.4], np.float32))
EVERYTHING = spaces.Dict(
    {
        "a picture": spaces.Box(0, 255, (7, 6, 2), np.uint8),
        "bits": spaces.MultiBinary([2, 2]),
        "count": spaces.Box(-3, 9, (2,), np.int32),
        "pair": spaces.Tuple([spaces.Discrete(3, start=-1), spaces.Box(-np.inf, np.inf, (), np.float64)]),
        "parts": spaces.MultiDiscrete([[2, 3], [4, 2]]),
        "seen": NUMBERS,
        "mask": spaces.Dict({"gear": ALLOWED, "switches": spaces.Box(0.0, 1.0, (2,), np.float32)}),
    }
)
MIXED = spaces.Dict(
    {
        "gear": spaces.Discrete(3, start=2),
        "hands": spaces.Tuple([TWO, spaces.MultiDiscrete([2, 4], start=[1, 0])]),
        "pedal": spaces.Box(-5.0, np.inf, (1,), np.float64),
        "switches": spaces.MultiBinary(2),
    }
)
MASKED = spaces.Dict({"seen": NUMBERS, "mask": ALLOWED})
TOLD = spaces.Dict({"seen": NUMBERS, "told": spaces.Box(-1.0, 1.0, (2,), np.float32), "mask": ALLOWED})
TINY: dict[str, Any] = {"hidden": (8,), "memory_size": 6, "image_features": 5, "filters": (3,), "kernels": (3,)}
TINY |= {"strides": (2,)}

Case = tuple[Any, spaces.Space[Any], spaces.Space[Any]]


def cases() -> dict[str, Case]:
    """Name -> (kind, observations, actions); every registry's entries among them, those of later times too."""
    made: dict[str, Case] = {}
    made |= {f"policy {name}": (POLICIES.get(name)(), NEAR, spaces.Discrete(4)) for name in POLICIES.names()}
    made |= {f"family {name}": (MLP(distribution=name), NUMBERS, TWO) for name in FAMILIES.names()}
    made |= {f"features {name}": (LinearSoftmax(features=name, **options), NEAR, ALL) for name, options in MAPS.items()}
    for name in MEMORIES.names():
        made[f"memory {name}"] = (MLP(memory=name, mask="mask", **TINY), EVERYTHING, MIXED)
        made[f"memory {name} apart"] = (MLP(memory=name, mask="mask", actor_keys=("seen",), **TINY), TOLD, ALL)
    made |= {f"activation {name}": (MLP(activation=name, hidden=(8, 8)), NUMBERS, TWO) for name in ACTIVATIONS}
    made["multi-discrete"] = (MLP(hidden=(8,)), spaces.Discrete(5, start=3), spaces.MultiDiscrete([[2, 3], [2, 2]]))
    made["multi-binary"] = (MLP(hidden=(8,)), spaces.MultiDiscrete([3, 2]), spaces.MultiBinary([2, 2]))
    made["masked"] = (MLP(mask="mask"), MASKED, ALL)
    made["a critic that is told more"] = (
        MLP(mask="mask", actor_keys=("seen",), critic_keys=("seen", "told")),
        TOLD,
        ALL,
    )
    made["a value beside"] = (MLP(auxiliary_value=True, distributions={"hands/0": "beta"}), NUMBERS, MIXED)
    made["numbers without normaliser"] = (MLP(normalize=False, images="flat"), EVERYTHING["a picture"], TWO)
    return made


ALL = spaces.Discrete(3)
MAPS: dict[str, dict[str, Any]] = {name: {} for name in FEATURE_MAPS} | {"one-hot": {"bins": (5,)}}


def build(case: Case, dtype: torch.dtype = torch.float32) -> Policy:
    kind, observation, action = case
    policy: Policy = kind.build(Spaces(observation, action), torch.Generator().manual_seed(0)).to(dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    policy.absorb(map_leaves(torch.as_tensor, look(observation, 500, np.random.default_rng(2))))
    return policy.eval()


def look(space: spaces.Space[Any], rows: int, generator: np.random.Generator) -> Any:
    """Observations [N, ...] as an environment gives them; numbers are around 100, with deviations of 5."""
    if isinstance(space, spaces.Dict):
        return {key: look(child, rows, generator) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(look(child, rows, generator) for child in space.spaces)
    shape = (rows, *(space.shape or ()))
    if isinstance(space, spaces.Discrete):
        return generator.integers(space.start, space.start + space.n, shape)
    if isinstance(space, spaces.MultiDiscrete):
        return generator.integers(np.broadcast_to(space.nvec, shape)) + space.start
    if isinstance(space, spaces.MultiBinary):
        return generator.integers(0, 2, shape, np.int8)
    assert isinstance(space, spaces.Box)
    if space.dtype.kind != "f":
        return generator.integers(space.low, space.high, shape, space.dtype, endpoint=True)
    if np.isfinite(space.low).all():
        return (
            generator.uniform(space.low, space.high, shape)
            .round((int(space.low.max() == 0) and 0) or 3)
            .astype(space.dtype)
        )
    return (100 + 5 * generator.standard_normal(shape)).astype(space.dtype)


@lru_cache
def exported(name: str) -> tuple[Policy, ExportedPolicy, bytes]:
    """Each is made once for all tests."""
    policy = build(cases()[name])
    provenance = {"task": {"kind": "pendulum"}, "steps": 1000, "algorithm": "ppo", "seed": 1}
    data = to_bytes(policy, provenance, "00")
    return policy, ExportedPolicy.from_bytes(data, name), data


def memory_of(policy: Policy, feeds: dict[str, Any]) -> Any:
    """What an exported policy remembers, as its torch policy has it; of a critic's own memory the start."""
    rows = len(next(iter(feeds.values())))
    held, memory = iter(feeds.values()), policy.initial_memory(rows)
    return {**memory, "actor": map_leaves(lambda _: torch.from_numpy(next(held)), memory["actor"])}

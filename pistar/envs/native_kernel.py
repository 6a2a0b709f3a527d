"""The step of a torch-native world as one call of the native kernels, on a CPU, for the worlds that are written there too.

On eight lanes a world's few dozen tensor operations cost a hundred times their arithmetic. `of` finds the kernel of exactly
the classes in ``WORLDS`` (a subclass may compute anything else), and believes it only after a step beside ``dynamics``, to
float32 rounding. State stays in the environment's own tensors, so that saving, restoring and drawing know nothing of it.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pistar import seeding
from pistar.envs.environment import Step
from pistar.kernels.library import library, log

if TYPE_CHECKING:
    from pistar.envs.native import NativeEnvironment

# Class -> number, entries of its state and of its info in the order of ``worlds.hpp``, attribute that is its constant.
WORLDS: dict[str, tuple[int, tuple[str, ...], tuple[str, ...], str | None]] = {
    "pistar.envs.cartpole.CartPole": (0, ("state",), (), None),
    "pistar.envs.pendulum.Pendulum": (1, ("angle", "turning"), (), None),
    "pistar.envs.arm_reach.ArmReach": (2, ("angle", "velocity", "target"), ("distance", "success"), "gravity"),
}
OVERRIDABLE = {"start", "dynamics", "observe"}  # where an instance replaces one, torch must do the work
TOLERANCE = 1e-4
_believed: dict[str, bool] = {}

Pointer = ctypes.c_void_p


class Lanes(ctypes.Structure):
    """As ``worlds.hpp`` has it."""

    _fields_ = (
        ("lanes", ctypes.c_long),
        ("limit", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
        ("constant", ctypes.c_float),
        ("episode", Pointer),
        ("elapsed", Pointer),
        ("state", Pointer * 3),
        *((name, Pointer) for name in ("observation", "final_observation", "reward", "terminated", "truncated")),
        ("info", Pointer * 2),
    )


class Kernel:
    """Steps one environment; ``step`` gives tensors that live until the next one."""

    def __init__(self, native: ctypes.CDLL, environment: NativeEnvironment, name: str) -> None:
        self._environment, self._native = environment, native
        self._number, self._entries, names, constant = WORLDS[name]
        lanes, seen = environment.lanes, (environment.lanes, *(environment.spaces.observation.shape or ()))
        self._observation, self._final = (torch.zeros(seen, dtype=torch.float32) for _ in range(2))
        self._reward = torch.zeros(lanes, dtype=torch.float32)
        self._terminated, self._truncated = (torch.zeros(lanes, dtype=torch.bool) for _ in range(2))
        self._info = {name: torch.zeros(lanes, dtype=torch.float32) for name in names}
        self._lanes = Lanes(lanes=lanes, constant=getattr(environment, constant) if constant else 0.0)
        answers = (self._observation, self._final, self._reward, self._terminated, self._truncated)
        for field, tensor in zip(Lanes._fields_[-6:-1], answers, strict=True):
            setattr(self._lanes, field[0], tensor.data_ptr())
        self._lanes.info = (Pointer * 2)(*(tensor.data_ptr() for tensor in self._info.values()))
        self._dtype = torch.float32 if environment._continuous else torch.int64
        self._reference = ctypes.addressof(self._lanes)
        self._bound: Any = None  # the world whose addresses the record holds

    def _bind(self) -> None:
        """Take the addresses of the environment's state where it has replaced it; a restored one comes in any order."""
        if self._bound is self._environment._world:
            return
        environment, lanes = self._environment, self._lanes
        assert environment._seed is not None
        world = environment._world = {name: tensor.contiguous() for name, tensor in environment._world.items()}
        lanes.state = (Pointer * 3)(*(world[entry].data_ptr() for entry in self._entries))
        lanes.episode, lanes.elapsed = environment._episode.data_ptr(), environment._elapsed.data_ptr()
        lanes.seed = seeding.derive(environment._seed, "episodes")
        self._bound = world

    def look(self, begin: Tensor) -> Tensor:
        """Put the lanes where ``begin`` [B] at the start of their running episode; what all of them see, [B, ...]."""
        self._bind()
        begin = begin.contiguous()
        self._native.world_look(self._number, self._reference, begin.data_ptr())
        return self._observation

    def step(self, action: Tensor) -> Step | None:
        """Advance every lane and reset those that end; None, with nothing changed, for an action that is not finite."""
        self._bind()
        self._lanes.limit = self._environment.time_limit
        action = action.to(self._dtype).contiguous()  # named, so that it lives until the call has read it
        ended = self._native.world_step(self._number, self._reference, action.data_ptr())
        if ended < 0:
            return None
        final = self._final if ended else None
        return Step(self._observation, self._reward, self._terminated, self._truncated, final, info=self._info)


def of(environment: NativeEnvironment) -> Kernel | None:
    """The kernel that steps this environment, or None where its own ``dynamics`` must."""
    kind = type(environment)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name not in WORLDS or environment.device.type != "cpu" or OVERRIDABLE & vars(environment).keys():
        return None
    native = library()
    if native is None:
        return None
    if name not in _believed:
        _believed[name] = True  # so that the check finds a kernel to check
        error = _error(environment, WORLDS[name][3])
        _believed[name] = error < TOLERANCE
        if not error < TOLERANCE:
            log.warning("the kernel of %s is not used: it is off by %.1g; torch steps it", environment.name, error)
    return Kernel(native, environment, name) if _believed[name] else None


def _error(environment: NativeEnvironment, constant: str | None) -> float:
    """How far the kernel is from ``dynamics``, ``observe`` and ``start`` in a world like this one.

    Infinite where flags differ, and NaN where anything is: neither is less than what is tolerated.
    """
    options = {} if constant is None else {constant: getattr(environment, constant)}
    twin = type(environment)(16, **options)
    twin.time_limit = 3
    twin.reset(5)
    generator, errors = torch.Generator().manual_seed(5), []
    for step in range(1, 4):
        number = torch.rand((16, *twin.spaces.action.shape), generator=generator, dtype=torch.float32, device="cpu")  # type: ignore[misc]
        action = 2 * number - 1 if twin._continuous else (2 * number).long()
        after, last = twin.dynamics(twin.world, action), step == 3
        found = twin.step(action)
        if bool(found.terminated.any()) or bool(found.truncated.all()) != last:
            return float("inf")
        expected = twin._fresh() if last else after.world
        before_reset = found.observation if found.final_observation is None else found.final_observation
        pairs = [(found.reward, after.reward), *((twin.world[name], expected[name]) for name in expected)]
        pairs += [(found.observation, twin.observe(expected)), (before_reset, twin.observe(after.world))]
        pairs += [(found.info[name], value) for name, value in after.info.items()]
        errors += [(mine - theirs).abs().max() for mine, theirs in pairs]
    return float(torch.stack(errors).max())  # of which NaN is the largest

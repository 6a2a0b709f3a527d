"""Worlds written in torch: B lanes are one batch, and a step is a few tensor operations on the CPU or on CUDA.

A world is four short methods: ``start`` (uniform numbers -> state), ``dynamics`` (state, action -> what follows),
``observe`` (state -> observation) and, for pictures, ``draw``. ``dynamics`` is pure and differentiable; the stepper here
and ``unroll``, through which gradients flow to actions and states, both call it and agree bit for bit, but for the few
worlds that ``native_kernel`` steps on a CPU, which agree to float32 rounding.

Episodes start from counter-based random numbers, a function of (seed, lane, episode): no generator is consumed, lanes
are independent, and CPU and CUDA start alike. Restoring is of tier ``state``. It differs from ``mujoco``, whose physics
is a library's, and from ``gym_lanes``, which steps one Python object per lane.

Left out: dynamics that draw random numbers themselves (draw them at the start and carry them in the state).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from pistar import seeding
from pistar.envs import counter_random, native_kernel
from pistar.envs.environment import Carried, Environment, State, Step, Tree
from pistar.errors import NumericalError, UsageError
from pistar.tree import map_leaves

World = dict[str, Tensor]  # name -> [B, ...]: everything that the future of a lane depends on


@dataclass(frozen=True)
class Transition:
    """What one step of the dynamics leads to, before any reset."""

    world: World
    reward: Tensor  # [B]
    terminated: Tensor | None = None  # [B] bool; None: this world never ends an episode by itself
    info: Mapping[str, Tensor] = field(default_factory=dict)  # name -> [B]


class NativeEnvironment(Environment):
    """The stepper. A subclass sets ``name``, ``spaces``, ``time_limit`` and ``draws``, and then calls ``__init__``.

    ``random_elapsed`` lets each lane's first episode begin with a random part of its time limit already elapsed, so that
    lanes which start together do not end together; meant for training.
    """

    restoring = "state"
    time_limit: int  # steps after which an episode is truncated
    draws: int  # uniform numbers that the start of an episode takes

    def __init__(self, lanes: int, device: str | torch.device = "cpu", random_elapsed: bool = False) -> None:
        if lanes < 1:
            raise UsageError(f"{self.name} needs at least 1 lane, received {lanes}")
        self.lanes, self.device, self.random_elapsed = lanes, torch.device(device), random_elapsed
        self._lane = torch.arange(lanes, device=self.device)
        self._episode = torch.zeros_like(self._lane)
        self._elapsed = torch.zeros_like(self._lane)
        self._action_shape = (lanes, *(self.spaces.action.shape or ()))
        self._continuous = isinstance(self.spaces.action, spaces.Box)
        self.looks = self.device.type == "cpu"  # whether a step may look at its data: a GPU would have to be waited for
        self._seed: int | None = None
        self._steps = 0  # since `reset`
        self._world: World = {}
        self._kernel: native_kernel.Kernel | None = None  # looked for where episodes begin

    @abstractmethod
    def start(self, uniform: Tensor) -> World:
        """The first state of an episode from uniform numbers [B, draws] in [0, 1)."""

    @abstractmethod
    def dynamics(self, world: World, action: Tensor) -> Transition:
        """One step of every lane; pure, differentiable, in the floating-point type of ``world``."""

    @abstractmethod
    def observe(self, world: World) -> Tree:
        """The observation [B, ...]; pure, in memory of its own, which the caller may overwrite."""

    def draw(self, world: World) -> np.ndarray | None:
        """An RGB frame of a state with B = 1, or None where the world cannot be drawn."""
        return None

    @property
    def world(self) -> World:
        """A copy of the current state."""
        return {name: value.clone() for name, value in self._world.items()}

    def reset(self, seed: int) -> Tree:
        """Start episode 0 on every lane; [B, ...]."""
        self._seed, self._steps = seed, 0
        self._episode.zero_()
        self._elapsed.zero_()
        if self.random_elapsed:
            share = counter_random.uniform(seeding.derive(seed, "elapsed"), self._lane, self._episode, 1)[:, 0]
            self._elapsed += (share * self.time_limit).long()
        self._world, self._kernel = self._fresh(), native_kernel.of(self)
        return self._look(torch.ones(self.lanes, dtype=torch.bool))

    def _look(self, begun: Tensor) -> Tree:
        """What every lane sees; a kernel first computes the starts of the lanes that have ``begun`` [B] itself.

        A start and an observation have the same bits whether a step, a cut or a restored state leads to them.
        """
        return self.observe(self._world) if self._kernel is None else self._kernel.look(begun)

    def step(self, action: Tree) -> Step:
        """Advance every lane by one action [B, ...]; lanes that end are reset within the step.

        Raises NumericalError for an action that is not finite.
        """
        self._accept(action)
        if self._kernel is not None:
            step = self._kernel.step(action)
            if step is None:
                raise self._not_finite(action)
            self._steps += 1
            return step
        # One number first: where it is finite, so are all.
        number = self._continuous and self.looks and not isinstance(action, dict)
        if number and not math.isfinite(float(action.sum())) and not bool(action.isfinite().all()):
            raise self._not_finite(action)
        with torch.no_grad():
            after = self.dynamics(self._world, action)
            self._steps += 1
            self._elapsed += 1
            truncated = self._elapsed >= self.time_limit
            terminated = after.terminated
            if terminated is None:
                terminated, ended = torch.zeros_like(truncated), truncated
            else:
                ended = terminated | truncated
            self._world, final = after.world, None
            observation = self.observe(after.world)
            # Without a look at the data, every step computes the starts and keeps those that it needs.
            if not self.looks or bool(ended.any()):
                final = observation
                self._begin(ended)
                observation = self.observe(self._world)
        return Step(observation, after.reward, terminated, truncated, final, info=after.info)

    def _accept(self, action: Tree) -> None:
        """Refuse an action before it reaches the dynamics."""
        if self._seed is None:
            raise UsageError(f"{self.name} has no episode yet: call reset(seed) or restore(state) before step")
        if isinstance(self.spaces.action, spaces.Dict):
            self._accept_parts(self.spaces.action, action)
            return
        if action.shape != self._action_shape or action.is_floating_point() != self._continuous:
            raise UsageError(
                f"{self.name} expects actions of shape {self._action_shape} in {self.spaces.action}, "
                f"received {tuple(action.shape)} of {action.dtype}"
            )

    def _accept_parts(self, space: spaces.Dict, action: Tree) -> None:
        """The same for a composed action: a dict with every part [B, ...]."""
        expected = {name: (self.lanes, *(part.shape or ())) for name, part in space.spaces.items()}
        received = {name: tuple(part.shape) for name, part in action.items()} if isinstance(action, dict) else action
        if received != expected:
            raise UsageError(f"{self.name} expects actions of shapes {expected} in {space}, received {received}")
        for part in action.values():
            if self.looks and part.is_floating_point() and not bool(part.isfinite().all()):
                raise self._not_finite(part)

    def _not_finite(self, action: Tensor) -> NumericalError:
        lane = int((~action.isfinite()).flatten(1).any(1).nonzero()[0])
        return NumericalError(
            f"{self.name}, lane {lane}, step {self._steps}: the action is {action[lane].tolist()}, expected "
            "finite numbers; lower the learning rate or resume from the last checkpoint"
        )

    def cut(self, lanes: Tensor) -> Tree:
        """Start the next episode of the chosen lanes; [B, ...]."""
        if self._seed is None:
            raise UsageError(f"{self.name} has no episode to cut: call reset(seed) first")
        if lanes.shape != (self.lanes,) or lanes.dtype != torch.bool:
            raise UsageError(f"cut expects bool [{self.lanes}], received {lanes.dtype} {list(lanes.shape)}")
        self._begin(lanes.to(self.device))
        return self._look(lanes)

    def _begin(self, lanes: Tensor) -> None:
        """Go on to the next episode where ``lanes`` [B] is True."""
        self._episode = self._episode + lanes
        self._elapsed = self._elapsed.masked_fill(lanes, 0)
        fresh = self._fresh()
        self._world = {
            name: torch.where(lanes.view(-1, *[1] * (value.dim() - 1)), fresh[name], value)
            for name, value in self._world.items()
        }

    def _fresh(self) -> World:
        """The starts of every lane's current episode."""
        assert self._seed is not None
        seed = seeding.derive(self._seed, "episodes")
        return self.start(counter_random.uniform(seed, self._lane, self._episode, self.draws))

    def unroll(self, world: World, actions: Tree) -> tuple[Tensor, World]:
        """Rewards [T, B] and last state of T steps [T, B, ...] from ``world``, without ends or resets; differentiable."""
        rewards = []
        for action in actions:
            after = self.dynamics(world, action)
            world = after.world
            rewards.append(after.reward)
        return torch.stack(rewards), world

    def save(self) -> State:
        """The whole state."""
        return {
            "restoring": "state",
            "seed": self._seed,
            "steps": self._steps,
            "episode": self._episode.clone(),
            "elapsed": self._elapsed.clone(),
            "world": self.world,
        }

    def restore(self, state: State) -> Tree:
        """Continue from ``save``'s result; [B, ...]."""
        if state.get("restoring") != "state" or "world" not in state:
            raise UsageError(f"the state was saved by another kind of environment; expected one of {self.name}")
        if len(state["episode"]) != self.lanes:
            raise UsageError(f"the state holds {len(state['episode'])} lanes, but this environment has {self.lanes}")
        self._seed = None if state["seed"] is None else int(state["seed"])
        self._steps = int(state["steps"])
        self._episode, self._elapsed = (state[name].clone().to(self.device) for name in ("episode", "elapsed"))
        self._world = map_leaves(lambda x: x.clone().to(self.device), state["world"])
        self._kernel = native_kernel.of(self)
        return self._look(torch.zeros(self.lanes, dtype=torch.bool))

    def carried(self) -> Carried | None:
        """State, episode numbers and elapsed times; of a subclass that steps otherwise nothing is known."""
        if self._kernel is not None or type(self).step is not NativeEnvironment.step:
            return None
        return Carried({"episode": self._episode, "elapsed": self._elapsed, "world": self._world}, self._steps)

    def carry(self, carried: Carried) -> None:
        """Take it over."""
        self._episode, self._elapsed, self._world = (carried.tensors[name] for name in ("episode", "elapsed", "world"))
        self._steps = carried.steps

    def render(self, lane: int = 0) -> np.ndarray | None:
        """One RGB frame of a lane."""
        return self.draw({name: value[lane : lane + 1].cpu() for name, value in self._world.items()})

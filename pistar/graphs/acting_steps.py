"""A collector's steps, captured once and replayed for every row of a rollout.

A step is a function of what the world carries (`Environment.carried`), the observation, the row and the noise, which is drawn
for the whole rollout before, as ever. It writes its row and puts what it carries back in its place. So one graph serves any
horizon, and a rollout costs the host one launch a step. What the host must know of a rollout, which episodes ended, it asks
once, after the last step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pistar.envs.environment import Carried, Environment
from pistar.graphs.capture import Capture, log
from pistar.policy import Policy
from pistar.storage import Storage
from pistar.tree import Tree, leaves, map_leaves

CHECKED = 4  # steps that are compared with eager ones
LANES_OFF = 0.01  # share of lanes that may differ after them: where two choices are all but equal, rounding decides
ROUNDING = 1e-4  # of a number, relative above 1

Lived = tuple[Storage, list[tuple[Tensor, Tree]], Tree, Tensor, Tree]


class ActingStep:
    """One step of acting and of the world over tensors that stay where they are; calling it is the step."""

    def __init__(self, environment: Environment, policy: Policy, horizon: int, observation: Tree, noise: Tree) -> None:
        self.environment, self.policy, self.horizon = environment, policy, horizon
        self.row = torch.zeros(1, dtype=torch.int64, device=environment.device)
        self.observation, self.noise = map_leaves(torch.clone, observation), map_leaves(torch.clone, noise)
        self.carried = copied(environment)
        self.storage = Storage(horizon, environment.lanes, observation, environment.device, host=False)
        outputs, action = self._choose(map_leaves(lambda x: x[0], noise))
        self.outputs, self.action, self.final = (map_leaves(self._rows, x) for x in (outputs, action, observation))
        self()  # makes room for what only a step tells: the world's own scalars
        self.replay: Callable[[], None] = self

    def _rows(self, x: Tensor) -> Tensor:
        return x.new_zeros((self.horizon, *x.shape))

    def _choose(self, noise: Tree) -> tuple[Tensor, Tree]:
        outputs, _ = self.policy.outputs(self.observation)
        return outputs, self.policy.head(outputs).sample(noise)

    def feed(self, carried: Carried, observation: Tree, noise: Tree) -> None:
        """Stand before the first row, in the world that ``carried`` and ``observation`` tell of."""
        self.row.zero_()
        for mine, given in (
            (self.carried.tensors, carried.tensors),
            (self.observation, observation),
            (self.noise, noise),
        ):
            map_leaves(Tensor.copy_, mine, given)

    def __call__(self) -> None:
        """Choose, step, write the row."""
        row = self.row
        self.storage.before(row, self.observation)
        outputs, action = self._choose(map_leaves(lambda x: x.index_select(0, row).squeeze(0), self.noise))
        self.environment.carry(self.carried)
        step = self.environment.step(self.policy.head.to_environment(action))
        self.storage.after(row, step)
        final = step.observation if step.final_observation is None else step.final_observation
        for rows, now in ((self.outputs, outputs), (self.action, action), (self.final, final)):
            map_leaves(lambda x, y: x.index_copy_(0, row, y.unsqueeze(0)), rows, now)
        after = self.environment.carried()
        assert after is not None
        map_leaves(Tensor.copy_, self.carried.tensors, after.tensors)
        map_leaves(Tensor.copy_, self.observation, step.observation)
        row.add_(1).remainder_(self.horizon)  # however often it is called, it writes within its rows


class ActingSteps:
    """The captured step of one collector; none where ``capture`` is None."""

    def __init__(self, capture: Capture | None) -> None:
        self.capture = capture
        self._step: ActingStep | None = None
        self._refused = False

    def forget(self) -> None:
        """The world begins anew, and with it numbers that a graph holds: its seed."""
        self._step = None

    def live(
        self, environment: Environment, policy: Policy, observation: Tree, noise: Tree, horizon: int
    ) -> Lived | None:
        """All steps of a rollout: rows, final observations, the last observation, outputs, actions.

        None, with nothing changed, where they have to be taken eagerly.
        """
        if self.capture is None or self._refused:
            return None
        carried = environment.carried()
        if carried is None:
            self._refuse(f"{environment.name} does not say what it carries from step to step")
            return None
        if not self._fits(environment, policy, horizon, observation, noise):
            try:
                self._step = self._first(environment, policy, horizon, observation, noise)
            except Exception as error:  # whatever it is, the eager steps are still there
                self._refuse(f"{type(error).__name__}: {error}")
                return None
            finally:
                environment.carry(carried)
        step = self._step
        assert step is not None
        step.feed(carried, observation, noise)
        for _ in range(horizon):
            step.replay()
        environment.carry(Carried(step.carried.tensors, carried.steps + horizon))
        storage = step.storage.copy()
        index = (storage.terminated | storage.truncated).flatten().nonzero().squeeze(-1)
        finals = [(index, map_leaves(lambda x: x.flatten(0, 1)[index], step.final))] if len(index) else []
        return storage, finals, step.observation, step.outputs, step.action

    def _refuse(self, why: str) -> None:
        self._refused = True
        log.warning("rollouts are not captured as a CUDA graph and run eagerly: %s", why)

    def _fits(self, environment: Environment, policy: Policy, horizon: int, *given: Tree) -> bool:
        step = self._step
        return (
            step is not None
            and (step.environment, step.policy, step.horizon) == (environment, policy, horizon)
            and [x.shape for _, x in leaves((step.observation, step.noise))] == [x.shape for _, x in leaves(given)]
        )

    def _first(self, environment: Environment, policy: Policy, horizon: int, observation: Tree, noise: Tree) -> Any:
        """A captured step that has been compared with eager ones; raises RuntimeError where it differs."""
        carried = copied(environment)
        number = min(CHECKED, horizon)
        eager = Storage(number, environment.lanes, observation, environment.device, host=False)
        seen = observation
        environment.carry(copied(environment))
        for t in range(number):
            eager.before(t, seen)
            outputs, _ = policy.outputs(seen)
            action = policy.head(outputs).sample(map_leaves(lambda x, t=t: x[t], noise))
            taken = environment.step(policy.head.to_environment(action))
            eager.after(t, taken)
            seen = taken.observation
        environment.carry(carried)
        assert self.capture is not None
        step = ActingStep(environment, policy, horizon, observation, noise)
        step.replay = self.capture(step)
        step.feed(carried, observation, noise)
        for _ in range(number):
            step.replay()
        off = float(different(eager, step.storage, number).float().mean())
        if not off <= LANES_OFF:
            raise RuntimeError(f"replayed, {off:.0%} of the lanes went otherwise than in eager steps")
        return step


def copied(environment: Environment) -> Carried:
    """What the environment carries, in memory of its own."""
    carried = environment.carried()
    assert carried is not None
    return Carried(map_leaves(torch.clone, carried.tensors), carried.steps)


def different(eager: Storage, replayed: Storage, number: int) -> Tensor:
    """[B] bool: lanes that differ by more than rounding within the first ``number`` steps."""
    fields = ("observation", "reward", "terminated", "truncated")
    pairs = zip(*(leaves(tuple(getattr(each, name) for name in fields)) for each in (eager, replayed)), strict=True)
    found = torch.zeros(replayed.reward.shape[1], dtype=torch.bool, device=replayed.reward.device)
    for (_, one), (_, other) in pairs:
        mine, theirs = other[:number].double(), one.double()
        close = ((mine - theirs).abs() <= ROUNDING * (1 + theirs.abs())) | (mine == theirs)
        found |= ~close.flatten(2).all(-1).all(0) if close.dim() > 2 else ~close.all(0)
    return found

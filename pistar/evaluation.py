"""How a policy is judged: whole episodes, a fixed quota per lane, seeds disjoint from training, frozen normaliser.

Returns are raw and undiscounted. Episode k of lane b starts alike for every policy that is judged with the same seed, so
that baselines are compared pair by pair. A fixed quota per lane, instead of the first N episodes to finish, keeps short
episodes from being counted more often than long ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pistar import artefact, configuration, experiment, seeding, turns
from pistar.envs.environment import Environment, Step, begins
from pistar.errors import EnvironmentFailure, UsageError
from pistar.judgement import Episodes, Judgement, share
from pistar.policy import Policy
from pistar.run import find_policy
from pistar.tasks import TASKS
from pistar.tasks.task import Controller, Execution, Task

LONGEST_EPISODE = 100_000  # steps after which an evaluation gives up on an environment that never ends an episode


def play(environment: Environment, choose: Controller, quota: int, seed: int, success: str | None = None) -> Episodes:
    """Run ``quota`` whole episodes on every lane; ``choose`` maps an observation [B, ...] to an environment action.

    Where agents act in turn, what they earn and how they end counts in the turns of others too.
    """
    lanes = environment.lanes
    returns, lengths = np.zeros((lanes, quota)), np.zeros((lanes, quota), dtype=np.int64)
    won = np.zeros((lanes, quota))
    number = np.zeros(lanes, dtype=np.int64)
    lane = np.arange(lanes)
    observation = environment.reset(seed)
    while (number < quota).any():
        step = environment.step(choose(observation))
        observation = step.observation
        if isinstance(choose, PolicyController):
            choose.follow(step, environment.turn_based)
        counted = number < quota
        acted = counted
        if step.valid is not None:
            acted = counted & step.valid.cpu().numpy()
        if not environment.turn_based:
            counted = acted
        slot = np.minimum(number, quota - 1)
        returns[lane, slot] += np.where(counted, step.reward.double().cpu().numpy(), 0.0)
        lengths[lane, slot] += acted
        ended = step.ended.cpu().numpy() & counted
        if success is not None and success in step.info and ended.any():
            won[lane[ended], slot[ended]] = step.info[success].double().cpu().numpy()[ended]
        number += ended
        if int(lengths[lane, slot].max()) >= LONGEST_EPISODE and not ended.any():
            raise EnvironmentFailure(
                f"{environment.name}: an episode has not ended after {LONGEST_EPISODE} steps, so it cannot be judged; "
                "give the environment a time limit"
            )
    return Episodes(returns, lengths, won if success is not None else None)


class PolicyController:
    """A policy as a function from observations [B, ...] to environment actions, with noise and memory of its own."""

    def __init__(self, policy: Policy, deterministic: bool, seed: int) -> None:
        self.policy, self.deterministic = policy, deterministic
        self.generator = torch.Generator(device_of(policy)).manual_seed(seed)
        self._memory: Any = None
        self._before: Any = None  # the memory before the last call
        self._begins: Tensor | None = None

    def __call__(self, observation: Any) -> Any:
        """Act; a memory goes on from the call before."""
        policy, self._before = self.policy, self._memory
        with torch.no_grad():
            outputs, self._memory = policy.outputs(observation, self._memory, self._begins)
            distribution = policy.head(outputs)
            if self.deterministic:
                return policy.head.to_environment(distribution.mode())
            noise = policy.head.noise(outputs.shape[:-1], self.generator, outputs.dtype, outputs.device)
            return policy.head.to_environment(distribution.sample(noise))

    def follow(self, step: Step, turn_based: bool) -> None:
        """What the step that was chosen led to: where episodes begin, and whose turn it was where agents act in turn."""
        if turn_based:
            self._memory = turns.held(step, self._memory, self._before)
            self._begins = turns.still_to_begin(step, self._begins)
        else:
            self._begins = begins(step)


def device_of(policy: Policy) -> torch.device:
    """Where a policy computes."""
    return next(policy.parameters()).device


def controller(policy: Policy, deterministic: bool, seed: int) -> PolicyController:
    """See `PolicyController`."""
    return PolicyController(policy, deterministic, seed)


def lanes_for(task: Task, episodes: int) -> int:
    """As many lanes, or worlds of several, as the task allows that divide the episodes evenly; a function of these two."""
    return next(n for n in range(min(episodes, task.evaluation_lanes), 0, -1) if episodes % n == 0)


class Evaluator:
    """Judges policies on one task with one seed; its environments are its own and are built once."""

    def __init__(
        self, task: Task, episodes: int, seed: int, deterministic: bool = True, execution: Execution | None = None
    ):
        self.task, self.episodes, self.seed, self.deterministic = task, episodes, seed, deterministic
        self.worlds = lanes_for(task, episodes)
        self.environment = task.make(self.worlds * task.agents, execution or Execution(), training=False)

    def judge(self, policy: Policy, baselines: bool = False) -> Judgement:
        """Mean and interval of the policy's return; with ``baselines``, the task's own on the same episodes."""
        quota, agents = self.episodes // self.worlds, self.environment.agents
        if policy.mask is not None:
            self.environment.mask = policy.mask  # baselines choose among what the policy may choose from
        choose = controller(policy, self.deterministic, seeding.derive(self.seed, "actions"))
        played = play(self.environment, choose, quota, self.seed, self.task.success)
        theirs = {}
        if baselines:
            made = ((name, make(self.environment, self.seed)) for name, make in self.task.baselines().items())
            theirs = {name: play(self.environment, each, quota, self.seed) for name, each in made}
        mine, whole = played.of_worlds(agents), share(played, theirs, agents)
        return Judgement(
            task=TASKS.kind_of(self.task),
            episodes=self.episodes,
            mean=whole.mean,
            interval=whole.interval,
            returns=tuple(mine.returns.ravel().tolist()),
            length=float(mine.lengths.mean()),
            success=None if mine.success is None else float(mine.success.mean()),
            baselines=whole.baselines,
            reference=self.task.reference(policy),
            groups={name: share(played, theirs, agents, who) for name, who in self.environment.groups.items()},
            scores=self.task.scores if self.task.bare else None,
        )

    def close(self) -> None:
        """Release the environments."""
        self.environment.close()


def evaluate(
    policy: str | Path | Policy,
    task: str | Task | None = None,
    *,
    episodes: int = 100,
    seed: int = 0,
    deterministic: bool = True,
    trust: str | None = None,
) -> Judgement:
    """Judge a policy, given itself or as a run directory or file, beside its task's baselines on the same episodes.

    ``task``, a name or a Task, is by default the one that the run or file was trained on; a Policy does not know it.
    """
    if isinstance(policy, Policy):
        if task is None:
            raise UsageError("a Policy does not say which task it is for; pass task=, or the run or file it came from")
        path = Path()
    else:
        path = find_policy(Path(policy))
        policy = artefact.load(path, trust)
    judged_on = task if isinstance(task, Task) else task_of(path, task)
    execution = Execution(device=device_of(policy).type)
    evaluator = Evaluator(judged_on, episodes, seeding.derive(seed, "evaluation"), deterministic, execution)
    try:
        require_fit(policy, evaluator.environment)
        return evaluator.judge(policy, baselines=True)
    finally:
        evaluator.close()


def require_fit(policy: Policy, environment: Environment) -> None:
    """Refuse to let a policy act where it sees or does something else than it learned with."""
    if policy.spaces != environment.spaces:
        raise UsageError(
            f"the policy is for {policy.spaces}, but {environment.name} has {environment.spaces}; name a task with the "
            "spaces that it was trained on"
        )


def task_of(path: Path, name: str | None = None) -> Task:
    """The task that a run or a policy file was trained on, or the one called ``name``.

    A policy file may name a task of pistar's own; anything that would have to be imported must come from the caller.
    """
    if name is not None:
        table = experiment.find_task(name)
    elif path.is_dir():
        return experiment.read(path / "experiment.toml").task
    else:
        table = dict(artefact.provenance(path).get("task", {}))
        named = [str(table.get("kind", "")), str(table.get("id", ""))]
        if not table or any(":" in part for part in named):
            raise UsageError(f"{path} does not say which task it is for, or names one outside pistar; pass --task NAME")
    kind = table.pop("kind")
    task: Task = configuration.build(TASKS.get(kind), table, f"task {kind}")
    return task

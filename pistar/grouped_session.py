"""Agents of different spaces trained side by side: for each group a `Session` of its own, and one world that all step.

Groups are independent learners: each has its policy, learner, algorithm state, rollouts, moments and random streams, as if it
were alone, and sees the others as a part of the world. What they share is time: each acts on its own lanes, the world is
stepped once, and each takes its part of the outcome (`pistar.envs.groups`). So algorithms, collectors and learners know
nothing of groups, and a world without any is trained as ever: `opened` chooses.

Left out: a critic that sees what other groups see, and settings of a group's own. With a lag, rollouts are collected ahead but
in turn with learning, not beside it.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from typing import Any

import torch

from pistar import seeding
from pistar.collector import Collector
from pistar.envs.allowed import random_steps
from pistar.envs.environment import Environment
from pistar.envs.groups import Member, together
from pistar.errors import CheckpointError, UsageError
from pistar.experiment import Experiment
from pistar.grouped_policy import GroupedPolicy
from pistar.lagged import LaggedCollector
from pistar.learner import Learner
from pistar.rollout import Rollout
from pistar.session import Session, lanes_of
from pistar.tree import Tree, map_leaves

Rollouts = dict[str, Rollout]


def opened(experiment: Experiment, resumed: bool = False) -> Session | GroupedSession:
    """The session of an experiment, grouped where its world has groups; ``resumed`` is that of `Session`."""
    environment = lanes_of(experiment)
    kind = GroupedSession if environment.groups else Session
    return kind(experiment, environment, resumed)


class GroupedSession:
    """As a `Session`; rollouts and metrics are those of all groups, by name."""

    def __init__(self, experiment: Experiment, environment: Environment, resumed: bool = False) -> None:
        self.experiment, self.environment = experiment, environment
        if experiment.training.symmetry != "none":
            raise UsageError(f"{environment.name} has agents of different spaces: leave --symmetry out")
        seed, views = experiment.training.seed, {name: Member(environment, name) for name in environment.groups}
        self.members = {name: Session(of_group(experiment, view), view, resumed) for name, view in views.items()}
        self.policy = GroupedPolicy({name: member.policy for name, member in self.members.items()})
        self.collector = GroupedCollector(
            environment, views, {name: member.collector for name, member in self.members.items()}, seed
        )
        self.iteration, self.seconds, self.best = 0, 0.0, float("-inf")
        torch.manual_seed(seeding.derive(seed, "torch"))

    def reconsider(self) -> None:
        """Make the algorithms' states anew, of other weights than the policies were built with."""
        for member in self.members.values():
            member.reconsider()

    @property
    def learners(self) -> list[Learner]:
        """Those of all groups."""
        return [member.learner for member in self.members.values()]

    @property
    def steps(self) -> int:
        """Steps that all agents have taken together."""
        return self.collector.steps

    def iterate(self, cut: bool) -> tuple[Rollouts, dict[str, float]]:
        """One iteration of every group."""
        rollouts = self.collector.collect(self.experiment.training.horizon)
        if cut:
            self.collector.cut(rollouts)
        metrics = self.improve(rollouts)
        self.iteration += 1
        return rollouts, metrics

    def improve(self, rollouts: Rollouts) -> dict[str, float]:
        """Each group learns from its own rollout, in their order."""
        learned = {name: member.learn(rollouts[name]) for name, member in self.members.items()}
        return {f"{name}/{what}": value for name, metrics in learned.items() for what, value in metrics.items()}

    def close(self) -> None:
        """End what collects, then the environment."""
        self.collector.close()
        self.environment.close()

    def checkpoint(self) -> dict[str, Any]:
        """The whole state: each group's, and the world's once."""
        return {
            "groups": {name: member.checkpoint() for name, member in self.members.items()},
            "environment": self.environment.save(),
            "iteration": self.iteration,
            "seconds": self.seconds,
            "best": self.best,
            "torch": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state."""
        try:
            self.collector.show(self.environment.restore(state["environment"]))
            for name, member in self.members.items():
                member.restore(state["groups"][name])
            self.iteration, self.seconds, self.best = state["iteration"], state["seconds"], float(state["best"])
            torch.set_rng_state(state["torch"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"the checkpoint does not fit the experiment beside it ({error!r})") from error


def of_group(experiment: Experiment, view: Member) -> Experiment:
    """A group's own experiment: random streams of its own, and no mask where the group has none but others do."""
    training = experiment.training
    training = dataclasses.replace(training, seed=seeding.derive(training.seed, "group", view.group))
    policy, masks = experiment.policy, view.world.mask
    if getattr(policy, "mask", None) is not None and isinstance(masks, dict) and view.group not in masks:
        policy = dataclasses.replace(policy, mask=None)
    return dataclasses.replace(experiment, training=training, policy=policy)


class GroupedCollector:
    """The groups' collectors in step; statistics are means over agents, and by group among the world's own scalars."""

    overlap = False  # whether it collects while the policies learn
    reward_scale = None  # each group's collector has its own

    def __init__(
        self,
        world: Environment,
        views: dict[str, Member],
        collectors: dict[str, Collector | LaggedCollector],
        seed: int,
    ) -> None:
        self.world, self.views, self.collectors, self.seed = world, views, collectors, seed

    def show(self, observation: Tree) -> None:
        """Tell the groups what the world shows."""
        for view in self.views.values():
            view.shown = observation

    def start(self, warm_up: int = 0) -> None:
        """Begin the first episodes; before that, uncounted random steps give every group its first moments."""
        if warm_up > 0:
            seen, *rest = random_steps(self.world, self.world.mask, self.seed, -(-warm_up // self.world.lanes))
            for name, view in self.views.items():
                own = map_leaves(lambda x, view=view: x[:, view.index], seen[name])
                self.collectors[name].first_moments(own, *(x[:, view.index] for x in rest))
        self.show(self.world.reset(seeding.derive(self.seed, "environment")))
        for collector in self.collectors.values():
            collector.start()

    def collect(self, horizon: int) -> Rollouts:
        """The next ``horizon`` steps of every lane, by group; where agents act in turn, about so many turns of each."""
        plain = {name: each for name, each in self.collectors.items() if isinstance(each, Collector)}
        if plain:
            return self._in_step(plain, horizon)
        lagged = {name: each for name, each in self.collectors.items() if isinstance(each, LaggedCollector)}
        if not all(each.begun for each in lagged.values()):
            for each in lagged.values():
                each.open()
            self._ahead(lagged, horizon)
        rollouts = {name: each.hand_out() for name, each in lagged.items()}
        self._ahead(lagged, horizon)
        return rollouts

    def _ahead(self, lagged: dict[str, LaggedCollector], horizon: int) -> None:
        """Collect what the next iteration learns from."""
        for name, rollout in self._in_step({name: each.actor() for name, each in lagged.items()}, horizon).items():
            lagged[name].keep(rollout)

    def _in_step(self, collectors: dict[str, Collector], horizon: int) -> Rollouts:
        """Step the world once for all: each group chooses, each takes its part."""
        world, views = self.world, self.views
        steps = horizon * world.agents if world.turn_based else horizon
        with torch.inference_mode(False), torch.no_grad():
            for each in collectors.values():
                each.begin(steps)
            for t in range(steps):
                action = together(views, {name: each.choose(t) for name, each in collectors.items()})
                step = world.step(action)
                for name, each in collectors.items():
                    each.take(t, views[name].part(step))
            return {name: each.finish() for name, each in collectors.items()}

    def cut(self, rollouts: Rollouts) -> None:
        """End all running episodes, as a Collector does."""
        everyone = torch.ones(self.world.lanes, dtype=torch.bool, device=self.world.device)
        self.show(self.world.cut(everyone))
        for name, collector in self.collectors.items():
            collector.cut(rollouts[name])

    @property
    def steps(self) -> int:
        """Of all agents."""
        return sum(collector.steps for collector in self.collectors.values())

    @property
    def episodes(self) -> int:
        """Agents' episodes that ended in the last rollouts."""
        return sum(collector.episodes for collector in self.collectors.values())

    @property
    def returns(self) -> deque[float]:
        """Means over agents of their groups' last returns, the oldest first; as many as every group has."""
        groups = [(len(self.world.groups[name]), each.returns) for name, each in self.collectors.items()]
        count = min(len(returns) for _, returns in groups)
        rows = zip(*(list(returns)[len(returns) - count :] for _, returns in groups), strict=True)
        weights = [agents / self.world.agents for agents, _ in groups]
        means = (sum(w * x for w, x in zip(weights, row, strict=True)) for row in rows)
        return deque(means, maxlen=groups[0][1].maxlen)

    def recent(self) -> tuple[float, float]:
        """Return and length, means over agents of each group's last (at most 100) episodes; NaN before its first."""
        shares = [len(self.world.groups[name]) / self.world.agents for name in self.collectors]
        found = [collector.recent() for collector in self.collectors.values()]
        pairs = list(zip(shares, found, strict=True))
        return math.fsum(w * x[0] for w, x in pairs), math.fsum(w * x[1] for w, x in pairs)

    @property
    def info(self) -> dict[str, float]:
        """Each group's returns and lengths, and what the world says of its agents, by name."""
        told: dict[str, float] = {}
        for name, collector in self.collectors.items():
            told[f"{name}/return"], told[f"{name}/length"] = collector.recent()
            told |= {f"{name}/{what}": value for what, value in collector.info.items()}
        return told

    def close(self) -> None:
        """Nothing steps the environment after this."""
        for collector in self.collectors.values():
            collector.close()

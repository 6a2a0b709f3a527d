"""Behaviour cloning: a first policy that does what recorded episodes show, for reinforcement learning to go on from.

    maximise  E[log π(a|s)]  over the recorded steps, until held-out episodes no longer become likelier

Pomerleau 1991 (Efficient training of artificial neural networks for autonomous navigation) is the classic; the likelihood is
what its squared error is for a Gaussian. Observation moments and the scale of rewards come from the recordings, and so do
the critic's targets: it is fitted to the recorded discounted returns, at the end of episodes that were cut to its own value
of their last observation. Episodes are laid side by side as a `Rollout`, so that memories, masks and values are what they
are in training.

It differs from distillation, which has a teacher that can be asked about any state, by having its answers only along the
ways that the demonstrator took: where the clone leaves them, nothing tells it how to come back (Ross, Gordon & Bagnell 2011).

Left out: weighting by return, and inverse reinforcement learning.
"""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from pistar import closed_form, demonstrations, objectives, seeding
from pistar.algorithms import critic, epochs
from pistar.demonstrations import Episode
from pistar.errors import UsageError
from pistar.learner import Learner
from pistar.lessons import Lessons, pack, split
from pistar.normalization import RewardScale
from pistar.policy import Policy
from pistar.rollout import Batch, Rollout
from pistar.session import Session, adopt
from pistar.tree import map_leaves

if TYPE_CHECKING:
    from pistar.algorithms.algorithm import Loss
    from pistar.experiment import CloningSettings
    from pistar.grouped_session import GroupedSession

log = logging.getLogger("pistar")


@dataclass(frozen=True)
class Imitation:
    """Weighted log-likelihood and the critic's squared error, in torch and in numbers."""

    value_weight: float = 0.25

    def form(self) -> closed_form.ClosedForm:
        """``loss`` in numbers, for kernels."""
        return closed_form.ClosedForm("score", entropy_weight=0.0, value_weight=self.value_weight)

    @closed_form.has(form)
    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """−E[A log π(a|s)] + c E[(V − V_target)²], where A is 1 for every recorded step."""
        now = policy.evaluate(batch.observation, batch.action)
        likelihood = objectives.score_function(now.log_prob, batch.advantage, batch.weight)
        entropy = objectives.weighted_mean(now.entropy, batch.weight)
        found = {"score": likelihood.detach(), "entropy": entropy.detach()}
        if now.value is None:
            return -likelihood, found
        error = objectives.squared_error(now.value, batch.target, batch.weight)
        return self.value_weight * error - likelihood, {**found, "value_error": error.detach()}


@dataclass
class Outcome:
    """What cloning has come to."""

    summary: dict[str, Any]  # of the policy that was chosen, on held-out episodes where there are such
    records: list[dict[str, Any]] = field(default_factory=list)  # one a pass

    def lines(self) -> list[dict[str, Any]]:
        """Everything as a file keeps it, the summary last."""
        return [*self.records, {"phase": "chosen", **self.summary}]


def clone(
    policy: Policy,
    episodes: list[Episode],
    settings: CloningSettings,
    *,
    discount: float,
    scale: RewardScale | None,
    seed: int,
    threads: int = 1,
) -> Outcome:
    """Teach ``policy`` in place what the episodes show, and ``scale`` how large rewards are.

    Passes of minibatch steps over some episodes until ``patience`` passes in a row have not made the held-out others likelier;
    then the best pass counts, and the critic goes on alone in the same way.
    """
    taught, held = split(episodes, settings.held_out, seed)
    material = [pack(some, policy) for some in (taught, held) if some]
    absorb(policy, material[0], scale, discount)
    for rollout in material if scale is not None else ():
        rollout.reward *= scale.factor  # type: ignore[union-attr]
    lessons = Lessons(policy, material[0], material[1] if held else None, discount)
    learner = Learner(
        policy,
        learning_rate=settings.learning_rate,
        max_gradient_norm=settings.max_gradient_norm,
        seed=seeding.derive(seed, "cloning"),
        threads=threads,
    )
    exploration = [parameter.detach().clone() for parameter in policy.head.parameters()]
    records = _passes(learner, lessons, settings, "policy")
    if "critic" in policy.parts():
        records += _passes(learner, lessons, settings, "critic")
    summary = {"episodes": len(episodes), "held_out": len(held), "passes": len(records), **lessons.judge()}
    if settings.exploration == "initial":
        with torch.no_grad():
            for parameter, before in zip(policy.head.parameters(), exploration, strict=True):
                parameter.copy_(before)
    return Outcome(summary, records)


def _passes(learner: Learner, lessons: Lessons, settings: CloningSettings, phase: str) -> list[dict[str, Any]]:
    """Passes until they no longer help; leaves the best one's parameters in the policy."""
    imitation, records = Imitation(settings.value_weight), []
    best, chosen, waited = math.inf, learner.parameters.clone(), 0
    for number in range(1, settings.passes + 1):
        batch = lessons.batch()
        if phase == "critic":
            critic.fit(learner, batch, 1, settings.minibatch)
        else:
            epochs.descend(learner, partial(imitation.loss), batch, epochs=1, minibatch=settings.minibatch)
        found = lessons.judge()
        records.append({"phase": phase, "pass": number, **found})
        badness = found["value_error"] if phase == "critic" else -found["log_likelihood"]
        if badness < best or lessons.held is None:  # without anything held out, the last pass counts
            best, chosen, waited = badness, learner.parameters.clone(), 0
        else:
            waited += 1
        if waited >= settings.patience:
            break
    learner.parameters.copy_(chosen)
    return records


def absorb(policy: Policy, rollout: Rollout, scale: RewardScale | None, discount: float) -> None:
    """Take observation moments and the scale of rewards from recorded steps."""
    weight = torch.ones_like(rollout.reward) if rollout.weight is None else rollout.weight
    policy.absorb(map_leaves(lambda x: x.flatten(0, 1), rollout.observation), weight.flatten())
    if scale is not None:
        seen = RewardScale(rollout.shape[1], discount)
        seen.update(rollout.reward, rollout.ended, weight)
        scale.moments.load_state_dict(seen.moments.state_dict())


def begin(session: Session | GroupedSession, settings: CloningSettings) -> Outcome:
    """Clone a session's policy from the demonstrations that its settings name, before anything else has begun."""
    if not isinstance(session, Session):
        raise UsageError(f"{session.environment.name} has agents of different spaces: leave --demonstrations out")
    experiment, policy = session.experiment, copy.deepcopy(session.policy).cpu()  # where the episodes are
    episodes = demonstrations.read(str(settings.demonstrations), policy.spaces)
    outcome = clone(
        policy,
        episodes,
        settings,
        discount=getattr(experiment.algorithm, "discount", 0.99),
        scale=session.collector.reward_scale,
        seed=experiment.training.seed,
        threads=experiment.training.threads,
    )
    adopt(session, policy)
    outcome.summary["digest"] = demonstrations.digest(episodes)
    log.info("cloned: %s", in_words(outcome.summary))
    return outcome


def in_words(summary: dict[str, Any]) -> str:
    """What came of cloning, in one line."""
    words = [f"{summary['episodes']} episodes, {summary['passes']} passes"]
    where = "on held-out episodes" if summary["held_out"] else "on the episodes themselves"
    words.append(f"log-likelihood {summary['log_likelihood']:.3g} {where}")
    if "accuracy" in summary:
        words.append(f"{100 * summary['accuracy']:.3g} % of the choices")
    if "action_error" in summary:
        words.append(f"mean error of actions {summary['action_error']:.3g}")
    return ", ".join(words)

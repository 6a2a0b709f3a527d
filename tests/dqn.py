"""DQN as a user would write it, outside the package: what learning from replay takes, and that the seams suffice.

    minimise  E[huber(r + γ Q⁻(s', argmax_a Q(s', a)) − Q(s, a))]

Mnih et al. (2015), Nature 518:529-533, with the double estimate of van Hasselt, Guez & Silver (2016), arXiv:1509.06461.
The target network Q⁻ trails Q by Polyak averaging. Its policy is ε-greedy; the mode, which evaluation takes, is greedy.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pistar.algorithms.algorithm import Algorithm, AlgorithmState, Loss, Metrics
from pistar.algorithms.metrics import MetricsMean
from pistar.envs.environment import Spaces
from pistar.heads import action_head
from pistar.learner import Learner
from pistar.networks import FlatEncoder, Tower
from pistar.objectives import weighted_mean
from pistar.policies.mlp import MLP
from pistar.policy import Evaluation, Policy
from pistar.replay import Replay, Transitions
from pistar.schedules import Schedule, linear
from pistar.tree import Tree


@dataclass(frozen=True)
class QNetwork:
    """The kind of policy that DQN trains."""

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    normalize: bool = True

    def build(self, spaces: Spaces, generator: torch.Generator) -> Policy:
        return EpsilonGreedy(spaces, self, generator)


class EpsilonGreedy(Policy):
    """Random with probability ε, else the action of largest Q."""

    epsilon: Tensor

    def __init__(self, spaces: Spaces, kind: QNetwork, generator: torch.Generator) -> None:
        super().__init__()
        self.spaces, self.kind = spaces, kind
        self.encoder, self.head = FlatEncoder(spaces.observation, kind.normalize), action_head(spaces.action)
        self.online = Tower((self.encoder.size, *kind.hidden, self.head.size), kind.activation, 1.0, generator)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.register_buffer("epsilon", torch.ones(()))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return {"online": list(self.online.parameters()), "target": list(self.target.parameters())}

    def outputs(self, observation: Tree, memory: Tree = None, is_first: Tensor | None = None) -> tuple[Tensor, Tree]:
        values = self.online(self.encoder(observation))
        greedy = functional.one_hot(values.argmax(-1), values.shape[-1])
        return (greedy * (1 - self.epsilon) + self.epsilon / values.shape[-1]).log(), memory

    def evaluate(self, observation: Tree, action: Tree) -> Evaluation:
        distribution = self.head(self.outputs(observation)[0])
        return Evaluation(distribution, distribution.log_prob(action), distribution.entropy(), None)

    def absorb(self, observation: Tree, weight: Tensor | None = None) -> None:
        self.encoder.absorb(observation, weight)


@dataclass(frozen=True)
class DQN(Algorithm):
    """Q-learning from replay with a target network."""

    summary: ClassVar[str] = "Q-learning from replay with a target network"
    paper: ClassVar[str] = "Mnih et al. 2015, Nature 518:529-533"
    experience: ClassVar[Literal["rollout", "replay"]] = "replay"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "discrete": {
            "policy": {"hidden": [128, 128], "activation": "relu"},
            "training": {
                "lanes": 8,
                "horizon": 4,
                "learning_rate": {"from": 2e-3, "to": 0.0},
                "max_gradient_norm": 10.0,
                "normalize_rewards": False,
            },
        },
    }

    replay_capacity: int = 5000  # steps kept per lane
    discount: float = 0.98  # γ
    epsilon: Schedule = linear(0.5, 0.05)  # probability of a random action, over the first half of the steps
    minibatch: int = 128  # transitions in a gradient step
    steps_per_update: int = 4  # environment steps that earn one gradient step
    rate: float = 0.05  # of the target network towards the online one
    double: bool = True  # choose the next action by the online network, value it by the target

    def policy_kind(self, configured: MLP) -> QNetwork:
        return QNetwork(configured.hidden, configured.activation, configured.normalize)

    def loss(self, policy: EpsilonGreedy, batch: Transitions) -> Loss:
        value = policy.online(policy.encoder(batch.observation)).gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            after = policy.encoder(batch.next_observation)
            believed = policy.target(after)
            choice = (policy.online(after) if self.double else believed).argmax(-1, keepdim=True)
            follows = believed.gather(-1, choice).squeeze(-1).masked_fill(batch.terminated, 0.0)
            target = batch.reward + self.discount * follows
        error = weighted_mean(functional.smooth_l1_loss(value, target, reduction="none"), batch.weight)
        return error, {"value_error": error.detach(), "value": value.detach().mean()}

    def improve(  # type: ignore[override] # `experience` says which of the two it is
        self, learner: Learner, experience: Replay, state: AlgorithmState, progress: float
    ) -> tuple[AlgorithmState, Metrics]:
        learner.policy.epsilon.fill_(self.epsilon.at(2 * progress))  # type: ignore[operator]
        metrics = MetricsMean()
        for _ in range(experience.new // self.steps_per_update):
            metrics.add(learner.descend(self.loss, experience.sample(self.minibatch)))  # type: ignore[arg-type]
            learner.track("target", "online", self.rate)
        return state, {**metrics.result(), "epsilon": float(learner.policy.epsilon)}  # type: ignore[arg-type]

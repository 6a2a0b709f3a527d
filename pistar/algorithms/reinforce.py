"""REINFORCE: the policy gradient in its plain trajectory form.

    ∇J(θ) = E[Σ_t ∇log π_θ(a_t|s_t) G],    G the discounted return

Williams (1992). Credit by *trajectory* gives every action the return of its whole episode, G = Σ_k γᵏ r_k; credit by
*reward-to-go* gives it what came after, G_t = Σ_{k≥t} γ^{k−t} r_k. With the factor γᵗ on each term (``discount_states``)
reward-to-go has the same expectation, ∇J, at less variance; without it, as is usual, states late in an episode count in
full (Sutton, McAllester, Singh & Mansour 2000). A baseline that does not depend on the action changes no expectation.

It learns from whole episodes only: the unfinished tail of each lane weighs nothing and is carried into the next
iteration. It differs from A2C by never bootstrapping: unbiased, and noisy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pistar import bounds, estimators, objectives
from pistar.algorithms.algorithm import Algorithm, AlgorithmState, Loss, Metrics
from pistar.ranges import searched
from pistar.schedules import Schedule, constant

if TYPE_CHECKING:
    from torch import Tensor

    from pistar.learner import Learner
    from pistar.policy import Policy
    from pistar.rollout import Batch, Rollout


@dataclass(frozen=True)
class Reinforce(Algorithm):
    """Williams's REINFORCE with a choice of credit and baseline."""

    summary: ClassVar[str] = "the plain policy gradient on whole episodes"
    paper: ClassVar[str] = "Williams 1992, Machine Learning 8:229-256"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "continuous": {
            "training": {"learning_rate": 3e-3, "max_gradient_norm": 0.0},
            "algorithm": {"baseline": "value"},
        },
        "discrete": {"training": {"learning_rate": 3e-3, "max_gradient_norm": 0.0}, "algorithm": {"baseline": "value"}},
    }

    discount: float = searched(0.99, 0.9, 0.999, scale="complement")  # γ: weight of the reward one step later
    credit: Literal["reward-to-go", "trajectory"] = "reward-to-go"  # what an action is credited with
    baseline: Literal["none", "mean", "value"] = (
        "mean"  # subtracted: nothing, the other episodes' mean, or learned V(s)
    )
    discount_states: bool = False  # weigh reward-to-go at step t by γᵗ, which makes it an unbiased estimate of ∇J
    entropy_weight: Schedule = searched(constant(0.0), 0.0, 0.02)  # reward for being undecided, nats per step
    value_weight: float = searched(
        0.5, 0.05, 2.0, scale="log"
    )  # weight of the squared value error, where the baseline is learned
    value_steps: int = searched(10, 1, 40, scale="log")  # gradient steps for the learned baseline in each iteration

    def __post_init__(self) -> None:
        bounds.between(0, 1, self, "discount")
        bounds.at_least(0, self, "value_weight", "value_steps")

    def estimate(self, policy: Policy, rollout: Rollout) -> tuple[Batch, int]:
        """Credit minus baseline for every step of a whole episode, weight 0 for all others; the number of episodes."""
        weight = whole_episodes(rollout)
        time = estimators.elapsed(rollout.is_first)
        returns = estimators.reward_to_go(rollout.reward, rollout.ended, self.discount)
        gain = returns
        if self.credit == "trajectory":
            gain = estimators.discounted_return(rollout.reward, rollout.ended, self.discount)
        if self.baseline == "mean":
            advantage = gain - mean_of_others(gain, time, weight, rollout.ended, self.credit == "trajectory")
        elif self.baseline == "value":
            advantage = gain - rollout.values(policy)[0]
        else:
            advantage = gain
        if self.discount_states and self.credit == "reward-to-go":  # the trajectory's return has γᵗ inside already
            advantage = advantage * self.discount ** time.to(advantage.dtype)
        return rollout.batch(advantage, returns, weight), int((rollout.ended & (weight > 0)).sum())

    def loss(self, policy: Policy, batch: Batch, episodes: int, entropy_weight: float) -> Loss:
        """−(1/N) Σ_episodes Σ_t log π(a_t|s_t) Â_t; a sum over each episode, a mean over episodes."""
        now = policy.evaluate(batch.observation, batch.action)
        assert batch.weight is not None
        per_episode = batch.weight.sum() / episodes
        score = objectives.score_function(now.log_prob, batch.advantage, batch.weight)
        entropy = objectives.weighted_mean(now.entropy, batch.weight)
        loss = -(score + entropy_weight * entropy) * per_episode
        metrics = {"score": score.detach(), "entropy": entropy.detach()}
        if self.baseline == "value":
            error = objectives.squared_error(now.critic_value(), batch.target, batch.weight)
            loss = loss + self.value_weight * error
            metrics["value_error"] = error.detach()
        return loss, metrics

    def value_loss(self, policy: Policy, batch: Batch) -> Loss:
        """The squared error of the learned baseline alone."""
        error = objectives.squared_error(policy.value(batch.observation), batch.target, batch.weight)
        return self.value_weight * error, {"value_error": error.detach()}

    def improve(  # type: ignore[override] # `experience` says which of the two it is
        self, learner: Learner, experience: Rollout, state: AlgorithmState, progress: float
    ) -> tuple[AlgorithmState, Metrics]:
        """One gradient step on the episodes that are whole; the unfinished ones wait in the state."""
        entropy_weight = self.entropy_weight.at(progress)
        rollout = experience.after(type(experience).from_state(state["tail"])) if "tail" in state else experience
        tail = rollout.unfinished()
        batch, episodes = self.estimate(learner.policy, rollout)
        metrics: dict[str, Tensor | float] = {"episodes": float(episodes)}
        if episodes > 0:
            metrics |= learner.descend(lambda policy, steps: self.loss(policy, steps, episodes, entropy_weight), batch)
            if self.baseline == "value":
                for _ in range(self.value_steps - 1):
                    learner.descend(self.value_loss, batch, parts=["critic"])
        return ({} if tail is None else {"tail": tail.to_state()}), {
            name: float(value) for name, value in metrics.items()
        }


def whole_episodes(rollout: Rollout) -> Tensor:
    """[T, B] 1 for the steps of episodes whose start and end both lie in the rollout, else 0."""
    ends = rollout.ended.flip(0).cumsum(0).flip(0) > 0  # an end lies at or after the step
    starts = rollout.is_first.cumsum(0) > 0  # a start lies at or before it
    whole = (ends & starts).to(rollout.reward.dtype)
    return whole if rollout.weight is None else whole * rollout.weight


def mean_of_others(gain: Tensor, time: Tensor, weight: Tensor, ended: Tensor, whole: bool) -> Tensor:
    """The mean ``gain`` of the *other* episodes at the same time t (or over all t for ``whole`` returns): [T, B].

    Leaving the episode itself out keeps the baseline independent of its actions, so that the gradient stays unbiased. Where
    no other episode lasted until t, the other episodes' mean over all times is taken; where there is no other, 0.
    """
    alive = weight > 0
    episode = ended.cumsum(0) - ended.to(time.dtype)  # number of the episode within its lane
    number = episode * gain.shape[1] + time.new_ones(gain.shape).cumsum(1) - 1  # unique over lanes and episodes
    audible = gain.masked_fill(~alive, 0.0)
    slot = (time * 0 if whole else time).masked_fill(~alive, 0)
    first = (time == 0) & alive if whole else alive
    counted, gained = first.to(gain.dtype), audible * first
    size = int(slot.max()) + 1
    count = counted.new_zeros(size).index_add(0, slot.flatten(), counted.flatten())
    total = counted.new_zeros(size).index_add(0, slot.flatten(), gained.flatten())
    own = gain if whole else audible
    others_here = count[slot] - 1
    mean_here = (total[slot] - own) / others_here.clamp(min=1)
    episodes = int(number.max()) + 1
    own_sum = gain.new_zeros(episodes).index_add(0, number.flatten(), gained.flatten())[number]
    own_count = gain.new_zeros(episodes).index_add(0, number.flatten(), counted.flatten())[number]
    mean_all = (total.sum() - own_sum) / (count.sum() - own_count).clamp(min=1)
    return mean_here.where(others_here > 0, mean_all).masked_fill(~alive, 0.0)

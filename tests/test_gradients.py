"""Gradients against truth: every trajectory of a small world is enumerated, so that expectations are exact sums.

The trajectories are the lanes of one rollout, and each lane weighs as much as its probability. Objectives are means
over weights, so what the real algorithm computes from that rollout is, up to a known factor, its exact expected
gradient. The truth comes from dynamic programming over states and ages, which knows no trajectories.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from pistar import estimators
from pistar.algorithms import natural_step, reinforce
from pistar.algorithms.a2c import A2C
from pistar.algorithms.impala import IMPALA
from pistar.algorithms.npg import NPG
from pistar.algorithms.ppg import PPG
from pistar.algorithms.ppo import PPO
from pistar.algorithms.ppo_penalty import PPOPenalty
from pistar.algorithms.reinforce import Reinforce
from pistar.algorithms.spo import SPO
from pistar.algorithms.trpo import TRPO
from pistar.envs.environment import Spaces
from pistar.learner import Learner
from pistar.policies.mlp import MLP
from pistar.policy import Policy
from pistar.rollout import Batch, Rollout
from pistar.tree import map_leaves

STATES, ACTIONS, STEPS, DISCOUNT = 3, 2, 4, 0.8
ACCURACY, NOTICEABLE = 1e-9, 1e-3
Credit = Literal["reward-to-go", "trajectory"]
Baseline = Literal["none", "mean", "value"]


class Outcome(NamedTuple):
    probability: float
    successor: int
    reward: float
    terminated: bool = False
    truncated: bool = False


@dataclass(frozen=True)
class World:
    start: tuple[float, ...]  # probability of each first state
    outcomes: dict[tuple[int, int], list[Outcome]]  # (state, action) -> what may follow
    limit: int  # steps after which an episode is truncated

    def follow(self, state: int, action: int, age: int) -> Iterator[Outcome]:
        """What may follow, the time limit included."""
        for outcome in self.outcomes[state, action]:
            cut = (outcome.truncated or age + 1 == self.limit) and not outcome.terminated
            yield outcome._replace(truncated=cut)


CUTTING = World(  # loops, random terminations and truncations, and a time limit
    (0.7, 0.3, 0.0),
    {
        (0, 0): [Outcome(0.6, 1, 1.0), Outcome(0.4, 0, -0.5, truncated=True)],
        (0, 1): [Outcome(1.0, 2, 0.3)],
        (1, 0): [Outcome(0.5, 2, 2.0), Outcome(0.5, 0, 0.0, terminated=True)],
        (1, 1): [Outcome(1.0, 0, -1.0)],
        (2, 0): [Outcome(1.0, 1, 0.5, truncated=True)],
        (2, 1): [Outcome(0.7, 2, 1.5), Outcome(0.3, 1, -2.0, terminated=True, truncated=True)],
    },
    limit=3,
)
ENDING = World(  # every episode terminates by itself within 3 steps
    (0.6, 0.4, 0.0),
    {
        (0, 0): [Outcome(0.5, 1, 1.0), Outcome(0.5, 2, 0.0)],
        (0, 1): [Outcome(0.8, 2, -1.0), Outcome(0.2, 0, 4.0, terminated=True)],
        (1, 0): [Outcome(1.0, 2, 0.5)],
        (1, 1): [Outcome(0.5, 2, 1.0), Outcome(0.5, 1, -0.5, terminated=True)],
        (2, 0): [Outcome(1.0, 2, 2.0, terminated=True)],
        (2, 1): [Outcome(0.5, 2, 5.0, terminated=True), Outcome(0.5, 2, -4.0, terminated=True)],
    },
    limit=STEPS,
)
WORLDS = pytest.mark.parametrize("world", [CUTTING, ENDING], ids=["cutting", "ending"])


# The policy, in float64 and far from uniform.


def build_policy(seed: int = 0) -> Policy:
    box = spaces.Box(0.0, 1.0, (STATES,), np.float64)
    kind = MLP(hidden=(3,), critic_hidden=(), last_gain=1.0, normalize=False)
    generator = torch.Generator().manual_seed(seed)
    policy = kind.build(Spaces(box, spaces.Discrete(ACTIONS)), generator).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return policy


@pytest.fixture
def policy() -> Policy:
    return build_policy()


def probabilities(policy: Policy) -> Tensor:
    """π(a|s): [S, A], with gradient."""
    return policy.outputs(torch.eye(STATES, dtype=torch.float64))[0].softmax(-1)


def set_values(policy: Policy, value: Tensor) -> None:
    """Make V(s) of the critic, which is linear in a one-hot observation, what is asked."""
    weight, bias = policy.parts()["critic"]
    with torch.no_grad():
        weight.copy_(value.view(1, STATES))
        bias.zero_()


def climbed(policy: Policy, loss: Tensor) -> Tensor:
    """−∇loss of the actor, as one vector."""
    return -torch.cat([g.flatten() for g in torch.autograd.grad(loss, policy.parts()["actor"])])


# The truth.


def action_values(world: World, pi: Tensor) -> list[Tensor]:
    """Q[age][s, a] of the return up to the end of the episode, whatever ends it: limit × [S, A], differentiable."""
    values, after = [], torch.zeros(STATES, dtype=torch.float64)
    for age in reversed(range(world.limit)):
        q = torch.stack([
            torch.stack([
                sum(
                    o.probability * (o.reward + DISCOUNT * (not (o.terminated or o.truncated)) * after[o.successor])
                    for o in world.follow(s, a, age)
                ) + torch.zeros(())
                for a in range(ACTIONS)
            ])
            for s in range(STATES)
        ])  # fmt: skip
        after = (pi * q).sum(-1)
        values.append(q)
    return values[::-1]


def performance(world: World, pi: Tensor) -> Tensor:
    """J = E[Σ γᵗ r_t] of one episode."""
    return torch.tensor(world.start, dtype=torch.float64) @ (pi * action_values(world, pi)[0]).sum(-1)


def endless_values(world: World, pi: Tensor) -> tuple[Tensor, Tensor]:
    """V [S] and Q [S, A] of the task that no truncation ever stops."""
    gain = torch.zeros(STATES, ACTIONS, dtype=torch.float64)
    move = torch.zeros(STATES, ACTIONS, STATES, dtype=torch.float64)
    for (s, a), outcomes in world.outcomes.items():
        for o in outcomes:
            gain[s, a] += o.probability * o.reward
            move[s, a, o.successor] += o.probability * (not o.terminated)
    transition = (pi.unsqueeze(-1) * move).sum(1)
    value = torch.linalg.solve(torch.eye(STATES, dtype=torch.float64) - DISCOUNT * transition, (pi * gain).sum(-1))
    return value, gain + DISCOUNT * move @ value


def visits(world: World, pi: Tensor, restart: bool) -> Tensor:
    """Expected visits of every state at every age, in one episode or in STEPS steps across restarts: [limit, S]."""
    now = torch.zeros(world.limit, STATES, dtype=torch.float64)
    now[0] = torch.tensor(world.start, dtype=torch.float64)
    total = torch.zeros_like(now)
    for _ in range(STEPS):
        total += now
        then = torch.zeros_like(now)
        for age, s, a in itertools.product(range(world.limit), range(STATES), range(ACTIONS)):
            for o in world.follow(s, a, age):
                flow = now[age, s] * pi[s, a] * o.probability
                if not (o.terminated or o.truncated):
                    then[age + 1, o.successor] += flow
                elif restart:
                    then[0] += flow * torch.tensor(world.start, dtype=torch.float64)
        now = then
    return total


def gradient(policy: Policy, climb: Tensor) -> Tensor:
    return climbed(policy, -climb)


def performance_gradient(world: World, policy: Policy) -> Tensor:
    """∇J."""
    return gradient(policy, performance(world, probabilities(policy)))


def usual_gradient(world: World, policy: Policy) -> Tensor:
    """Σ_t Σ_s Pr(s_t = s) Σ_a ∇π(a|s) Q_t(s, a) over one episode."""
    pi = probabilities(policy)
    fixed = pi.detach()
    q = torch.stack(action_values(world, fixed))
    return gradient(policy, (visits(world, fixed, restart=False).unsqueeze(-1) * pi * q).sum())


def bootstrapped_gradient(world: World, policy: Policy, restart: bool) -> Tensor:
    """Σ_t Σ_s Pr(s_t = s) Σ_a ∇π(a|s) A(s, a), A of the task without truncation."""
    pi = probabilities(policy)
    fixed = pi.detach()
    value, q = endless_values(world, fixed)
    count = visits(world, fixed, restart).sum(0)
    return gradient(policy, (count.unsqueeze(-1) * pi * (q - value.unsqueeze(-1))).sum())


# The trajectories.


class Row(NamedTuple):
    state: int
    action: int
    reward: float
    terminated: bool
    truncated: bool
    final: int
    age: int
    counts: bool


class Path(NamedTuple):
    probability: float
    rows: tuple[Row, ...]
    state: int  # what follows the last row


def paths(world: World, pi: Tensor, restart: bool) -> list[Path]:
    """Every possible lane of STEPS rows; without ``restart`` one episode, then rows of weight 0."""
    running: list[tuple[float, tuple[Row, ...], int, int]] = [(p, (), s, 0) for s, p in enumerate(world.start) if p > 0]
    for _ in range(STEPS):
        longer = []
        for p, rows, state, age in running:
            if age < 0:
                longer.append((p, (*rows, Row(0, 1, 50.0, False, False, 0, -age - 1, False)), 0, age - 1))
                continue
            for action in range(ACTIONS):
                for o in world.follow(state, action, age):
                    row = Row(state, action, o.reward, o.terminated, o.truncated, o.successor, age, True)
                    likely = p * float(pi[state, action]) * o.probability
                    if not (o.terminated or o.truncated):
                        longer.append((likely, (*rows, row), o.successor, age + 1))
                    elif restart:
                        longer += [(likely * q, (*rows, row), s, 0) for s, q in enumerate(world.start) if q > 0]
                    else:
                        longer.append((likely, (*rows, row), 0, -1))
        running = longer
    return [Path(p, rows, state) for p, rows, state, _ in running]


def record(policy: Policy, lanes: list[Path], weighted: bool = True) -> Rollout:
    """The lanes as a rollout, each weighing its probability (or, not ``weighted``, nothing but the silent rows 0)."""

    def column(name: str, dtype: torch.dtype) -> Tensor:
        return torch.tensor([[getattr(path.rows[t], name) for path in lanes] for t in range(STEPS)], dtype=dtype)

    observe = torch.eye(STATES, dtype=torch.float64)
    observation, action = observe[column("state", torch.int64)], column("action", torch.int64)
    terminated, truncated = column("terminated", torch.bool), column("truncated", torch.bool)
    index = (terminated | truncated).flatten().nonzero().squeeze(-1)
    weight = column("counts", torch.float64)
    with torch.no_grad():
        log_prob = policy.evaluate(observation, action).log_prob
    return Rollout(
        observation=observation,
        action=action,
        log_prob=log_prob,
        reward=column("reward", torch.float64),
        terminated=terminated,
        truncated=truncated,
        is_first=column("age", torch.int64) == 0,
        weight=weight * torch.tensor([path.probability for path in lanes], dtype=torch.float64) if weighted else weight,
        last_observation=observe[[path.state for path in lanes]],
        final_observation=observe[column("final", torch.int64).flatten()[index]],
        final_index=index,
    )


def all_episodes(world: World, policy: Policy) -> Rollout:
    return record(policy, paths(world, probabilities(policy).detach(), restart=False))


def all_rollouts(world: World, policy: Policy) -> Rollout:
    return record(policy, paths(world, probabilities(policy).detach(), restart=True))


def expected_reinforce(algorithm: Reinforce, policy: Policy, rollout: Rollout) -> Tensor:
    """The expected gradient of one episode: the algorithm divides by the number of lanes, probabilities did already."""
    batch, episodes = algorithm.estimate(policy, rollout)
    return climbed(policy, algorithm.loss(policy, batch, episodes, 0.0)[0]) * episodes


ActorCritics = A2C | PPO | PPG | SPO | PPOPenalty | TRPO | NPG
KINDS: list[type[ActorCritics]] = [A2C, PPO, PPG, SPO, PPOPenalty, TRPO, NPG]
SETTINGS: dict[type[ActorCritics], tuple[float, ...]] = {
    A2C: (0.0,),
    PPO: (0.2, 0.0),
    PPG: (0.2, 0.0),
    SPO: (0.2, 0.0),
    PPOPenalty: (3.0, 0.0),
}


def expected_actor_critic(algorithm: Any, policy: Policy, rollout: Rollout) -> Tensor:
    """The expected sum over a rollout's steps: the algorithm divides by the sum of weights, and one by a deviation."""
    algorithm = algorithm.policy_phase if isinstance(algorithm, PPG) else algorithm
    batch: Batch = algorithm.estimate(policy, rollout)
    scale = 1.0
    if isinstance(algorithm, PPOPenalty):  # which standardises
        batch, scale = dataclasses.replace(batch, old=natural_step.acting(policy, batch)), deviation(batch)
    loss = algorithm.loss(policy, batch, *SETTINGS.get(type(algorithm), ()))
    assert rollout.weight is not None
    return climbed(policy, loss[0]) * rollout.weight.sum() * scale


def deviation(batch: Batch) -> float:
    """The weighted deviation of the advantages."""
    assert batch.weight is not None
    share = batch.weight / batch.weight.sum()
    mean = (share * batch.advantage).sum()
    return float((share * (batch.advantage - mean).square()).sum().sqrt())


def assert_equal(found: Tensor, truth: Tensor) -> None:
    assert truth.abs().max() > NOTICEABLE  # or the comparison would say nothing
    torch.testing.assert_close(found, truth, rtol=0, atol=ACCURACY)


def distance(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).abs().max())


@WORLDS
@pytest.mark.parametrize("restart", [False, True])
def test_the_enumeration_is_complete(world: World, restart: bool, policy: Policy) -> None:
    pi = probabilities(policy).detach()
    lanes = paths(world, pi, restart)
    assert abs(sum(path.probability for path in lanes) - 1) < 1e-12
    found = torch.zeros(world.limit, STATES, dtype=torch.float64)
    for path in lanes:
        for row in path.rows:
            found[row.age, row.state] += path.probability * row.counts
    torch.testing.assert_close(found, visits(world, pi, restart), rtol=0, atol=1e-12)
    returns = sum(p.probability * r.counts * DISCOUNT**r.age * r.reward for p in lanes for r in p.rows)
    if not restart:
        assert abs(returns - float(performance(world, pi))) < 1e-12


# REINFORCE.

UNBIASED = [("reward-to-go", True), ("trajectory", False), ("trajectory", True)]


@WORLDS
@pytest.mark.parametrize("baseline", ["none", "value"])
@pytest.mark.parametrize(("credit", "discount_states"), UNBIASED)
def test_reinforce_climbs_the_performance(
    world: World, credit: Credit, discount_states: bool, baseline: Baseline, policy: Policy
) -> None:
    algorithm = Reinforce(discount=DISCOUNT, credit=credit, baseline=baseline, discount_states=discount_states)
    found = expected_reinforce(algorithm, policy, all_episodes(world, policy))
    assert_equal(found, performance_gradient(world, policy))


@WORLDS
@pytest.mark.parametrize("baseline", ["none", "value"])
def test_reinforce_without_discounted_states_climbs_the_usual_sum(
    world: World, baseline: Baseline, policy: Policy
) -> None:
    algorithm = Reinforce(discount=DISCOUNT, baseline=baseline)
    found = expected_reinforce(algorithm, policy, all_episodes(world, policy))
    assert_equal(found, usual_gradient(world, policy))
    assert distance(found, performance_gradient(world, policy)) > NOTICEABLE


def expected_over_pairs(algorithm: Reinforce, policy: Policy, lanes: list[Path]) -> Tensor:
    """The expected gradient of rollouts that hold two independent episodes."""
    batches = []
    for first, second in itertools.combinations_with_replacement(lanes, 2):
        batch, episodes = algorithm.estimate(policy, record(policy, [first, second], weighted=False))
        assert episodes == 2
        orders = 1 if first is second else 2
        assert batch.weight is not None
        likely = batch.weight * (first.probability * second.probability * orders)
        batches.append(dataclasses.replace(batch, weight=likely))
    joined: Batch = map_leaves(lambda *x: torch.cat(x), *batches)
    return climbed(policy, algorithm.loss(policy, joined, 2, 0.0)[0])


@pytest.mark.parametrize(
    ("credit", "discount_states"), [("reward-to-go", True), ("reward-to-go", False), ("trajectory", False)]
)
def test_the_mean_of_other_episodes_changes_no_expectation(
    credit: Credit, discount_states: bool, policy: Policy
) -> None:
    lanes = paths(CUTTING, probabilities(policy).detach(), restart=False)
    algorithm = Reinforce(discount=DISCOUNT, credit=credit, baseline="mean", discount_states=discount_states)
    usual = credit == "reward-to-go" and not discount_states
    truth = usual_gradient(CUTTING, policy) if usual else performance_gradient(CUTTING, policy)
    assert_equal(expected_over_pairs(algorithm, policy, lanes), truth)


def test_a_mean_that_includes_the_episode_itself_would_be_found_out(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mean_of_all(gain: Tensor, time: Tensor, weight: Tensor, ended: Tensor, whole: bool) -> Tensor:
        return (gain * weight).sum() / weight.sum()

    monkeypatch.setattr(reinforce, "mean_of_others", mean_of_all)
    lanes = paths(CUTTING, probabilities(policy).detach(), restart=False)
    algorithm = Reinforce(discount=DISCOUNT, baseline="mean", discount_states=True)
    assert distance(expected_over_pairs(algorithm, policy, lanes), performance_gradient(CUTTING, policy)) > NOTICEABLE


@pytest.mark.parametrize("whole", [False, True])
def test_the_mean_of_others_is_what_it_says(whole: bool, policy: Policy) -> None:
    """Against loops over (lane, episode): no expectation can tell the mean of the others from a fraction of it."""
    lanes = paths(CUTTING, probabilities(policy).detach(), restart=True)
    long = next(path for path in lanes if path.rows[2].age == 2)  # outlasts the others, which end sooner
    short = [path for path in lanes if max(row.age for row in path.rows) < 2]
    rollout = record(policy, [long, *short[:: len(short) // 5]], weighted=False)
    time, weight = estimators.elapsed(rollout.is_first), reinforce.whole_episodes(rollout)
    gain = estimators.reward_to_go(rollout.reward, rollout.ended, DISCOUNT)
    if whole:
        gain = estimators.discounted_return(rollout.reward, rollout.ended, DISCOUNT)
    found = reinforce.mean_of_others(gain, time, weight, rollout.ended, whole)
    number = rollout.is_first.cumsum(0)
    places = [(t, b) for t in range(STEPS) for b in range(rollout.shape[1]) if weight[t, b] > 0]
    fallbacks = 0
    for t, b in places:
        others = [(i, j) for i, j in places if (j, int(number[i, j])) != (b, int(number[t, b]))]
        here = [p for p in others if time[p] == (0 if whole else time[t, b])]
        fallbacks += not here
        expected = sum(float(gain[p]) for p in here or others) / len(here or others)
        assert abs(float(found[t, b]) - expected) < 1e-12
    assert (found[weight == 0] == 0).all()
    assert whole or fallbacks > 0


def slice_rows(rollout: Rollout, start: int, end: int) -> Rollout:
    """Rows [start, end) as a collector that stopped there would have recorded them."""
    lanes = rollout.shape[1]
    inside = (rollout.final_index >= start * lanes) & (rollout.final_index < end * lanes)
    last = rollout.last_observation if end == rollout.shape[0] else rollout.observation[end]
    rows = {
        name: getattr(rollout, name)[start:end]
        for name in ("observation", "action", "log_prob", "reward", "terminated", "truncated", "is_first", "weight")
    }
    index = rollout.final_index[inside] - start * lanes
    return Rollout(
        **rows, last_observation=last, final_observation=rollout.final_observation[inside], final_index=index
    )


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_carried_tail_keeps_the_successors_of_its_episodes(cut: int, policy: Policy) -> None:
    rollout = all_rollouts(CUTTING, policy)
    tail = slice_rows(rollout, 0, cut).unfinished()
    assert tail is not None
    joined = slice_rows(rollout, cut, STEPS).after(tail)
    assert joined.weight is not None
    heard, rows = joined.weight > 0, slice(STEPS - joined.shape[0], STEPS)
    assert torch.equal(joined.next_observation()[heard], rollout.next_observation()[rows][heard])
    assert torch.equal(joined.values(policy)[1][heard], rollout.values(policy)[1][rows][heard])


def improvements(algorithm: Reinforce, seed: int, rollouts: list[Rollout]) -> Tensor:
    """Sum over episodes of the gradients that ``improve`` steps along, with the parameters put back after each step."""
    policy = build_policy(seed)
    learner = Learner(policy, learning_rate=1.0, optimizer="sgd")
    before = learner.parameters.clone()
    state = algorithm.init(policy, rollouts[0].shape[1])
    total = torch.zeros_like(learner.vector("actor"))
    for rollout in rollouts:
        state, metrics = algorithm.improve(learner, rollout, state, 0.0)
        total += (learner.vector("actor") - before[learner.slices["actor"]]) * metrics["episodes"]
        learner.parameters.copy_(before)
    return total


@pytest.mark.parametrize("cuts", [(1,), (2,), (3,), (1, 2), (1, 2, 3)])
@pytest.mark.parametrize("discount_states", [False, True])
def test_episodes_that_a_rollout_cuts_are_learned_from_once_whole(
    cuts: tuple[int, ...], discount_states: bool, policy: Policy
) -> None:
    rollout = all_rollouts(CUTTING, policy)
    algorithm = Reinforce(discount=DISCOUNT, baseline="value", discount_states=discount_states, value_steps=1)
    ends = (0, *cuts, STEPS)
    pieces = [slice_rows(rollout, start, end) for start, end in itertools.pairwise(ends)]
    assert_equal(improvements(algorithm, 0, pieces), improvements(algorithm, 0, [rollout]))


# A2C, PPO and their kin.

ACTOR_CRITICS = pytest.mark.parametrize("kind", KINDS)


@WORLDS
@ACTOR_CRITICS
@pytest.mark.parametrize("trace", [0.0, 0.7, 1.0])
def test_actor_critics_with_the_exact_value_climb_the_usual_sum(
    world: World, kind: type[ActorCritics], trace: float, policy: Policy
) -> None:
    set_values(policy, endless_values(world, probabilities(policy).detach())[0])
    rollout = all_rollouts(world, policy)
    found = expected_actor_critic(kind(discount=DISCOUNT, trace=trace), policy, rollout)
    truth = bootstrapped_gradient(world, policy, restart=True)
    assert_equal(found, truth)
    if world is CUTTING:
        everything_ends = dataclasses.replace(rollout, terminated=rollout.ended)
        wrong = expected_actor_critic(kind(discount=DISCOUNT, trace=trace), policy, everything_ends)
        assert distance(wrong, truth) > NOTICEABLE


@ACTOR_CRITICS
def test_actor_critics_at_trace_1_climb_the_usual_sum_for_any_value(kind: type[ActorCritics], policy: Policy) -> None:
    set_values(policy, torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64))
    rollout = all_episodes(ENDING, policy)
    truth = bootstrapped_gradient(ENDING, policy, restart=False)
    assert_equal(truth, usual_gradient(ENDING, policy))
    assert_equal(expected_actor_critic(kind(discount=DISCOUNT, trace=1.0), policy, rollout), truth)
    biased = expected_actor_critic(kind(discount=DISCOUNT, trace=0.7), policy, rollout)
    assert distance(biased, truth) > NOTICEABLE


ONCE: dict[str, Any] = {"discount": DISCOUNT, "epochs": 1, "minibatch": 10**6}


@pytest.mark.parametrize(
    "algorithm", [A2C(discount=DISCOUNT), PPO(**ONCE), PPG(**ONCE), SPO(**ONCE), PPOPenalty(**ONCE)]
)
def test_improve_steps_along_the_gradient_of_the_loss(algorithm: ActorCritics, policy: Policy) -> None:
    rollout = all_rollouts(CUTTING, policy)
    assert rollout.weight is not None
    truth = expected_actor_critic(algorithm, policy, rollout) / rollout.weight.sum()
    if isinstance(algorithm, PPOPenalty):
        truth = truth / deviation(PPO(**ONCE).estimate(policy, rollout))
    learner = Learner(policy, learning_rate=1.0, optimizer="sgd")
    before = learner.vector("actor").clone()
    algorithm.improve(learner, rollout, algorithm.init(policy, rollout.shape[1]), 0.0)
    assert_equal(learner.vector("actor") - before, truth)


# IMPALA, on rollouts of another policy μ.

FREE = {"ratio_bound": 1e9, "trace_bound": 1e9}


def expected_impala(algorithm: IMPALA, policy: Policy, rollout: Rollout) -> Tensor:
    batch, _ = algorithm.estimate(policy, rollout)
    assert rollout.weight is not None
    return climbed(policy, algorithm.loss(policy, batch, 0.0)[0]) * rollout.weight.sum()


def foreign_gradient(world: World, policy: Policy, other: Policy, restart: bool) -> Tensor:
    """Σ_t Σ_s Pr_μ(s_t = s) Σ_a ∇π(a|s) A_π(s, a), A of the task without truncation."""
    pi = probabilities(policy)
    value, q = endless_values(world, pi.detach())
    count = visits(world, probabilities(other).detach(), restart).sum(0)
    return gradient(policy, (count.unsqueeze(-1) * pi * (q - value.unsqueeze(-1))).sum())


@WORLDS
@pytest.mark.parametrize("trace", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("own", [True, False])
def test_impala_with_the_exact_value_climbs_where_the_other_policy_goes(
    world: World, trace: float, own: bool, policy: Policy
) -> None:
    """Own: its own rollouts, where no bound binds; else those of another policy, with no bounds."""
    other = policy if own else build_policy(seed=1)
    set_values(policy, endless_values(world, probabilities(policy).detach())[0])
    algorithm = IMPALA(discount=DISCOUNT, trace=trace, **({} if own else FREE))
    rollout = all_rollouts(world, other)
    truth = foreign_gradient(world, policy, other, restart=True)
    assert_equal(expected_impala(algorithm, policy, rollout), truth)
    if not own:
        uncorrected = expected_actor_critic(A2C(discount=DISCOUNT, trace=trace), policy, rollout)
        bound = expected_impala(IMPALA(discount=DISCOUNT, trace=trace), policy, rollout)
        assert distance(uncorrected, truth) > NOTICEABLE
        assert distance(bound, truth) > NOTICEABLE


def test_impala_at_trace_1_corrects_whole_returns_for_any_value(policy: Policy) -> None:
    other = build_policy(seed=1)
    set_values(policy, torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64))
    truth = foreign_gradient(ENDING, policy, other, restart=False)
    rollout = all_episodes(ENDING, other)
    assert_equal(expected_impala(IMPALA(discount=DISCOUNT, **FREE), policy, rollout), truth)
    biased = expected_impala(IMPALA(discount=DISCOUNT, trace=0.0, **FREE), policy, rollout)
    assert distance(biased, truth) > NOTICEABLE


@pytest.mark.parametrize("minibatch", [None, 10**6])
def test_impala_steps_along_the_gradient_of_its_loss(minibatch: int | None, policy: Policy) -> None:
    rollout, algorithm = all_rollouts(CUTTING, build_policy(seed=1)), IMPALA(discount=DISCOUNT, minibatch=minibatch)
    assert rollout.weight is not None
    truth = expected_impala(algorithm, policy, rollout) / rollout.weight.sum()
    learner = Learner(policy, learning_rate=1.0, optimizer="sgd")
    before = learner.vector("actor").clone()
    algorithm.improve(learner, rollout, {}, 0.0)
    assert_equal(learner.vector("actor") - before, truth)

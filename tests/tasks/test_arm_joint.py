"""The arm on a grid: the exact solution against simulation, greed's failure, ∇J by three ways, and learning."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pistar import tabular
from pistar.envs.environment import Environment
from pistar.errors import UsageError
from pistar.evaluation import play
from pistar.experiment import resolve
from pistar.policies.linear_softmax import LinearSoftmax
from pistar.policy import Policy
from pistar.tasks import arm_joint_exact
from pistar.tasks.arm_joint import ArmJoint, ArmJointOpen, greedy_on_reward
from pistar.training import Session

SMALL = ArmJoint(positions=7)
TASKS = [
    SMALL,
    ArmJoint(positions=7, goal="episode"),
    ArmJointOpen(positions=5),
    ArmJointOpen(positions=5, goal="episode"),
]
every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{'wall' if task.walled else 'open'}-{task.goal}")


def policy_for(task: ArmJoint, seed: int = 0) -> Policy:
    """The task's own linear softmax policy in float64 with some θ."""
    kind = LinearSoftmax(**{k: v for k, v in task.recipe("reinforce")["policy"].items() if k != "kind"})
    policy = kind.build(task.world(1).spaces, torch.Generator()).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return policy


def discounted_returns(task: ArmJoint, environment: Environment, choose: object, episodes_of: int) -> np.ndarray:
    """γ-discounted returns of the first 50 steps of every lane's first episode: [B]."""
    observation, total, weight = environment.reset(episodes_of), np.zeros(environment.lanes), 1.0
    for _ in range(50):
        step = environment.step(choose(observation))  # type: ignore[operator]
        observation, total = step.observation, total + weight * step.reward.double().numpy()
        weight *= task.discount or 0.0
    return total


@every_task
def test_the_objective_is_what_simulation_finds(task: ArmJoint) -> None:
    policy, world = policy_for(task), dataclasses.replace(task, episode_steps=51).world(20_000)
    generator = torch.Generator().manual_seed(1)

    def choose(observation: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            logits, _ = policy.outputs(observation)
        return torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(-1)

    returns = discounted_returns(task, world, choose, 3)
    exact = arm_joint_exact.reference(task, policy)
    # What lies beyond 50 steps weighs 0.9⁵⁰ = 0.5 % of the objective.
    assert returns.mean() == pytest.approx(exact.policy, rel=0.02, abs=5 * returns.std() / np.sqrt(20_000))
    assert exact.random < exact.optimum
    assert exact.policy < exact.optimum


@every_task
def test_theta_zero_is_the_random_policy_and_the_fraction_is_between(task: ArmJoint) -> None:
    policy = policy_for(task)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
    exact = arm_joint_exact.reference(task, policy)
    assert exact.policy == pytest.approx(exact.random, rel=1e-12)
    assert exact.fraction == pytest.approx(0.0, abs=1e-12)
    assert dataclasses.replace(exact, policy=exact.optimum).fraction == 1.0


@every_task
def test_the_exact_gradient_by_the_theorem_through_the_solve_and_by_differences(task: ArmJoint) -> None:
    policy = policy_for(task)
    by_theorem = arm_joint_exact.exact_gradient(task, policy)["actor.theta"]
    mdp = arm_joint_exact.finite_mdp(task)
    theta = dict(policy.named_parameters())["actor.theta"]
    through = torch.autograd.grad(tabular.objective(mdp, arm_joint_exact.probabilities(task, policy)), theta)[0]
    torch.testing.assert_close(by_theorem, through, rtol=1e-9, atol=1e-11)
    direction = torch.randn(theta.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    objective = []
    for sign in (1, -1):
        with torch.no_grad():
            theta.add_(sign * 1e-5 * direction)
        objective.append(arm_joint_exact.reference(task, policy).policy)
        with torch.no_grad():
            theta.sub_(sign * 1e-5 * direction)
    slope = (objective[0] - objective[1]) / 2e-5
    assert slope == pytest.approx(float((by_theorem * direction).sum()), rel=1e-6)


@pytest.mark.parametrize("task", [ArmJoint(), ArmJointOpen()], ids=["wall", "open"])
def test_greed_for_reward_fails_behind_the_wall_and_nowhere_else(task: ArmJoint) -> None:
    mdp = arm_joint_exact.finite_mdp(task)
    random, optimum = float(tabular.objective(mdp, mdp.uniform())), tabular.optimum(mdp)
    spread = tabular.greedy(mdp.reward)
    first = torch.nn.functional.one_hot(mdp.reward.argmax(-1), mdp.reward.shape[-1]).double()
    for greedy in (spread, first):
        fraction = (float(tabular.objective(mdp, greedy)) - random) / (optimum - random)
        if task.walled:
            assert fraction <= 0.9
        else:
            assert fraction == pytest.approx(1.0, abs=1e-9)


def test_the_greedy_baseline_takes_the_largest_next_reward() -> None:
    task = ArmJoint(goal="episode")
    world = task.world(300)
    observation = world.reset(0)
    action = greedy_on_reward(world, 0)(observation)
    every = [world.dynamics(world.world, torch.full((300,), a)).reward for a in range(9)]
    torch.testing.assert_close(world.step(action).reward, torch.stack(every).amax(0))


def test_the_goal_can_be_reached_from_everywhere() -> None:
    task = ArmJoint()
    mdp = arm_joint_exact.finite_mdp(task)
    world = task.world(1)
    reached = torch.zeros(441, dtype=torch.bool)
    reached[world.number(torch.tensor(task.goal_cell))] = True
    for _ in range(441):
        reached |= reached[mdp.successor[..., 0]].any(-1)
    assert bool(reached[world.free].all())


def test_features_know_nothing_of_rewards_and_impossible_arms_are_refused() -> None:
    for task in (ArmJoint(), ArmJoint(goal="episode"), ArmJointOpen(), ArmJointOpen(goal="episode")):
        columns = task.recipe("reinforce")["policy"]["columns"]
        assert all(0 <= column < 6 for column in columns)  # the observation holds angles and their differences only
    for settings in ({"joints": 1}, {"positions": 5}):
        with pytest.raises(UsageError, match="a box with a door needs"):
            ArmJoint(**settings)  # type: ignore[arg-type]
    ArmJointOpen(joints=1)


@pytest.mark.parametrize("algorithm", ["reinforce", "a2c", "ppo"])
@pytest.mark.parametrize("kind", ["arm-joint", "arm-joint-open"])
def test_every_algorithm_has_a_recipe_with_the_tasks_discount(kind: str, algorithm: str) -> None:
    experiment = resolve({"kind": kind}, ({"algorithm": {"kind": algorithm}}, "here"))
    assert experiment.algorithm.discount == 0.9  # type: ignore[attr-defined]
    assert isinstance(experiment.policy, LinearSoftmax)
    assert (experiment.policy.critic == "none") == (algorithm == "reinforce")
    if algorithm == "ppo":
        assert experiment.algorithm.epochs == 4  # type: ignore[attr-defined] # its own recipe for discrete actions stands


def test_a_short_training_climbs_the_exact_objective() -> None:
    experiment = resolve({"kind": "arm-joint-open", "positions": 7}, ({"training": {"steps": 30_000}}, "here"))
    session = Session(experiment)
    session.collector.start()
    fractions = []
    for _ in range(experiment.training.iterations):
        session.iterate(cut=False)
        reference = experiment.task.reference(session.policy)
        assert reference is not None
        fractions.append(reference.fraction)
    assert fractions[-1] > 0.9
    assert fractions[-1] > fractions[len(fractions) // 4] > fractions[0]


def test_a_joint_space_too_large_to_solve_has_no_reference() -> None:
    task = ArmJointOpen(joints=3)
    assert task.reference(policy_for(task)) is None
    assert play(task.world(3), greedy_on_reward(task.world(3), 0), 1, 0).lengths.tolist() == [[20]] * 3

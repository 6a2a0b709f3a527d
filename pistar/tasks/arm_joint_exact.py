"""The arm on a grid as a finite Markov decision process: J* by value iteration, J and ∇J of a policy by linear solves.

States are the cells of the joint space, one problem per goal; forbidden cells are in the list, but no episode starts in
one and no move leads there. The infinite horizon is solved; an episode shows the first steps of it only.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from pistar import tabular
from pistar.policy import Policy
from pistar.tabular import FiniteMDP
from pistar.tasks.arm_joint import ArmJoint
from pistar.tasks.task import Reference


def finite_mdp(task: ArmJoint) -> FiniteMDP:
    """One problem per goal: reward [G, S, A], start [G, S]; G = 1 where the goal is fixed."""
    world = task.world(1)
    cells, goals = _cells_and_goals(task)
    states, actions = len(cells), len(world.moves)
    after = world.moved(cells.unsqueeze(1), torch.arange(actions))  # [S, A, n]
    angles = world.angles.double()
    error = angles[goals][:, None, None] - angles[after]  # [G, S, A, n]
    start = torch.zeros(len(goals), states, dtype=torch.float64)
    start[:, world.free] = 1.0 / (len(world.free) * len(goals))
    assert task.discount is not None
    return FiniteMDP(
        successor=world.number(after).unsqueeze(-1),
        probability=torch.ones(states, actions, 1, dtype=torch.float64),
        reward=-error.square().sum(-1),
        start=start,
        discount=task.discount,
    )


def _cells_and_goals(task: ArmJoint) -> tuple[Tensor, Tensor]:
    """Every cell [S, n] and every goal [G, n]."""
    world = task.world(1)
    cells = world.cell(torch.arange(task.positions**task.joints))
    return cells, cells[world.free] if world.goal is None else world.goal.unsqueeze(0)


def probabilities(task: ArmJoint, policy: Policy) -> Tensor:
    """π(a|s) for every goal and cell: [G, S, A] float64; differentiable in the policy's parameters."""
    world = task.world(1)
    cells, goals = _cells_and_goals(task)
    shape = (len(goals), len(cells), world.joints)
    observation = world.observe({"position": cells.expand(shape), "goal": goals.unsqueeze(1).expand(shape)})
    logits, _ = policy.outputs(observation)
    return logits.double().softmax(-1)


def reference(task: ArmJoint, policy: Policy) -> Reference:
    """J of the stochastic policy beside J* and the J of uniformly random moves."""
    mdp, optimum, random = solved(task)
    with torch.no_grad():
        mine = float(tabular.objective(mdp, probabilities(task, policy)))
    return Reference(mine, optimum, random)


@lru_cache(maxsize=4)
def solved(task: ArmJoint) -> tuple[FiniteMDP, float, float]:
    """The decision process, J* and the J of random moves: the same at every evaluation, and seconds of work."""
    mdp = finite_mdp(task)
    return mdp, tabular.optimum(mdp), float(tabular.objective(mdp, mdp.uniform()))


def exact_gradient(task: ArmJoint, policy: Policy) -> dict[str, Tensor]:
    """∇J(θ) by the policy gradient theorem, Σ d(s) Q(s, a) ∇π(a|s), for every parameter of the actor, by name."""
    mdp, table = finite_mdp(task), probabilities(task, policy)
    weight = tabular.policy_gradient(mdp, table)
    named = {name: parameter for name, parameter in policy.named_parameters() if parameter.requires_grad}
    found = torch.autograd.grad((weight * table).sum(), list(named.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(named, found, strict=True) if gradient is not None}

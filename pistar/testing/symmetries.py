"""Is a declared symmetry one of the world? Two copies of it are stepped side by side, one of them in the mirror.

The mirror's state is the symmetry's own image of the other's, where `Symmetry.state` says what that is. Given the images of
the same actions, it must show the images of the same observations, pay the same rewards and end at the same steps, until the
first end. What has no ``state`` can only be judged as a group on its spaces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pistar import seeding
from pistar.envs.allowed import mask_in, random_action
from pistar.envs.environment import Environment
from pistar.errors import UsageError
from pistar.heads import action_head
from pistar.mirroring import require_group
from pistar.symmetry import Symmetry, apply
from pistar.testing.violation import ContractViolation
from pistar.tree import Tree, leaves

RULES = {
    "group": "the symmetries, with the identity, are a group on observations and actions",
    "observation": "a mirrored world shows what the symmetry makes of the other's observation",
    "reward": "a mirrored world pays what the other pays, for mirrored actions",
    "termination": "a mirrored world ends when the other ends",
}
LANES, APART, ALONG = 16, 20, 10  # lanes; random steps before the states are compared; steps side by side


def check_symmetry(
    make: Callable[[int], Environment], symmetries: Sequence[Symmetry], *, seed: int = 0, tolerance: float = 1e-3
) -> list[str]:
    """Raise ContractViolation where ``make(lanes)`` does not have the ``symmetries``; the names of those that were stepped.

    ``tolerance`` is relative to what is compared where that is larger than 1.
    """
    environment, stepped = make(LANES), []
    try:
        try:
            require_group(tuple(symmetries), environment.spaces, action_head(environment.spaces.action))
        except UsageError as error:
            raise ContractViolation("group", str(error), RULES) from error
        for symmetry in symmetries:
            if symmetry.state is not None:
                _side_by_side(environment, make, symmetry, seed, tolerance)
                stepped.append(symmetry.name)
    finally:
        environment.close()
    return stepped


def _side_by_side(
    environment: Environment, make: Callable[[int], Environment], symmetry: Symmetry, seed: int, tolerance: float
) -> None:
    shown = environment.reset(seed)
    space, head = environment.spaces.action, action_head(environment.spaces.action)
    space.seed(seeding.derive(seed, "symmetry") % 2**31)

    def choose(observation: Tree) -> Tree:
        return random_action(space, LANES, environment.device, mask_in(observation, environment.mask))

    for _ in range(APART):
        shown = environment.step(choose(shown)).observation
    mirror = make(LANES)
    try:
        mirror.reset(seed)
        shown, other = (
            environment.restore(environment.save()),
            mirror.restore(apply(symmetry.state, environment.save())),
        )
        going = torch.ones(LANES, dtype=torch.bool)
        for t in range(ALONG):
            _compare("observation", symmetry, t, symmetry.see(shown), other, going, tolerance)
            action = choose(shown)
            step = environment.step(action)
            image = mirror.step(head.to_environment(symmetry.act(head.from_environment(action))))
            _compare("reward", symmetry, t, step.reward, image.reward, going, tolerance)
            _compare("termination", symmetry, t, step.terminated.float(), image.terminated.float(), going, tolerance)
            going = going & ~step.ended.cpu() & ~image.ended.cpu()
            shown, other = step.observation, image.observation
    finally:
        mirror.close()


def _compare(
    rule: str, symmetry: Symmetry, t: int, expected: Tree, received: Tree, going: Tensor, tolerance: float
) -> None:
    for (path, one), (_, other) in zip(leaves(expected), leaves(received), strict=True):
        apart = (one.double() - other.double()).abs().cpu() - tolerance * one.double().abs().clamp(min=1.0).cpu()
        wrong = (apart.flatten(1).amax(1) if apart.dim() > 1 else apart) > 0
        if bool((wrong & going).any()):
            lane = int((wrong & going).nonzero()[0])
            raise ContractViolation(
                rule,
                f"{symmetry.name!r}, {'/'.join((rule, *path))} of lane {lane} after {t} steps: the mirror has "
                f"{other[lane].tolist()}, expected {one[lane].tolist()}",
                RULES,
            )

"""Controllers that any task can be compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pistar.seeding import derive

if TYPE_CHECKING:
    from pistar.envs.environment import Environment
    from pistar.tasks.task import Controller


def random(environment: Environment, seed: int) -> Controller:
    """Uniformly random actions from the action space's own stream; only allowed ones where the environment has a mask."""
    # Imported here so that listing tasks needs no torch.
    from pistar.envs.allowed import mask_in, random_action

    space = environment.spaces.action
    space.seed(derive(seed, "random baseline") % 2**31)

    def choose(observation: Any) -> Any:
        return random_action(space, environment.lanes, environment.device, mask_in(observation, environment.mask))

    return choose


def zero(environment: Environment, seed: int) -> Controller:
    """No action at all: the zero of a box."""
    import torch

    shape = (environment.lanes, *(environment.spaces.action.shape or ()))
    action = torch.zeros(shape, device=environment.device)

    def choose(observation: Any) -> Any:
        return action

    return choose


def jacobian_transpose(
    links: tuple[float, float], stiffness: float, damping: tuple[float, float]
) -> Callable[[Environment, int], Controller]:
    """Jacobian-transpose control of a planar two-link arm: a spring from fingertip to target, and damped joints.

    τ = Jᵀ(q) · k (target − tip) − D q̇, in units of the actuators, clipped to [−1, 1]; J = ∂tip/∂q. The spring's
    potential is k/2 |target − tip|², so Jᵀ needs no inverse and no care where the arm is straight. Uses the
    observation [B, 10] alone: cos q, sin q, target, q̇, tip − target. ``links`` in metres; ``stiffness`` k in actions per
    metre of distance and metre of lever; ``damping`` D in actions per rad/s, of shoulder and elbow.
    """

    def controller(environment: Environment, seed: int) -> Controller:
        import torch

        gains = torch.tensor(damping, device=environment.device)

        def choose(observation: Any) -> Any:
            cos1, cos2, sin1, sin2 = observation[:, :4].unbind(1)
            velocity, pull = observation[:, 6:8], -stiffness * observation[:, 8:10]
            cos12, sin12 = cos1 * cos2 - sin1 * sin2, sin1 * cos2 + cos1 * sin2
            outer = torch.stack((-links[1] * sin12, links[1] * cos12), 1)  # ∂tip/∂q₂
            inner = outer + torch.stack((-links[0] * sin1, links[0] * cos1), 1)  # ∂tip/∂q₁
            torque = torch.stack(((inner * pull).sum(1), (outer * pull).sum(1)), 1) - gains * velocity
            return torque.clamp(-1.0, 1.0)

        return choose

    return controller

"""Running moments, and what is done with them. They move only between an update and the next rollout."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pistar.estimators import accumulate


class Moments(nn.Module):
    """Mean and variance of all samples so far, in float64, merged batch by batch (Chan, Golub & LeVeque 1979)."""

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, samples: Tensor, weight: Tensor | None = None) -> None:
        """Absorb ``samples`` [N, size]; entries of ``weight`` [N] that are 0 do not count."""
        if weight is not None:
            samples = samples[weight > 0]
        if samples.shape[0] == 0:
            return
        samples = samples.double()
        mean, variance = samples.mean(0), samples.var(0, correction=0)
        number = float(samples.shape[0])
        total = self.count + number
        shift = mean - self.mean
        between = shift.square() * self.count * number / total
        self.variance.copy_((self.variance * self.count + variance * number + between) / total)
        self.mean.add_(shift * (number / total))
        self.count.copy_(total)


class Normalizer(nn.Module):
    """(x − mean) / deviation of each entry, clipped to ± ``limit``; entries outside ``mask`` pass unchanged."""

    shift: Tensor
    scale: Tensor
    bound: Tensor
    mask: Tensor

    def __init__(self, mask: Tensor, limit: float = 10.0) -> None:
        super().__init__()
        self.moments = Moments(mask.numel())
        self.register_buffer("mask", mask.clone())
        self.register_buffer("shift", torch.zeros(mask.numel()))
        self.register_buffer("scale", torch.ones(mask.numel()))
        self.register_buffer("bound", torch.where(mask, limit, torch.inf).float())

    def forward(self, x: Tensor) -> Tensor:
        """[..., size] -> [..., size]."""
        return torch.clamp((x - self.shift) * self.scale, -self.bound, self.bound)

    def update(self, x: Tensor, weight: Tensor | None = None) -> None:
        """Absorb x [N, size] and freeze the result for the next rollout."""
        self.moments.update(x, weight)
        deviation = (self.moments.variance + 1e-8).sqrt()
        self.shift.copy_(torch.where(self.mask, self.moments.mean, 0.0))
        self.scale.copy_(torch.where(self.mask, 1.0 / deviation, 1.0))


class RewardScale:
    """Divides rewards by the running deviation of the discounted return (Engstrom et al. 2020, section 3).

    The mean is left in: subtracting it would change which policy is best wherever episodes can end.
    """

    def __init__(self, lanes: int, discount: float, device: torch.device | str = "cpu") -> None:
        self.discount = discount
        self.moments = Moments(1).to(device)
        self.discounted = torch.zeros(lanes, dtype=torch.float64, device=device)  # per lane, carried over rollouts

    @property
    def factor(self) -> float:
        """What rewards are multiplied with until the next ``update``; 1 while no returns have differed.

        Where a reward is rare, the first one would else count ten thousandfold.
        """
        variance, mean = float(self.moments.variance), float(self.moments.mean)
        if float(self.moments.count) == 0.0 or variance <= 1e-12 * mean * mean:  # no more than rounding
            return 1.0
        return float((self.moments.variance + 1e-8).rsqrt())

    def update(self, reward: Tensor, ended: Tensor, weight: Tensor) -> None:
        """Absorb a rollout's raw rewards [T, B]."""
        gains, ends = reward.to(self.discounted), ended.to(self.discounted.device)
        # The recurrence of the estimators, run forwards: what is carried into a step is what the step before it left.
        carried = torch.full_like(gains, self.discount)
        carried[1:].masked_fill_(ends[:-1], 0.0)
        trail = accumulate(gains.flip(0), carried.flip(0), last=self.discounted).flip(0)
        self.discounted = trail[-1].masked_fill(ends[-1], 0.0)
        self.moments.update(trail.reshape(-1, 1), weight.to(trail.device).flatten())

    def state(self) -> dict[str, Tensor]:
        """All that ``load_state`` needs."""
        return {"discounted": self.discounted, **self.moments.state_dict()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state``."""
        self.discounted = state["discounted"].to(self.discounted.device)
        self.moments.load_state_dict({key: value for key, value in state.items() if key != "discounted"})

"""`check_distribution` passes the package's families and heads, and names the rule that a broken one breaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from pistar.distributions import Categorical, Distribution, Gaussian
from pistar.errors import UsageError
from pistar.families import FAMILIES
from pistar.heads import CategoricalHead, GaussianHead, Head, StateGaussianHead, action_head
from pistar.testing import ContractViolation, check_distribution
from pistar.testing.distributions import RULES

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
DISCRETE: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(5, start=2),
    "multi-discrete": spaces.MultiDiscrete(np.array([[2, 3], [4, 1]]), start=np.array([[0, 5], [-2, 1]])),
    "multi-binary": spaces.MultiBinary([2, 2]),
}


@pytest.mark.parametrize("name", FAMILIES.names())
def test_every_registered_family_keeps_the_contract(name: str) -> None:
    check_distribution(FAMILIES.get(name))


@pytest.mark.parametrize("name", FAMILIES.names())
def test_every_family_keeps_the_contract_as_a_part(name: str) -> None:
    space = spaces.Dict({"aim": spaces.Box(-1.0, 2.0, (1,)), "pair": spaces.Tuple((spaces.Discrete(3), BOX))})
    check_distribution(lambda space: action_head(space, distribution=name), space)


@pytest.mark.parametrize("name", DISCRETE)
def test_the_discrete_heads_keep_the_contract(name: str) -> None:
    check_distribution(action_head, DISCRETE[name])


# Those that break it: each is a Gaussian, or a Categorical, but for one fault.


@dataclasses.dataclass(frozen=True, eq=False)
class Faulty(Gaussian):
    """A Gaussian, one of whose methods passes through ``fault``, (method, function)."""

    fault: ClassVar[Any] = None

    def log_prob(self, action: Tensor) -> Tensor:
        return self._spoiled("log_prob", super().log_prob(action), action)

    def entropy(self) -> Tensor:
        return self._spoiled("entropy", super().entropy())

    def kl(self, other: Any) -> Tensor:
        return self._spoiled("kl", super().kl(other), other)

    def detached(self, shape: tuple[int, ...]) -> Any:
        plain = Gaussian(self.mean, self.log_std).detached(shape)
        return self._spoiled("detached", type(self)(plain.mean, plain.log_std), shape)

    def mode(self) -> Tensor:
        return self._spoiled("mode", super().mode())

    def sample(self, noise: Tensor) -> Tensor:
        return self._spoiled("sample", super().sample(noise), noise)

    def _spoiled(self, name: str, value: Tensor, *arguments: Any) -> Tensor:
        method, function = type(self).fault
        result: Tensor = function(self, value, *arguments) if method == name else value
        return result


def gaussian_with(method: str, function: Callable[..., Tensor]) -> Callable[[Any], Head]:
    kind = type("FaultyOne", (Faulty,), {"fault": (method, function)})

    class FaultyHead(GaussianHead):
        def forward(self, outputs: Tensor) -> Any:
            return kind(outputs, self.bounded_log_std())

    return FaultyHead


class Drawn(GaussianHead):
    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.log_std = nn.Parameter(torch.randn(self.size))


class Forgetful(GaussianHead):
    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.scale = 1.0 + len(MADE)
        MADE.append(self)

    def forward(self, outputs: Tensor) -> Any:
        return Gaussian(outputs * self.scale, self.bounded_log_std())


MADE: list[Any] = []


class Unclipped(GaussianHead):
    def to_environment(self, action: Tensor) -> Tensor:
        return action.float()


class OneWay(GaussianHead):
    def from_environment(self, action: Tensor) -> Tensor:
        return super().from_environment(action) * 0.9


class Unbounded(GaussianHead):
    def forward(self, outputs: Tensor) -> Any:
        return Gaussian(outputs, outputs)


class Backwards(Gaussian):
    def kl(self, other: Any) -> Tensor:
        return Gaussian(other.mean, other.log_std).kl(self)


class Reversed(StateGaussianHead):
    def forward(self, outputs: Tensor) -> Any:
        one = super().forward(outputs)
        return Backwards(one.mean, one.log_std)


class Hiding(GaussianHead):
    def forward(self, outputs: Tensor) -> Any:
        return Gaussian(outputs.nan_to_num(), self.bounded_log_std())


class Restless(GaussianHead):
    def noise(self, *arguments: Any) -> Tensor:
        return torch.randn_like(super().noise(*arguments))


class Correlated(GaussianHead):
    def noise(self, *arguments: Any) -> Tensor:
        return super().noise(*arguments)[..., :1].expand(*arguments[0], self.size)


class Soft(CategoricalHead):
    def forbid(self, outputs: Tensor, mask: Tensor) -> Tensor:
        return outputs.masked_fill(mask == 0, -20.0)


class Lenient(CategoricalHead):
    def forbid(self, outputs: Tensor, mask: Tensor) -> Tensor:
        return outputs


class Naive(CategoricalHead):
    """Log of softmax, which is −inf where a logit is far below the others."""

    def forward(self, outputs: Tensor) -> Any:
        return Categorical(outputs.softmax(-1).log())


class Skewed(CategoricalHead):
    def noise(self, *arguments: Any) -> Tensor:
        return super().noise(*arguments).square()


def batch_mean(one: Any, value: Tensor, *_: Any) -> Tensor:
    return value + 0 * value if value.dim() == 0 else value - value.mean() + value


def halved(one: Any, value: Tensor, *_: Any) -> Tensor:
    return value / 2


FAULTS: dict[str, tuple[str, Callable[[Any], Head]]] = {
    "extra dimension": ("interface", gaussian_with("log_prob", lambda one, x, a: x.unsqueeze(-1))),
    "always double": ("interface", gaussian_with("entropy", lambda one, x: x.double())),
    "no head": ("interface", lambda space: nn.Linear(2, 2)),  # type: ignore[dict-item, return-value]
    "drawn weights": ("weights", Drawn),
    "unregistered weights": ("weights", Forgetful),
    "kept as it is": ("batch", gaussian_with("detached", lambda one, x, shape: type(one)(one.mean, one.log_std))),
    "across the batch": ("rows", gaussian_with("log_prob", batch_mean)),
    "own random numbers": ("noise", Restless),
    "noise within": ("noise", gaussian_with("sample", lambda one, x, n: x + 0.1 * torch.randn_like(x))),
    "unclipped": ("environment", Unclipped),
    "one way": ("environment", OneWay),
    "constant forgotten": ("normalisation", gaussian_with("log_prob", lambda one, x, a: x + 0.9)),
    "scale forgotten": ("samples", gaussian_with("log_prob", lambda one, x, a: x + 0.1 * one.log_std.sum())),
    "wide samples": ("samples", gaussian_with("sample", lambda one, x, n: x + 0.1 * one.log_std.exp() * n)),
    "shifted samples": ("samples", gaussian_with("sample", lambda one, x, n: x + 0.05)),
    "entropy off": ("entropy", gaussian_with("entropy", lambda one, x: x + 0.1)),
    "halved kl": ("divergence", gaussian_with("kl", halved)),
    "reversed kl": ("divergence", Reversed),
    "kl of nothing": ("divergence", gaussian_with("kl", lambda one, x, other: x + 1e-6)),
    "mode off": ("mode", gaussian_with("mode", lambda one, x: x + 0.5)),
    "no gradient": ("gradients", gaussian_with("entropy", lambda one, x: x.detach())),
    "coarse": ("precision", gaussian_with("log_prob", lambda one, x, a: x.bfloat16().to(x.dtype) if x.dtype == torch.float32 else x)),
    "unbounded deviation": ("extremes", Unbounded),
    "hidden nan": ("nan", Hiding),
}  # fmt: skip
DISCRETE_FAULTS: dict[str, tuple[str, Callable[[Any], Head]]] = {
    "soft mask": ("masks", Soft),
    "no mask": ("masks", Lenient),
    "naive logarithm": ("masks", Naive),
    "skewed samples": ("samples", Skewed),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_gaussian_is_told_which_rule_it_breaks(fault: str) -> None:
    rule, family = FAULTS[fault]
    with pytest.raises(ContractViolation, match=f"^{rule}: ") as caught:
        check_distribution(family, BOX)
    assert caught.value.rule == rule
    assert RULES[rule] in str(caught.value)


@pytest.mark.parametrize("fault", DISCRETE_FAULTS)
def test_a_broken_categorical_is_told_which_rule_it_breaks(fault: str) -> None:
    rule, family = DISCRETE_FAULTS[fault]
    with pytest.raises(ContractViolation, match=f"^{rule}: "):
        check_distribution(family, spaces.Discrete(4))


def test_dependent_dimensions_are_noticed() -> None:
    """Each is a good sample by itself, and every mean of log_prob is right."""
    with pytest.raises(ContractViolation, match=r"^samples: "):
        check_distribution(Correlated, BOX)


def test_every_rule_is_broken_by_some_fault() -> None:
    assert {rule for rule, _ in (FAULTS | DISCRETE_FAULTS).values()} == set(RULES)


def test_a_head_that_is_made_already_is_refused() -> None:
    with pytest.raises(UsageError, match="callable"):
        check_distribution(GaussianHead(BOX))  # type: ignore[arg-type]


def test_the_check_leaves_the_callers_random_streams_as_they_were() -> None:
    before = torch.get_rng_state()
    check_distribution(GaussianHead)
    assert torch.equal(torch.get_rng_state(), before)


def test_distributions_know_their_base() -> None:
    assert issubclass(Faulty, Distribution)

"""Families by name: for all Boxes, for single parts, from outside the package."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from pistar.errors import UnknownName, UsageError
from pistar.families import FAMILIES
from pistar.heads import BetaHead, ExplorationHead, GaussianHead, Head, JointHead, StateGaussianHead, action_head
from pistar.kernels import network
from pistar.policies.mlp import MLP

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
ARM = spaces.Dict({"grip": spaces.Discrete(2), "joints": BOX, "wrist": spaces.Tuple((BOX, spaces.Dict({"x": BOX})))})
CLASSES: dict[str, type[Head]] = {
    "gaussian": GaussianHead,
    "squashed": GaussianHead,
    "state-gaussian": StateGaussianHead,
    "beta": BetaHead,
    "gsde": ExplorationHead,
}


def test_every_family_gives_its_head() -> None:
    assert sorted(CLASSES) == FAMILIES.names()
    for name, cls in CLASSES.items():
        head = action_head(BOX, distribution=name)
        assert type(head) is cls
        assert getattr(head, "squash", False) == (name == "squashed")


def test_squash_is_another_word_for_squashed() -> None:
    for options in ({"squash": True}, {"squash": True, "distribution": "squashed"}, {"distribution": "squashed"}):
        head = action_head(BOX, **options)
        assert isinstance(head, GaussianHead)
        assert head.squash
    for refused in (
        lambda: action_head(BOX, squash=True, distribution="beta"),
        lambda: MLP(squash=True, distribution="beta"),
    ):
        with pytest.raises(UsageError, match="squash is for a Gaussian"):
            refused()


def test_parts_may_have_families_of_their_own() -> None:
    head = action_head(
        ARM, distribution="beta", parts={"wrist/0": "gsde", "wrist/1/x": "gaussian"}, initial_log_std=-1.0
    )
    assert isinstance(head, JointHead)
    wrist = head.named["wrist"]
    assert isinstance(wrist, JointHead)
    inner = wrist.named["1"]
    assert isinstance(inner, JointHead)
    assert [type(part) for part in (head.named["joints"], wrist.named["0"], inner.named["x"])] == [
        BetaHead,
        ExplorationHead,
        GaussianHead,
    ]
    gaussian = inner.named["x"]
    assert isinstance(gaussian, GaussianHead)
    assert (gaussian.log_std == -1.0).all()


def test_a_composed_head_enlarges_the_outputs_of_features_only() -> None:
    head = action_head(ARM, parts={"joints": "gsde"})
    weight = torch.ones(head.size, 3)
    head.rescale(weight, 0.5)
    expected = torch.ones(head.size, 3)
    expected[2 : 2 + 64] = 2**0.5 / 0.5
    torch.testing.assert_close(weight, expected)


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"jionts": "beta"}, UnknownName, "did you mean 'joints'"),
        ({"wrist/2": "beta"}, UnknownName, "'2'"),
        ({"grip": "beta"}, UsageError, "one distribution only"),
        ({"joints": "betta"}, UnknownName, "did you mean 'beta'"),
        ({"joints/x": "beta"}, UsageError, "has no parts"),
    ],
)
def test_parts_and_families_that_do_not_exist_are_refused(parts: dict[str, str], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        action_head(ARM, parts=parts)


def test_a_policy_kind_refuses_a_family_that_does_not_exist() -> None:
    for settings in ({"distribution": "betta"}, {"distributions": {"x": "betta"}}):
        with pytest.raises(UnknownName, match="did you mean 'beta'"):
            MLP(**settings)


@pytest.mark.parametrize("name", [name for name in FAMILIES.names() if name != "gaussian"])
def test_the_kernels_leave_other_families_alone(name: str) -> None:
    from pistar.envs.environment import Spaces

    policy = MLP(distribution=name).build(Spaces(BOX, BOX), torch.Generator().manual_seed(0))
    assert not network.fits(policy)


def test_a_head_that_wants_bounds_says_so() -> None:
    unbounded = spaces.Box(-np.inf, np.inf, (2,))
    for name in ("beta", "squashed"):
        with pytest.raises(UsageError, match="finite bounds"):
            action_head(unbounded, distribution=name)


def test_a_deviation_from_the_network_starts_where_it_is_told_and_stays_within_its_bounds() -> None:
    head = StateGaussianHead(BOX, initial_log_std=-1.5)
    assert (head(torch.zeros(4)).log_std == -1.5).all()
    outputs = torch.tensor([0.0, 0.0, -1e4, 1e4], requires_grad=True)
    one = head(outputs)
    assert one.log_std.tolist() == [-5.0, 2.0]
    (gradient,) = torch.autograd.grad(one.log_std.sum(), outputs)  # descent would lower both: only the upper may move
    assert gradient.tolist() == [0.0, 0.0, 0.0, 1.0]

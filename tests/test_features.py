"""Feature maps: every cell has its own feature, and the short ways to preferences equal the long one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from gymnasium import spaces

from pistar.features import FeatureMap, OneHot, TileCoding, feature_map

BOX = spaces.Box(-1.0, 1.0, (3,))
ACTIONS = spaces.Discrete(2)


@pytest.mark.parametrize("bins", [(2, 3, 4), (5, 1, 2)])
def test_every_cell_has_a_feature_of_its_own(bins: tuple[int, ...]) -> None:
    features = OneHot(BOX, ACTIONS, bins=bins)
    cells = itertools.product(*[torch.linspace(-1, 1, count).tolist() for count in bins])
    found = features.active(torch.tensor(list(cells)))
    assert found.tolist() == list(range(features.size))  # in order, the last column fastest


@pytest.mark.parametrize("tilings", [1, 2, 8])
def test_tilings_share_no_feature(tilings: int) -> None:
    features = TileCoding(BOX, ACTIONS, tilings=tilings, tiles=(2, 3, 1))
    grid = torch.tensor(list(itertools.product(torch.linspace(-1, 1, 13).tolist(), repeat=3)))
    active = features.active(grid)
    owners = [set(active[:, tiling].tolist()) for tiling in range(tilings)]
    assert sum(map(len, owners)) == len(set().union(*owners))
    assert set().union(*owners) <= set(range(features.size))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("one-hot", {"bins": 3}),
        ("tile-coding", {"tilings": 4, "tiles": 2}),
        ("radial-basis", {"centres": 3}),
        ("polynomial", {"degree": 3}),
    ],
)
def test_preferences_are_theta_times_phi(name: str, options: dict[str, Any]) -> None:
    features: FeatureMap = feature_map(name, BOX, ACTIONS, **options)
    generator = torch.Generator().manual_seed(0)
    observation = 2 * torch.rand((20, 3), generator=generator) - 1
    theta = torch.randn((features.size, 2), generator=generator)
    logits = features.logits(observation, theta)
    for action in range(2):
        phi = features.phi(observation, torch.full((20,), action))
        torch.testing.assert_close(phi @ theta.flatten(), logits[:, action], rtol=1e-4, atol=1e-5)

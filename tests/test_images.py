"""Images through convolutions: in either layout, beside vectors, scaled once and refused where they are too small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn import functional

from pistar.errors import UnsupportedSpace
from pistar.images import Convolutions, ImageEncoder, MixedEncoder, holds_image, is_image
from pistar.networks import FlatEncoder

SMALL = Convolutions((4, 6), (3, 2), (2, 1), 5)


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def image(*shape: int) -> Any:
    return spaces.Box(0, 255, shape, np.uint8)


def encoder(*shape: int, layers: Convolutions = SMALL) -> ImageEncoder:
    return ImageEncoder(image(*shape), layers, torch.Generator().manual_seed(0))


def test_what_counts_as_an_image() -> None:
    assert is_image(image(8, 8))
    assert is_image(image(3, 8, 8))
    assert not is_image(image(8))
    assert not is_image(spaces.Box(0.0, 1.0, (8, 8, 3), np.float32))
    nested = spaces.Dict({"a": spaces.Tuple((spaces.Discrete(2), image(9, 9, 1)))})
    assert holds_image(nested)
    assert not holds_image(spaces.Dict({"a": spaces.Discrete(2)}))


def test_it_is_two_convolutions_and_a_dense_layer_of_pixels_over_255() -> None:
    made, x = encoder(2, 9, 8), pixels(7, 2, 9, 8)
    hidden = x.float() / 255
    for layer, stride in ((made.layers[0], 2), (made.layers[2], 1)):
        hidden = functional.conv2d(hidden, layer.weight, layer.bias, stride).relu()
    expected = functional.linear(hidden.flatten(1), made.dense.weight, made.dense.bias).relu()
    torch.testing.assert_close(made(x), expected)
    assert bool((expected > 0).any())


def test_channels_are_found_first_or_last() -> None:
    first, last = encoder(3, 9, 8), encoder(9, 8, 3)
    x = pixels(5, 3, 9, 8)
    assert torch.equal(first(x), last(x.movedim(1, -1)))
    grey, one = encoder(9, 8), encoder(1, 9, 8)
    assert torch.equal(grey(x[:, 0]), one(x[:, :1]))
    assert encoder(5, 5, 5).last


def test_leading_dimensions_do_not_matter() -> None:
    made, x = encoder(9, 8, 3), pixels(4, 5, 9, 8, 3)
    torch.testing.assert_close(made(x), made(x.flatten(0, 1)).view(4, 5, -1))
    torch.testing.assert_close(made(x[0, 0]), made(x)[0, 0])


def test_the_default_is_the_network_of_the_nature_paper() -> None:
    made = encoder(4, 84, 84, layers=Convolutions())
    assert made.dense.in_features == 64 * 7 * 7
    assert sum(p.numel() for p in made.parameters()) == 1_684_128
    assert made.size == 512
    gram = made.layers[0].weight.flatten(1) @ made.layers[0].weight.flatten(1).t()
    torch.testing.assert_close(gram, 2 * torch.eye(32), rtol=1e-4, atol=1e-4)


def test_an_image_that_is_too_small_is_refused_with_what_would_do() -> None:
    with pytest.raises(UnsupportedSpace, match=r"--mlp\.kernels"):
        encoder(10, 10, 3, layers=Convolutions())


def test_images_and_vectors_side_by_side() -> None:
    space = spaces.Dict(
        {
            "camera": image(9, 8, 3),
            "map": image(6, 6),
            "arm": spaces.Dict({"angle": spaces.Box(-1.0, 1.0, (2,), np.float32), "mode": spaces.Discrete(3)}),
        }
    )
    made = MixedEncoder(space, SMALL, True, torch.Generator().manual_seed(0))
    x = {
        "camera": pixels(7, 9, 8, 3),
        "map": pixels(7, 6, 6),
        "arm": {
            "angle": torch.randn(7, 2, generator=torch.Generator().manual_seed(1)) + 3,
            "mode": torch.arange(7) % 3,
        },
    }
    made.absorb(x, None)
    flat = FlatEncoder(spaces.Tuple((space["arm"]["angle"], space["arm"]["mode"])), True)  # type: ignore[index]
    flat.absorb((x["arm"]["angle"], x["arm"]["mode"]), None)
    expected = torch.cat(
        (made.images[0](x["camera"]), made.images[1](x["map"]), flat((x["arm"]["angle"], x["arm"]["mode"]))), -1
    )
    assert made.size == expected.shape[-1] == 5 + 5 + 2 + 3
    assert torch.equal(made(x), expected)
    assert abs(float(made(x)[:, 10:12].mean())) < 1e-5  # normalised


def test_weights_are_drawn_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    one, other = encoder(9, 8, 3), encoder(9, 8, 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))

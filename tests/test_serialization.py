"""What a file gives back computes as what was written did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pistar import serialization

ALIGNMENT = 64  # bytes, of torch's own allocations on a CPU


def read_again(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    serialization.write(path, state, "test")
    return serialization.read(path, "test")[0]


def test_what_is_read_stands_where_torch_would_have_put_it(tmp_path: Path) -> None:
    """Of 60 tensors of odd sizes, side by side in a file, most begin anywhere."""
    generator = torch.Generator().manual_seed(0)
    written = {f"{n:02}": torch.rand(1 + n % 7, generator=generator) for n in range(60)}
    written |= {f"{n:02} turned": torch.rand((3, n), generator=generator).t() for n in range(1, 5)}
    read = read_again(written, tmp_path / "file")
    for name, tensor in written.items():
        assert torch.equal(read[name], tensor)
        assert read[name].is_contiguous()
        assert read[name].data_ptr() % ALIGNMENT == 0, name


def test_arrays_are_read_as_they_were(tmp_path: Path) -> None:
    written = {"a": np.arange(3, dtype=np.int16), "b": np.arange(5.0)}
    serialization.write(tmp_path / "file", written, "test")
    read = serialization.read(tmp_path / "file", "test")[0]
    for name, array in written.items():
        assert (read[name].dtype, read[name].tolist()) == (array.dtype, array.tolist())


def test_products_of_what_is_read_have_the_same_bits(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for rows in range(1, 9):
        for size in (6, 8, 16, 64):
            weight, bias = torch.randn((3 * size, size), generator=generator), torch.randn(3 * size)
            written = {"pad" + "x" * n: torch.zeros(n) for n in range(1, 3)}  # so that the others begin at odd places
            written |= {f"x{n}": torch.randn((rows, size), generator=generator) for n in range(4)}
            read = read_again(written, tmp_path / "file")
            for n in range(4):
                x, y = written[f"x{n}"], read[f"x{n}"]
                assert torch.equal(torch.addmm(bias, x, weight.t()), torch.addmm(bias, y, weight.t())), (rows, size)
                assert torch.equal(x.flatten().dot(x.flatten()), y.flatten().dot(y.flatten())), (rows, size)

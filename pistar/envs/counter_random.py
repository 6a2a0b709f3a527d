"""Random numbers as a pure function of (seed, lane, episode, index): no generator, so nothing to save or to share.

A counter-based generator: 64-bit numbers are mixed by the finaliser of SplitMix64 (Steele, Lea & Flood 2014, "Fast
splittable pseudorandom number generators", figure 16), once per coordinate. Integer arithmetic wraps alike on every
device, so that CPU and CUDA draw the same bits, whatever the number of lanes. It differs from ``pistar.seeding``, which
hashes names to seeds of generators that others own.

Left out: cryptographic strength, and more than 2²⁴ different values of one number.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2⁶⁴ / golden ratio, as a signed number
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser, a bijection of 64-bit numbers: [...] int64 -> [...] int64."""
    x = (x ^ _shifted(x, 30)) * FIRST
    x = (x ^ _shifted(x, 27)) * SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift right without copying the sign, which torch's int64 has no operation for."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def bits(seed: int, lane: Tensor, episode: Tensor, count: int) -> Tensor:
    """64 random bits for each coordinate: [B], [B] int64 -> [B, count] int64."""
    start = mix((lane + 1) * GOLDEN + seed)
    start = mix((episode + 1) * GOLDEN + start)
    index = torch.arange(1, count + 1, device=lane.device)
    return mix(start.unsqueeze(-1) + index * GOLDEN)


def uniform(seed: int, lane: Tensor, episode: Tensor, count: int) -> Tensor:
    """Multiples of 2⁻²⁴ in [0, 1), which float32 holds exactly: [B], [B] int64 -> [B, count] float32."""
    return _shifted(bits(seed, lane, episode, count), 40).to(torch.float32) * 2.0**-24


def normal(seed: int, lane: Tensor, episode: Tensor, count: int) -> Tensor:
    """Standard normal numbers by Box and Muller's transform: [B], [B] int64 -> [B, count] float32."""
    pairs = uniform(seed, lane, episode, 2 * count).view(*lane.shape, 2, count)
    radius = (-2.0 * (1.0 - pairs[..., 0, :]).log()).sqrt()  # 1 − u lies in (0, 1], whose logarithm is finite
    return radius * (2.0 * math.pi * pairs[..., 1, :]).cos()

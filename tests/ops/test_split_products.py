"""Products of bytes with three bfloat16 parts of float32 numbers are closer to float64's than those of float32."""

from __future__ import annotations

import numpy as np
import pytest


def bfloat16(x):
    """Return the bfloat16 numbers that are nearest to those of `x`, as float32."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def three_parts(x):
    """Return three bfloat16 numbers whose sum is `x`, the largest first."""
    parts, left = [], np.asarray(x, np.float32)
    for _ in range(3):
        parts.append(bfloat16(left))
        left = left - parts[-1]
    return parts, left


def towards_zero(x):
    """Return float64 numbers as float32 ones that are not larger."""
    rounded = x.astype(np.float32)
    return np.where(np.abs(rounded) > np.abs(x), np.nextafter(rounded, np.float32(0)), rounded)


def product(a, parts, rounded, chunk=64):
    """Multiply as a tensor core does: 16 products at a time are added to a sum, which is `rounded`.

    The sum of each `chunk` begins with the smallest parts; chunks are added in float32.
    """
    total = np.zeros((len(a), parts[0].shape[1]), np.float32)
    for first in range(0, a.shape[1], chunk):
        of_chunk = np.zeros_like(total)
        for part in reversed(parts):
            for k in range(first, min(first + chunk, a.shape[1]), 16):
                of_chunk = rounded(of_chunk.astype(float) + a[:, k : k + 16].astype(float) @ part[k : k + 16])
        total = total + of_chunk
    return total


def error(found, expected):
    """Return the root of the mean square error, relative to that of what is right."""
    return np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))


def test_three_bfloat16_parts_are_a_float32_number():
    x = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    parts, left = three_parts(x)
    np.testing.assert_array_equal(left, 0)
    assert sum(part.astype(float) for part in parts).tolist() == x.astype(float).tolist()
    np.testing.assert_array_equal(bfloat16(np.arange(256) - 128), np.arange(256) - 128)


@pytest.mark.parametrize("rounded", [lambda x: x.astype(np.float32), towards_zero], ids=["to nearest", "to zero"])
def test_split_products_are_closer_to_float64_than_those_of_float32(rounded):
    rng, n, d, m = np.random.default_rng(0), 100, 3072, 50
    mean, std = rng.uniform(110, 140, d), rng.uniform(50, 70, d)
    x = np.clip(mean + std * rng.standard_normal((n, d)), 0, 255).astype(np.uint8)
    whole, factor = np.floor(mean).astype(np.float32), (1 / std).astype(np.float32)
    rest = (mean - whole).astype(np.float32)
    W = (np.sqrt(2 / d) * rng.standard_normal((d, m))).astype(np.float32)
    g = (rng.standard_normal((n, m)) / n).astype(np.float32)
    exact = (x - whole.astype(float) - rest) * factor.astype(float)
    standardised = (x - whole - rest) * factor
    assert standardised.dtype == np.float32
    bytes_, offset = x.astype(np.float32) - 128, 128 - whole - rest

    scaled = factor[:, None] * W
    forward = product(bytes_, three_parts(scaled)[0], rounded) + (offset[:, None] * scaled).sum(0, dtype=np.float32)
    expected = exact @ W.astype(float)
    assert error(forward, expected) < 0.7 * error(standardised @ W, expected)  # 2.1e-7, and 3.8e-7

    backward = product(bytes_.T, three_parts(g)[0], rounded, chunk=n) + offset[:, None] * g.sum(0, dtype=np.float32)
    expected = exact.T @ g.astype(float)
    assert error(factor[:, None] * backward, expected) < 0.6 * error(standardised.T @ g, expected)  # .8e-7, and 1.8e-7

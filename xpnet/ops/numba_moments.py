"""AdamW and Lion compiled by Numba, in one pass over parameters and moments; :mod:`xpnet.ops.moments` defines them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.ops import numpy_moments
from xpnet.ops.numba_intrinsics import compiled
from xpnet.ops.numba_kernels import total
from xpnet.ops.numpy_ops import concatenated


@compiled
def adamw(p, first, second, step, start, numbers, sums):
    """Take a step (R, d, m) on m columns of p, from `start` on; add their squares before it to `sums` (R,)."""
    R, d, m = step.shape
    short = np.empty(m, p.dtype)
    for r in range(R):
        rate, keep, shrink, beta1, new1 = numbers[0, r], numbers[1, r], numbers[2, r], numbers[3, r], numbers[4, r]
        beta2, new2, root, eps = numbers[5, r], numbers[6, r], numbers[7, r], numbers[8, r]
        short[:] = 0
        for i in range(d):
            row, g = p[r, i][start : start + m], step[r, i]
            u, v = first[r, i][start : start + m], second[r, i][start : start + m]
            for j in range(m):  # a sum by column is vectorised
                short[j] += row[j] * row[j]
            for j in range(m):
                full = g[j] + shrink * row[j]
                mean = beta1 * u[j] + new1 * full
                square = beta2 * v[j] + new2 * (full * full)
                u[j] = mean
                v[j] = square
                row[j] = keep * row[j] - rate * mean / (root * math.sqrt(square) + eps)
        sums[r] += total(short)


@compiled
def lion(p, first, step, start, numbers, sums):
    """Take a step (R, d, m) on m columns of p, from `start` on; add their squares before it to `sums` (R,)."""
    R, d, m = step.shape
    zero = p.dtype.type(0)
    short = np.empty(m, p.dtype)
    for r in range(R):
        rate, keep, shrink, beta1, new1 = numbers[0, r], numbers[1, r], numbers[2, r], numbers[3, r], numbers[4, r]
        beta2, new2 = numbers[5, r], numbers[6, r]
        short[:] = 0
        for i in range(d):
            row, g, u = p[r, i][start : start + m], step[r, i], first[r, i][start : start + m]
            for j in range(m):
                short[j] += row[j] * row[j]
            for j in range(m):
                full = g[j] + shrink * row[j]
                mean = beta1 * u[j] + new1 * full
                u[j] = beta2 * u[j] + new2 * full
                move = rate if mean > zero else (-rate if mean < zero else mean)  # a NaN stays one
                row[j] = keep * row[j] - move
        sums[r] += total(short)


def _compiles(p: Array, steps: list[Array], numbers: Array) -> bool:
    same = all(array.dtype == p.dtype for array in (*steps, numbers))
    return p.ndim == 3 and p.strides[-1] == p.itemsize and numbers.shape[1] == len(p) and same


def descend_adamw(
    p: Array,
    first: Array,
    second: Array,
    steps: list[Array],
    numbers: Array,
    squares: Array | None = None,
    out: Any = None,
) -> Any:
    if not _compiles(p, steps, numbers):
        return numpy_moments.descend_adamw(p, first, second, steps, numbers, squares, out)
    step = concatenated(steps, p.shape, out)
    adamw(p, first, second, step, 0, numbers, np.zeros(len(p)) if squares is None else squares)
    return step if len(steps) > 1 else None


def descend_lion(
    p: Array,
    first: Array,
    steps: list[Array],
    numbers: Array,
    squares: Array | None = None,
    out: Any = None,
) -> Any:
    if not _compiles(p, steps, numbers):
        return numpy_moments.descend_lion(p, first, steps, numbers, squares, out)
    step = concatenated(steps, p.shape, out)
    lion(p, first, step, 0, numbers, np.zeros(len(p)) if squares is None else squares)
    return step if len(steps) > 1 else None

"""Dropout compiled by Numba; :mod:`xpnet.ops.masks` says how masks are drawn."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array
from xpnet.ops.masks import Dropped, Mask
from xpnet.ops.numba_intrinsics import compiled, inlined
from xpnet.ops.numpy_dropout import new_dropped

_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_FACTOR_0, _FACTOR_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_STEP_0, _STEP_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@inlined
def philox_words(first, sample, layer, step, key_0, key_1, groups, words):
    """Write the words of the counters (first, sample, layer, step), (first + 1, ...), ... to words (4 groups,)."""
    for group in range(groups):
        a, b, c, d = np.uint64(first + group), np.uint64(sample), np.uint64(layer), np.uint64(step)
        k, l = np.uint64(key_0), np.uint64(key_1)  # noqa: E741
        for _ in range(10):
            left, right = _FACTOR_0 * a, _FACTOR_1 * c
            a, b, c, d = (right >> _HALF) ^ b ^ k, right & _LOW, (left >> _HALF) ^ d ^ l, left & _LOW
            k, l = (k + _STEP_0) & _LOW, (l + _STEP_1) & _LOW  # noqa: E741
        words[4 * group] = a
        words[4 * group + 1] = b
        words[4 * group + 2] = c
        words[4 * group + 3] = d


@compiled
def drop(x, keys, limits, scales, step, layer, sample, unit, y, kept):
    """Write dropout of x (R or 1, n, m) to y (R, n, m), and which values are kept to kept (K, n, m)."""
    R, n, m = y.shape
    K, first = len(keys), unit // 4
    skipped = unit - 4 * first
    words = np.empty(4 * ((skipped + m + 3) // 4), np.uint32)
    inner, zero = words[skipped : skipped + m], x.dtype.type(0)
    for mask in range(K):
        limit, scale = limits[mask], scales[mask, 0, 0]
        for i in range(n):
            philox_words(first, sample + i, layer, step[0], keys[mask, 0], keys[mask, 1], len(words) // 4, words)
            mine = kept[mask, i]
            for j in range(m):
                mine[j] = inner[j] >= limit
            for r in range(R) if K == 1 else range(mask, mask + 1):
                source, target = x[r if len(x) > 1 else 0, i], y[r, i]
                for j in range(m):
                    target[j] = source[j] * scale if mine[j] else zero


@compiled
def drop_gradient(g, kept, scales):
    """Change g (R, n, m) in place; kept is (R or 1, n, m)."""
    R, n, m = g.shape
    zero = g.dtype.type(0)
    for r in range(R):
        mask = r if len(kept) > 1 else 0
        scale = scales[mask, 0, 0]
        for i in range(n):
            row, mine = g[r, i], kept[mask, i]
            for j in range(m):
                row[j] = row[j] * scale if mine[j] else zero


def dropout(x: Array, mask: Mask, out: Dropped | None = None) -> Dropped:
    out = new_dropped(x, mask) if out is None else out
    x, y, kept = (array if array.ndim == 3 else array[None] for array in (x, *out[:2]))
    drop(x, mask.keys, mask.limits, mask.scales, mask.step, mask.layer, mask.sample, mask.unit, y, kept)
    return out


def dropout_gradient(g: Array, dropped: Dropped) -> None:
    _, kept, scales = dropped
    if kept.ndim == 2:
        kept, scales = kept[None], scales[None]
    drop_gradient(g if g.ndim == 3 else g[None], kept, scales)

"""Dropout by NumPy: random words are computed in blocks of samples that stay in the caches."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array
from xpnet.ops import masks
from xpnet.ops.masks import Dropped, Mask

# Counters of a block, of 8 bytes: several arrays of them stay in the second cache (8 ms for 500 x 1024 in place of 40).
_COUNTERS = 16_384


def new_dropped(x: Array, mask: Mask) -> Dropped:
    """Return memory for the result of :func:`dropout`, in the order of `x` in memory."""
    K, (n, m) = len(mask.keys), x.shape[-2:]
    if x.ndim == 2 and K == 1:
        return Dropped(np.empty_like(x), np.empty((n, m), bool), mask.scales[0])
    R = max(K, 1 if x.ndim == 2 else len(x))
    y = np.empty_like(x) if x.shape == (R, n, m) else np.empty((R, n, m), x.dtype)
    return Dropped(y, np.empty((K, n, m), bool), mask.scales)


def dropout(x: Array, mask: Mask, out: Dropped | None = None) -> Dropped:
    out = new_dropped(x, mask) if out is None else out
    y, kept, scales = out
    K, (n, m) = len(mask.keys), x.shape[-2:]
    rows = max(1, _COUNTERS // (K * (m // 4 + 1)))
    for first in range(0, n, rows):
        count = min(rows, n - first)
        part = masks.kept(np, mask._replace(sample=mask.sample + first), count, m)
        kept[..., first : first + count, :] = part if kept.ndim == 3 else part[0]
    np.multiply(x, scales, out=y)
    np.copyto(y, 0, where=np.logical_not(kept))
    return out


def dropout_gradient(g: Array, dropped: Dropped) -> None:
    np.multiply(g, dropped.scales, out=g)
    np.copyto(g, 0, where=np.logical_not(dropped.kept))

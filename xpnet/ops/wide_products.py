"""The first layers of replicas that see the same batch, as one wide matrix: the batch is packed once, not R times.

The weights (R, d, m) of these replicas lie in memory as (d, R, m), which is a matrix (d, R m).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.ops.blas import Blas

# Elements of a wide W that are squared, scaled and updated together, so that they stay in the second cache.
_BLOCK = 160_000


def side_by_side(a: Array) -> Array | None:
    """Return a view (n, R m) of an array (R, n, m) that lies in memory as (n, R, m); None for other arrays."""
    R, n, m = a.shape
    if R == 1 or a.strides[2] != a.itemsize or a.strides[0] != m * a.itemsize or a.strides[1] < R * m * a.itemsize:
        return None
    return a.transpose(1, 0, 2).reshape(n, R * m)  # a view: the last two axes are contiguous


def product(a: Array, wide: Array, replicas: int, out: Array | None) -> Array:
    """Return a (k, n) times a wide matrix (n, R m) as (R, k, m)."""
    into = None if out is None else side_by_side(out)
    return np.matmul(a, wide, out=into).reshape(len(a), replicas, -1).transpose(1, 0, 2)


def squares(W: Array) -> Array:
    """Return the sum of squares of each replica of W (R, d, m), which lies in memory as (d, R, m), without a copy."""
    rows = W.transpose(1, 0, 2)
    by_column = np.zeros(rows.shape[1:], np.float64)
    for start in range(0, len(rows), 128):  # short sums in W's own type, long ones in float64
        part = rows[start : start + 128]
        by_column += np.einsum("drm,drm->rm", part, part)
    return by_column.sum(axis=-1)


def descend(blas: Blas, W: Array, x: Array, g: Array, keep: Array, squares: Array, scale_rows: Any) -> None:
    """Update the weights (d, R m) of R replicas; see :func:`xpnet.ops.reference.descend_by_product`.

    `scale_rows` adds the squares of each column to its sum, and then scales the columns.
    """
    replicas, (d, columns) = len(squares), W.shape
    steps = side_by_side(g)
    if steps is None:
        steps = np.ascontiguousarray(g.transpose(1, 0, 2)).reshape(g.shape[1], -1)
    by_column = np.repeat(np.broadcast_to(keep.reshape(-1), replicas), columns // replicas)
    sums = np.zeros(columns, np.float64)
    size = max(32, min(512, _BLOCK // columns // 32 * 32))
    for start in range(0, d, size):
        rows = W[start : start + size]
        scale_rows(rows, by_column, sums)
        blas.add_product(x[:, start : start + size], steps, rows, -1.0, 1.0)
    squares += sums.reshape(replicas, -1).sum(axis=-1)

"""Operations whose products round their factors to bfloat16 and add in float32 (``--bf16``).

Sums, batch normalisation, losses and updates stay float32, as do the products of layers with few units.  The other
operations are those of :mod:`~xpnet.ops.numba_ops`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.data import TransformedRows
from xpnet.ops import numba_bfloat16 as kernels
from xpnet.ops import numba_ops, numpy_ops
from xpnet.ops.scratch import aligned, borrowed

# With fewer columns or sums of fewer products, rounding the factors takes longer than it saves.
FEWEST = 32
_FIRST = 0, 0
# Numbers of a row come in multiples of so many.
_GRAIN = 64


def _rounded_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _rows(n: int, k: int) -> tuple[int, int]:
    """Return the shape of the array of a left factor (n, k), kept by rows.

    The rows of a block are read side by side, so they must not lie a power of two apart: their cache lines would push
    each other out.
    """
    return _rounded_up(n, kernels.ROWS), _rounded_up(k, _GRAIN) + _GRAIN // 2


def _pairs(n: int, m: int) -> tuple[int, int]:
    """Return the shape of the array of a left factor (m, n), the transpose of an array (n, m), kept by pairs."""
    return (n + 1) // 2, _rounded_up(m, _GRAIN) + _GRAIN // 4


def _memory(k: int, m: int) -> Array:
    return borrowed("memory", (kernels.memory_of(k, m),), np.uint32)


class Transposed:
    """The transpose of a matrix (d, m), rounded to bfloat16, that threads write in parts: a right factor of products.

    A thread writes the columns that it alone changes, so no thread reads the float32 numbers of another one: the lines
    of its cache that it changes stay its own.
    """

    def __init__(self, d: int, m: int) -> None:
        shape = -(-d // kernels.COLUMNS), (m + 1) // 2, kernels.COLUMNS
        self.panels = aligned(shape, np.uint32)

    def put(self, columns: Any, name: str, own: slice) -> None:
        """Write a thread's own columns of the weights `name`, of which the first must be even."""
        W = columns.weights(name)
        kernels.pair_columns(W, self.panels, own.start, borrowed("column", ((W.shape[1] + 1) // 2,), np.uint32))


class Operand:
    """A matrix (n, m), rounded to bfloat16, that threads write in parts and then read as the left factor of products.

    `transposes` says whether products with its transpose are needed too.
    """

    values = None  # in float32: it has none

    def __init__(self, n: int, m: int, *, transposes: bool = True) -> None:
        self.shape = n, m
        self._by_rows = aligned(_rows(n, m), np.uint16)
        self._by_pairs = aligned(_pairs(n, m), np.uint32) if transposes else None

    def put(self, values: Array, rows: slice = slice(None), columns: slice = slice(None)) -> None:
        """Write a part; its first row and its first column must be even."""
        first = rows.start or 0, columns.start or 0
        if self._by_pairs is None:
            kernels.round_rows(values, self._by_rows, first)
        else:
            kernels.put(values, self._by_rows, self._by_pairs, first)

    def times(self, W: Array, out: Array | None) -> Array:
        """Return the product (n, k) with W (m, k)."""
        out = np.empty((self.shape[0], W.shape[1]), W.dtype) if out is None else out
        kernels.times(self._by_rows, W, False, _memory(*W.shape), out)
        return out

    def times_transposed(self, W: Transposed, rows: slice, out: Array) -> Array:
        """Return the product (n, k) with the transpose of k rows of W (d, m), from a multiple of COLUMNS on."""
        spare = borrowed("spare", (kernels.ROWS, kernels.COLUMNS), np.float32)
        panels = W.panels[rows.start // kernels.COLUMNS : -(-rows.stop // kernels.COLUMNS)]
        kernels.times_panels(self._by_rows, panels, spare, out)
        return out

    def transposed_times(self, g: Array, out: Array | None) -> Array:
        """Return the product (m, k) of the transpose with g (n, k)."""
        out = np.empty((self.shape[1], g.shape[1]), g.dtype) if out is None else out
        kernels.transposed_times(self._by_pairs, g, _memory(*g.shape), out)
        return out

    def descend(self, ops: Any, W: Array, g: Array, keep: Array, squares: Array, out: Any) -> Any:
        """Update W (1, m, k) by the gradient that g (1, n, k) gives; see `descend_by_product`."""
        out = self.transposed_times(g[0], out)
        ops.descend(W, [out[None]], keep, squares)
        return out


def product(a: Array, b: Array, out: Array) -> Array:
    """Return a b (n, m), in `out`, for a (n, k) and b (k, m) in float32."""
    if min(b.shape) < FEWEST:
        return np.matmul(a, b, out=out)
    left = borrowed("rows", _rows(*a.shape), np.uint16)
    kernels.round_rows(a, left, _FIRST)
    kernels.times(left, b, False, _memory(*b.shape), out)
    return out


def _of_replicas(x: Array, *others: Array) -> list[tuple[Array, ...]]:
    """Return the matrices of each replica; `x` may be (n, d) for all of them."""
    return [(x if x.ndim == 2 else x[r if len(x) > 1 else 0], *(a[r] for a in others)) for r in range(len(others[0]))]


def gather(rows: Array, x: Any, out: Array | None = None) -> Array:
    if isinstance(x, TransformedRows):
        return numba_ops.gather_views(rows, x, out, product)
    return numba_ops.gather(rows, x, out)


def affine(x: Array, W: Array, b: Array | None, out: Array | None = None) -> Array:
    if min(W.shape[1:]) < FEWEST or (x.ndim == 3 and len(x) > len(W)):
        return numpy_ops.affine(x, W, b, out)
    s = np.empty((len(W), x.shape[-2], W.shape[2]), W.dtype) if out is None else out
    left = borrowed("rows", _rows(*x.shape[-2:]), np.uint16)
    for r, (inputs, weights, result) in enumerate(_of_replicas(x, W, s)):
        if r == 0 or (x.ndim == 3 and len(x) > 1):
            kernels.round_rows(inputs, left, _FIRST)
        kernels.times(left, weights, False, _memory(*weights.shape), result)
    if b is not None:
        s += b
    return s


def input_gradient(g: Array, W: Array, out: Array | None = None) -> Array:
    if min(W.shape[1:]) < FEWEST or len(g) != len(W):
        return numpy_ops.input_gradient(g, W, out)
    out = np.empty((len(W), g.shape[1], W.shape[1]), W.dtype) if out is None else out
    left = borrowed("rows", _rows(*g.shape[1:]), np.uint16)
    for gradient, weights, result in _of_replicas(g, W, out):
        kernels.round_rows(gradient, left, _FIRST)
        kernels.times(left, weights, True, _memory(*weights.shape[::-1]), result)
    return out


def weight_gradient(x: Array, g: Array, out: Array | None = None) -> Array:
    d, m = x.shape[-1], g.shape[-1]
    if min(d, m) < FEWEST or (x.ndim == 3 and len(x) > len(g)):
        return numpy_ops.weight_gradient(x, g, out)
    out = np.empty((len(g), d, m), g.dtype) if out is None else out
    left = borrowed("pairs", _pairs(*x.shape[-2:]), np.uint32)
    for r, (inputs, gradient, result) in enumerate(_of_replicas(x, g, out)):
        if r == 0 or (x.ndim == 3 and len(x) > 1):
            kernels.pair_rows(inputs, left, _FIRST)
        kernels.transposed_times(left, gradient, _memory(*gradient.shape), result)
    return out


def descend_by_product(W: Array, x: Array, g: Array, keep: Array, squares: Array, out: Any = None) -> Any:
    out = weight_gradient(x, g, out)
    numpy_ops.descend(W, [out], keep, squares)
    return out

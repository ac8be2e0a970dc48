"""Faster versions of the operations for NumPy: no temporaries, few passes, sums through BLAS.

Signatures and results are those of :mod:`xpnet.ops.reference`, which explains the mathematics.  Every function writes
into `out` if it is given, and allocates its result otherwise.  Small tricks, all measured: a mean over the samples is a
product with a row of 1/n (1.0 us for 100 x 50 against 4.5 for ``mean``); batch normalisation keeps the centred logits
instead of the normalised ones, which saves a pass; an index into a flat view replaces the comparison with every class.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from xpnet.backend import Array
from xpnet.data import StandardisedRows, TransformedRows
from xpnet.ops import wide_products
from xpnet.ops.blas import numpy_blas, rows_contiguous
from xpnet.ops.numpy_dropout import dropout as dropout
from xpnet.ops.numpy_dropout import dropout_gradient as dropout_gradient
from xpnet.ops.reference import BatchNormGradients, BatchNormReLU, CrossEntropy


@lru_cache(maxsize=64)
def _ones_row(n: int, value: float, dtype: Any) -> Array:
    row = np.full((1, n), value, dtype)
    row.setflags(write=False)
    return row


def _sum(a: Array, out: Array) -> Array:
    """Return the sum of `a` (R, n, m) over the samples in `out` (R, 1, m)."""
    return np.matmul(_ones_row(a.shape[-2], 1.0, a.dtype), a, out=out)


def _mean(a: Array, out: Array) -> Array:
    """Return the mean of `a` (R, n, m) over the samples in `out` (R, 1, m)."""
    n = a.shape[-2]
    return np.matmul(_ones_row(n, 1.0 / n, a.dtype), a, out=out)


def gather(rows: Array, x: Any, out: Array | None = None) -> Array:
    if isinstance(x, StandardisedRows | TransformedRows):
        return x.take(rows, out)
    # mode="clip" skips a bounds check per row and lets `take` write straight into `out`.
    return np.take(x, rows, axis=0, out=out, mode="clip")


def affine(x: Array, W: Array, b: Array | None, out: Array | None = None) -> Array:
    matrix = wide_products.side_by_side(W) if x.ndim == 2 else None
    s = np.matmul(x, W, out=out) if matrix is None else wide_products.product(x, matrix, W.shape[0], out)
    if b is not None:
        s += b
    return s


def input_gradient(g: Array, W: Array, out: Array | None = None) -> Array:
    return np.matmul(g, W.swapaxes(-1, -2), out=out)


def weight_gradient(x: Array, g: Array, out: Array | None = None) -> Array:
    matrix = wide_products.side_by_side(g) if x.ndim == 2 else None
    if matrix is None:
        return np.matmul(x.swapaxes(-1, -2), g, out=out)
    return wide_products.product(x.T, matrix, g.shape[0], out)


def bias_gradient(g: Array, out: Array | None = None) -> Array:
    if out is None:
        out = np.empty((*g.shape[:-2], 1, g.shape[-1]), g.dtype)
    return _sum(g, out)


def relu(s: Array, out: Array | None = None) -> Array:
    return np.maximum(s, 0, out=out)


def bias_relu(s: Array, b: Array, out: Array | None = None) -> Array:
    return relu(np.add(s, b, out=s), out)


def relu_gradient(g: Array, y: Array, out: Array | None = None) -> Array:
    # The mask, as 0 or 1, goes into the result's own memory.
    if out is None:
        out = np.empty_like(y) if y.shape == g.shape else np.empty(np.broadcast_shapes(g.shape, y.shape), g.dtype)
    np.greater(y, 0, out=out)
    return np.multiply(out, g, out=out)


class _NormWork(NamedTuple):
    square: Array  # (R, n, m)
    scale: Array  # (R, 1, m) gamma * inv_std


def new_batch_norm_relu(s: Array, gamma: Array) -> BatchNormReLU:
    """Return memory for the results of :func:`batch_norm_relu`."""
    shape = np.broadcast_shapes(s.shape, gamma.shape)
    work = _NormWork(np.empty_like(s), np.empty((*shape[:-2], 1, shape[-1]), s.dtype))
    inv_std, mean, var = (np.empty((*s.shape[:-2], 1, s.shape[-1]), s.dtype) for _ in range(3))
    # empty_like keeps the memory order of `s`, so that passes run along it.
    y = np.empty_like(s) if shape == s.shape else np.empty(shape, s.dtype)
    return BatchNormReLU(y, np.empty_like(s), inv_std, mean, var, work)


def batch_norm_relu(s: Array, gamma: Array, beta: Array, eps: float, out: BatchNormReLU | None = None) -> BatchNormReLU:
    out = new_batch_norm_relu(s, gamma) if out is None else out
    y, centred, inv_std, mean, var, work = out
    np.subtract(s, _mean(s, mean), out=centred)
    np.multiply(centred, centred, out=work.square)
    _mean(work.square, var)
    np.add(var, eps, out=inv_std)
    np.sqrt(inv_std, out=inv_std)
    np.reciprocal(inv_std, out=inv_std)
    np.multiply(gamma, inv_std, out=work.scale)
    np.multiply(centred, work.scale, out=y)
    np.add(y, beta, out=y)
    np.maximum(y, 0, out=y)
    return out


class _NormBackwardWork(NamedTuple):
    product: Array  # (R, n, m)
    mean_g: Array  # (R, 1, m)
    mean_product: Array  # (R, 1, m)


def new_batch_norm_gradients(g: Array, y: Array) -> BatchNormGradients:
    """Return memory for the results of :func:`batch_norm_relu_gradients`."""
    rows = [np.empty((*g.shape[:-2], 1, g.shape[-1]), g.dtype) for _ in range(4)]
    like = y if y.shape == g.shape else g
    work = _NormBackwardWork(np.empty_like(like), rows[0], rows[1])
    return BatchNormGradients(np.empty_like(like), rows[2], rows[3], work)


def batch_norm_relu_gradients(
    g: Array, forward: BatchNormReLU, gamma: Array, out: BatchNormGradients | None = None
) -> BatchNormGradients:
    y, centred, inv_std, _, _, norm = forward
    out = new_batch_norm_gradients(g, y) if out is None else out
    ds, dgamma, dbeta, work = out
    relu_gradient(g, y, out=ds)
    n = g.shape[-2]
    _sum(ds, dbeta)
    np.multiply(ds, centred, out=work.product)
    _sum(work.product, dgamma)
    np.multiply(dgamma, inv_std, out=dgamma)
    # s_hat mean(g s_hat) = centred * (inv_std * dgamma / n), so s_hat itself is not needed.
    np.multiply(dgamma, inv_std, out=work.mean_product)
    np.multiply(work.mean_product, 1.0 / n, out=work.mean_product)
    np.multiply(dbeta, 1.0 / n, out=work.mean_g)
    np.multiply(centred, work.mean_product, out=work.product)
    np.add(work.product, work.mean_g, out=work.product)
    np.subtract(ds, work.product, out=ds)
    np.multiply(ds, norm.scale, out=ds)
    return out


def batch_norm_relu_inference(s: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float) -> Array:
    scale = gamma / np.sqrt(var + eps)
    y = s * scale
    y += beta - mean * scale
    return np.maximum(y, 0, out=y)


class _EntropyWork(NamedTuple):
    top: Array  # (R, n, 1) largest logit, then the sum of exponentials
    ones: Array  # (c, 1)
    offsets: Array  # (R, n) the index of each sample's first logit in the flat view
    index: Array  # (R, n) the index of each label's logit in the flat view
    picked: Array  # (R, n) the label's logit less the largest
    best: Array  # (R, n)


def new_cross_entropy(s: Array) -> CrossEntropy:
    """Return memory for the results of :func:`softmax_cross_entropy`."""
    *samples, c = s.shape
    work = _EntropyWork(
        np.empty((*samples, 1), s.dtype),
        np.ones((c, 1), s.dtype),
        (np.arange(s.size // c) * c).reshape(samples),
        np.empty(samples, np.intp),
        np.empty(samples, s.dtype),
        np.empty(samples, np.intp),
    )
    return CrossEntropy(np.empty(samples, s.dtype), np.empty(samples, bool), np.empty(s.shape, s.dtype), work)


def softmax_cross_entropy(
    s: Array, labels: Array, scale: Array | float, out: CrossEntropy | None = None
) -> CrossEntropy:
    out = new_cross_entropy(s) if out is None else out
    losses, correct, g, work = out
    flat = g.reshape(-1)
    np.argmax(s, axis=-1, out=work.best)
    np.equal(work.best, labels, out=correct)
    np.maximum.reduce(s, axis=-1, keepdims=True, out=work.top)
    np.subtract(s, work.top, out=g)
    np.add(work.offsets, labels, out=work.index)
    np.take(flat, work.index, out=work.picked, mode="clip")
    np.exp(g, out=g)
    np.matmul(g, work.ones, out=work.top)
    np.divide(g, work.top, out=g)
    np.log(work.top[..., 0], out=losses)
    np.subtract(losses, work.picked, out=losses)
    flat[work.index] -= 1
    np.multiply(g, scale, out=g)
    return out


def concatenated(tensors: list[Array], shape: tuple[int, ...], out: Array | None) -> Array:
    """Return tensors (R, ...) side by side in `out`; a single one as it is."""
    if len(tensors) == 1:
        return tensors[0].reshape(shape)
    return np.concatenate([t.reshape(t.shape[0], 1, -1) for t in tensors], axis=-1, out=out)


def penalty(weights: list[Array]) -> Array:
    # One dot product per matrix: BLAS reads W once and writes nothing.
    replicas = weights[0].shape[0]
    sums = np.zeros(replicas, weights[0].dtype)
    for W in weights:
        if not W[0].flags.c_contiguous:
            sums += wide_products.squares(W)
            continue
        for r in range(replicas):
            w = W[r].reshape(-1)
            sums[r] += np.dot(w, w)
    return sums


def average(running: Array, batch: list[Array], alpha: Array, out: Any = None) -> Any:
    joined = concatenated(batch, running.shape, out)
    np.multiply(running, alpha, out=running)
    np.add(running, (1 - alpha) * joined, out=running)
    return joined if len(batch) > 1 else None


def descend(p: Array, steps: list[Array], keep: Array | None, squares: Array | None = None, out: Any = None) -> Any:
    step = concatenated(steps, p.shape, out)
    if squares is not None:
        squares += penalty([p])
    if keep is not None:
        np.multiply(p, keep, out=p)
    np.subtract(p, step, out=p)
    return step if len(steps) > 1 else None


def descend_by_product(W: Array, x: Array, g: Array, keep: Array, squares: Array, out: Any = None) -> Any:
    blas = numpy_blas()
    matrix = wide_products.side_by_side(W) if x.ndim == 2 else None
    if blas is not None and matrix is not None:
        wide_products.descend(blas, matrix, x, g, keep, squares, _scale_rows)
        return None
    if blas is None or not all(rows_contiguous(a[0] if a.ndim == 3 else a) for a in (x, g, W)):
        out = weight_gradient(x, g, out)
        descend(W, [out], keep, squares)
        return out
    squares += penalty([W])
    for r in range(W.shape[0]):
        blas.add_product(x if x.ndim == 2 else x[r], g[r], W[r], -1.0, float(keep.flat[r if keep.size > 1 else 0]))
    return None


def _scale_rows(rows: Array, by_column: Array, sums: Array) -> None:
    """Add the columns' squares to `sums`, then scale them."""
    sums += np.einsum("ij,ij->j", rows, rows)  # short sums in W's own type
    np.multiply(rows, by_column, out=rows)


def descend_with_momentum(
    p: Array,
    velocity: Array,
    steps: list[Array],
    shrink: Array | None,
    rho: Array,
    nesterov: bool,
    squares: Array | None = None,
    out: Any = None,
) -> Any:
    joined, full = (None, np.empty_like(p)) if out is None else out
    step = concatenated(steps, p.shape, joined)
    if squares is not None:
        squares += penalty([p])
    if shrink is None:
        np.copyto(full, step)
    else:
        np.multiply(p, shrink, out=full)
        np.add(full, step, out=full)
    np.multiply(velocity, rho, out=velocity)
    np.subtract(velocity, full, out=velocity)
    if nesterov:
        np.subtract(p, full, out=p)
        np.multiply(velocity, rho, out=full)
        np.add(p, full, out=p)
    else:
        np.add(p, velocity, out=p)
    return step if len(steps) > 1 else None, full

"""Faster versions of the operations for NumPy: no temporaries, few passes, sums through BLAS.

Signatures and results are those of :mod:`xpnet.ops.reference`, which explains the mathematics.  Every function writes
into `out` if it is given, and allocates its result otherwise.  Small tricks, all measured: a mean over the samples is a
product with a row of 1/n (1.0 us for 100 x 50 against 4.5 for ``mean``); batch normalisation keeps the centred logits
instead of the normalised ones, which saves a pass; an index into a flat view replaces the comparison with every class.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xpnet.backend import Array
from xpnet.data import StandardisedRows, TransformedRows
from xpnet.ops import numpy_norm, wide_products
from xpnet.ops.blas import numpy_blas, rows_contiguous
from xpnet.ops.numpy_dropout import dropout as dropout
from xpnet.ops.numpy_dropout import dropout_gradient as dropout_gradient
from xpnet.ops.reference import Activated, BatchNormActivation, BatchNormGradients, CrossEntropy


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
    return numpy_norm.sum_of_samples(g, out)


def relu(s: Array, out: Array | None = None) -> Array:
    return np.maximum(s, 0, out=out)


def bias_relu(s: Array, b: Array, out: Activated | None = None) -> Activated:
    if out is None:
        return Activated(bias_relu_inference(s, b))
    relu(np.add(s, b, out=s), out.y)
    return out


def bias_relu_inference(s: Array, b: Array) -> Array:
    return relu(np.add(s, b, out=s))


def relu_gradient(g: Array, forward: Activated | BatchNormActivation, out: Array | None = None) -> Array:
    # The mask, as 0 or 1, goes into the result's own memory.
    y = forward.y
    if out is None:
        out = np.empty_like(y) if y.shape == g.shape else np.empty(np.broadcast_shapes(g.shape, y.shape), g.dtype)
    np.greater(y, 0, out=out)
    return np.multiply(out, g, out=out)


def batch_norm_relu(
    s: Array, gamma: Array, beta: Array, eps: float, out: BatchNormActivation | None = None
) -> BatchNormActivation:
    out = numpy_norm.new_results(s, gamma) if out is None else out
    numpy_norm.normalise(s, gamma, beta, eps, out, out.y)
    np.maximum(out.y, 0, out=out.y)
    return out


def batch_norm_relu_gradients(
    g: Array, forward: BatchNormActivation, gamma: Array, out: BatchNormGradients | None = None
) -> BatchNormGradients:
    out = numpy_norm.new_gradients(g, forward.y) if out is None else out
    relu_gradient(g, forward, out=out.s)
    return numpy_norm.through_norm(forward, out)


def batch_norm_relu_inference(s: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float) -> Array:
    z = numpy_norm.normalised_inference(s, mean, var, gamma, beta, eps)
    return np.maximum(z, 0, out=z)


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

"""Operations compiled by Numba (the extra `fast`), each with one or two passes over its arrays.

The mathematics and the signatures are those of :mod:`xpnet.ops.reference`.  Products stay with NumPy's BLAS; the
operations between them are compiled, since NumPy spends more time on calls and passes than on arithmetic.  Functions
are compiled once and cached on disk.  NumPy's version is called where it is faster (large arrays, by its vectorised
exponential), and where R = 1 broadcasts against R > 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.data import StandardisedRows, TransformedRows
from xpnet.ops import numba_entropy, numba_kernels, numba_pictures, numpy_norm, numpy_ops, reference, wide_products
from xpnet.ops.blas import numpy_blas
from xpnet.ops.numba_dropout import dropout as dropout
from xpnet.ops.numba_dropout import dropout_gradient as dropout_gradient
from xpnet.ops.reference import Activated, BatchNormActivation, BatchNormGradients, CrossEntropy
from xpnet.ops.scratch import borrowed

# Above this many logits, NumPy's vectorised exponential between two loops is faster than one loop.
_FEW_LOGITS = 4096
# Gradients of so many numbers each are used one after another: to copy them into one array would take longer.
_LARGE = 1 << 13
# With fewer components, taking a picture's halves apart costs more than the halved products save.
_FEWEST_HALVED = 100


def as_one(*tensors: Array) -> tuple[Array, ...]:
    """Return tensors whose replicas lie side by side, viewed as those of one network with R m units.

    Every unit is normalised by itself, so the computation is the same, along longer rows.
    """
    return tuple(
        np.ascontiguousarray(t).reshape(1, 1, -1)
        if t.shape[1] == 1
        else t.transpose(1, 0, 2).reshape(1, t.shape[1], -1)
        for t in tensors
    )


def lies_side_by_side(a: Array) -> bool:
    """Return whether the replicas of `a` (R, n, m) lie side by side in memory, as those of a shared batch do."""
    return a.shape[1] > 1 and wide_products.side_by_side(a) is not None


def gather_views(rows: Array, x: TransformedRows, out: Array | None, product: Callable[..., Any] = np.matmul) -> Array:
    """Return inputs of pictures in views; see :func:`xpnet.data.transformed`.  `product` projects them."""
    table, flat = x.x, rows.reshape(-1)
    readable = isinstance(table, np.ndarray) and table.flags.c_contiguous and table.dtype.isnative
    if x.image_shape is None or not readable or table.dtype.kind not in "uf":
        return x.take(rows, out)
    out = np.empty((*rows.shape, x.shape[1]), x.dtype) if out is None else out
    into, constant = out.reshape(-1, x.shape[1]), x.border == "constant"
    scale, bytes_of_2 = (x.whole, x.rest, x.factor), x.pool == 2 and table.dtype == np.uint8
    halves, n, width = None, len(flat), len(x.factor)
    if bytes_of_2 and x.shape[1] >= _FEWEST_HALVED:
        halves = x.halves
    if halves is not None:
        even, odd = borrowed("inputs", (2 * n, width // 2), x.dtype).reshape(2, n, -1)
        numba_pictures.gather_halved(flat, table, x.image_shape, constant, *scale, even, odd, True)
        count = halves[0].shape[1]
        product(even, halves[0], into[:, :count])
        product(odd, halves[1], into[:, count:])
        return out
    z = into if x.projection is None else borrowed("inputs", (n, width), x.dtype)
    if bytes_of_2:
        numba_pictures.gather_halved(flat, table, x.image_shape, constant, *scale, z, z, False)
    else:
        numba_pictures.gather_pictures(flat, table, x.image_shape, x.pool, constant, *scale, z)
    if x.cutout:
        numba_pictures.cut_out(flat, x.image_shape, x.pool, x.cutout, z)
    if x.projection is not None:
        product(z, x.projection, into)
    return out


def gather(rows: Array, x: Any, out: Array | None = None) -> Array:
    if isinstance(x, TransformedRows):
        return gather_views(rows, x, out)
    located = x.located() if isinstance(x, StandardisedRows) else None
    if located is None:
        return numpy_ops.gather(rows, x, out)
    table, places = located
    d = x.shape[1]
    out = np.empty((*rows.shape, d), x.dtype) if out is None else out
    rows = rows.reshape(-1) if places is None else places[rows.reshape(-1)]
    gather_rows = numba_kernels.gather_bytes if table.dtype == np.uint8 else numba_kernels.gather_scaled
    gather_rows(rows, table, 0, x.whole, x.rest, x.factor, out.reshape(-1, d))
    return out


def descend_by_product(W: Array, x: Array, g: Array, keep: Array, squares: Array, out: Any = None) -> Any:
    blas = numpy_blas()
    matrix = wide_products.side_by_side(W) if x.ndim == 2 else None
    if blas is None or matrix is None:
        return numpy_ops.descend_by_product(W, x, g, keep, squares, out)
    wide_products.descend(blas, matrix, x, g, keep, squares, numba_kernels.scale_rows)
    return None


def _by_replica(values: Array | None, like: Array) -> Array:
    """Return numbers (R, 1, 1) as (R,), zeros in place of None."""
    if values is None:
        return np.zeros(len(like), like.dtype)
    flat = values.reshape(-1)
    return flat if len(flat) == len(like) else np.repeat(flat, len(like))


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
    if p.ndim != 3 or p.strides[-1] != p.itemsize or any(step.dtype != p.dtype for step in steps):
        return numpy_ops.descend_with_momentum(p, velocity, steps, shrink, rho, nesterov, squares, out)
    sums = np.zeros(len(p)) if squares is None else squares
    shrink, rho = _by_replica(shrink, p), _by_replica(rho, p)
    if len(steps) > 1 and (p.size < _LARGE * len(steps) or not all(step.flags.c_contiguous for step in steps)):
        out = numpy_ops.concatenated(steps, p.shape, out)
        steps = [out]
    start = 0
    for step in steps:
        flat = step.reshape(p.shape) if step.size == p.size else step.reshape(len(p), 1, -1)
        numba_kernels.momentum(p, velocity, flat, start, shrink, rho, nesterov, sums)
        start += flat.shape[2]
    return out


def relu_gradient(g: Array, forward: Activated, out: Array | None = None) -> Array:
    y = forward.y
    if g.shape != y.shape or g.ndim != 3:
        return numpy_ops.relu_gradient(g, forward, out)
    out = np.empty_like(y) if out is None else out
    numba_kernels.relu_backward(g, y, out)
    return out


def batch_norm_relu(
    s: Array, gamma: Array, beta: Array, eps: float, out: BatchNormActivation | None = None
) -> BatchNormActivation:
    if s.shape[0] != gamma.shape[0]:
        return numpy_ops.batch_norm_relu(s, gamma, beta, eps, out)
    out = numpy_norm.new_results(s, gamma) if out is None else out
    normalise(s, gamma, beta, eps, 0, out, out.y)
    return out


def normalise(
    s: Array, gamma: Array, beta: Array, eps: float, lowest: float, out: BatchNormActivation, z: Array
) -> None:
    """Write gamma s_hat + beta into `z`, but at least `lowest`, and everything but y into `out`."""
    tensors = (s, gamma, beta, z, *out[1:5], out.work.scale)
    if lies_side_by_side(s):
        tensors = as_one(*tensors)
    s, gamma, beta, z, centred, inv_std, mean, var, scale = tensors
    forward = numba_kernels.norm_forward if s.shape[2] > numba_kernels.NARROW else numba_kernels.norm_forward_narrow
    real = s.dtype.type
    forward(s, gamma, beta, real(eps), real(lowest), z, centred, inv_std, mean, var, scale)


def batch_norm_relu_gradients(
    g: Array, forward: BatchNormActivation, gamma: Array, out: BatchNormGradients | None = None
) -> BatchNormGradients:
    y, centred, inv_std, _, _, norm = forward[:6]
    if not g.shape[0] == y.shape[0] == centred.shape[0] == gamma.shape[0]:
        return numpy_ops.batch_norm_relu_gradients(g, forward, gamma, out)
    out = numpy_norm.new_gradients(g, y) if out is None else out
    ds, dgamma, dbeta, work = out
    tensors = (g, y, centred, inv_std, norm.scale, ds, dgamma, dbeta, work.mean_g, work.mean_product)
    if lies_side_by_side(y):
        # Into the memory order of y; and not into ds itself, since loops over overlapping arrays are not vectorised.
        np.copyto(work.product, g)
        tensors = as_one(work.product, *tensors[1:])
    backward = (
        numba_kernels.norm_backward
        if tensors[0].shape[2] > numba_kernels.NARROW
        else numba_kernels.norm_backward_narrow
    )
    backward(*tensors)
    return out


def batch_norm_relu_inference(s: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float) -> Array:
    scale = gamma / np.sqrt(var + eps)
    if s.shape[0] != scale.shape[0]:
        return numpy_ops.batch_norm_relu_inference(s, mean, var, gamma, beta, eps)
    y = np.array(s, copy=True)
    numba_kernels.norm_inference(y, scale, beta - mean * scale)
    return y


def softmax_cross_entropy(
    s: Array, labels: Array, scale: Array | float, out: CrossEntropy | None = None
) -> CrossEntropy:
    if s.ndim != 3:
        return numpy_ops.softmax_cross_entropy(s, labels, scale, out)
    out = numpy_ops.new_cross_entropy(s) if out is None else out
    R = len(s)
    labels = labels[None] if labels.ndim == 1 else labels
    if not (isinstance(scale, np.ndarray) and scale.shape == (R, 1, 1)):
        scale = np.full((R, 1, 1), scale, s.dtype)
    # In float64 the figures of a replica must not depend on the number of replicas.
    if s.size > _FEW_LOGITS and s.dtype == np.float32:
        numba_entropy.shift_logits(s, labels, out.correct, out.work.picked, out.g)
        np.exp(out.g, out=out.g)
        numba_entropy.entropy_of_exponentials(labels, scale, out.work.picked, out.losses, out.g)
    else:
        numba_entropy.cross_entropy(s, labels, scale, out.losses, out.correct, out.g)
    return out


def smooth_labels(entropy: CrossEntropy, s: Array, labels: Array, alpha: Array, scale: Array | float) -> None:
    by_replica = isinstance(scale, np.ndarray) and scale.shape == (len(s), 1, 1)
    if s.ndim != 3 or alpha.ndim != 3 or len(alpha) not in (1, len(s)) or not (by_replica or np.ndim(scale) == 0):
        reference.smooth_labels(np, entropy, s, labels, alpha, scale)
        return
    R = len(s)
    labels = labels[None] if labels.ndim == 1 else labels
    scales = scale.reshape(-1) if isinstance(scale, np.ndarray) and by_replica else np.full(R, scale, s.dtype)
    numba_entropy.smooth_labels(s, labels, _by_replica(alpha, s), scales, entropy.losses, entropy.g)

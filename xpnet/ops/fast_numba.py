"""Operations compiled by Numba (the extra `fast`): each a single pass or two, without a call between.

The mathematics and the signatures are those of :mod:`xpnet.ops.reference`.  Products stay with
NumPy's BLAS; what is compiled is everything between them, where NumPy spends more on calls and on
passes than on numbers.  Functions are compiled once and kept on disk.  Where a function has no gain
(large arrays, on which NumPy's vectorised exponential wins) or does not cover a case (R = 1 that
broadcasts against R > 1), NumPy's version is called.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.data import StandardisedBytes
from xpnet.ops import fast_numpy
from xpnet.ops.fast_numpy import (
    affine,
    average,
    bias_gradient,
    descend,
    descend_by_product,
    descend_with_momentum,
    input_gradient,
    join,
    penalty,
    weight_gradient,
)
from xpnet.ops.gathers import gather_bytes
from xpnet.ops.native import compiled
from xpnet.ops.reference import BatchNormGradients, BatchNormReLU, CrossEntropy

__all__ = [
    "affine", "average", "batch_norm_relu", "batch_norm_relu_gradients", "batch_norm_relu_inference",
    "bias_gradient", "descend", "descend_by_product", "descend_with_momentum", "gather", "input_gradient",
    "join", "penalty", "relu_gradient", "softmax_cross_entropy", "weight_gradient",
]  # fmt: skip

# Above this many scores NumPy's exponential, which works on whole vectors, is faster than a loop.
_FEW_SCORES = 4096


@compiled
def _norm_forward(s, gamma, beta, eps, y, centred, inv_std, mean, var, scale):
    R, n, m = s.shape
    one, zero = s.dtype.type(1), s.dtype.type(0)
    for r in range(R):
        mu, v, k = mean[r, 0], var[r, 0], scale[r, 0]
        mu[:] = 0
        v[:] = 0
        for i in range(n):
            for j in range(m):
                mu[j] += s[r, i, j]
        for j in range(m):
            mu[j] /= n
        for i in range(n):
            for j in range(m):
                c = s[r, i, j] - mu[j]
                centred[r, i, j] = c
                v[j] += c * c
        for j in range(m):
            v[j] /= n
            inv_std[r, 0, j] = one / math.sqrt(v[j] + eps)
            k[j] = gamma[r, 0, j] * inv_std[r, 0, j]
        for i in range(n):
            for j in range(m):
                z = centred[r, i, j] * k[j] + beta[r, 0, j]
                y[r, i, j] = zero if z < zero else z  # a NaN stays one


@compiled
def _norm_backward(g, y, centred, inv_std, scale, ds, dgamma, dbeta, mean_g, mean_product):
    R, n, m = g.shape
    zero = g.dtype.type(0)
    for r in range(R):
        gg, gb, mg, mp = dgamma[r, 0], dbeta[r, 0], mean_g[r, 0], mean_product[r, 0]
        gg[:] = 0
        gb[:] = 0
        for i in range(n):
            for j in range(m):
                d = g[r, i, j] if y[r, i, j] > zero else zero
                ds[r, i, j] = d
                gb[j] += d
                gg[j] += d * centred[r, i, j]
        for j in range(m):
            gg[j] *= inv_std[r, 0, j]
            mp[j] = gg[j] * inv_std[r, 0, j] / n
            mg[j] = gb[j] / n
        for i in range(n):
            for j in range(m):
                ds[r, i, j] = (ds[r, i, j] - mg[j] - centred[r, i, j] * mp[j]) * scale[r, 0, j]


@compiled
def _norm_inference(s, scale, shift):
    R, n, m = s.shape
    zero = s.dtype.type(0)
    for r in range(R):
        for i in range(n):
            for j in range(m):
                z = s[r, i, j] * scale[r, 0, j] + shift[r, 0, j]
                s[r, i, j] = zero if z < zero else z


@compiled
def _relu_backward(g, y, out):
    R, n, m = g.shape
    zero = g.dtype.type(0)
    for r in range(R):
        for i in range(n):
            for j in range(m):
                out[r, i, j] = g[r, i, j] if y[r, i, j] > zero else zero


@compiled
def _cross_entropy(s, labels, scale, losses, correct, g):
    R, n, c = s.shape
    for r in range(R):
        for i in range(n):
            best = 0
            for j in range(1, c):
                # As argmax: the first largest score; a NaN is larger than anything, and stays.
                if s[r, i, j] > s[r, i, best] or (s[r, i, j] != s[r, i, j] and s[r, i, best] == s[r, i, best]):
                    best = j
            top = s[r, i, best]
            total = s.dtype.type(0)
            for j in range(c):
                e = math.exp(s[r, i, j] - top)
                g[r, i, j] = e
                total += e
            label = labels[r, i]
            losses[r, i] = math.log(total) - (s[r, i, label] - top)
            correct[r, i] = best == label
            factor = scale[r, 0, 0] / total
            for j in range(c):
                g[r, i, j] *= factor
            g[r, i, label] -= scale[r, 0, 0]


def _as_one(*tensors: Array) -> tuple[Array, ...]:
    """Return tensors whose replicas lie side by side as those of one network with R m units.

    Every unit is normalised by itself, so that is the same computation, along longer rows.
    """
    return tuple(
        np.ascontiguousarray(t).reshape(1, 1, -1)
        if t.shape[1] == 1
        else t.transpose(1, 0, 2).reshape(1, t.shape[1], -1)
        for t in tensors
    )


def _lies_side_by_side(a: Array) -> bool:
    return a.shape[1] > 1 and fast_numpy.side_by_side(a) is not None


def gather(rows: Array, x: Any, out: Array | None = None) -> Array:
    if not isinstance(x, StandardisedBytes):
        return fast_numpy.gather(rows, x, out)
    d = x.shape[1]
    out = np.empty((*rows.shape, d), x.dtype) if out is None else out
    gather_bytes(rows.reshape(-1), x.x, 0, x.whole, x.rest, x.factor, out.reshape(-1, d))
    return out


def relu_gradient(g: Array, y: Array, out: Array | None = None) -> Array:
    if g.shape != y.shape or g.ndim != 3:
        return fast_numpy.relu_gradient(g, y, out)
    out = np.empty_like(y) if out is None else out
    _relu_backward(g, y, out)
    return out


def batch_norm_relu(s: Array, gamma: Array, beta: Array, eps: float, out: BatchNormReLU | None = None) -> BatchNormReLU:
    if s.shape[0] != gamma.shape[0]:
        return fast_numpy.batch_norm_relu(s, gamma, beta, eps, out)
    out = fast_numpy.new_batch_norm_relu(s, gamma) if out is None else out
    y, centred, inv_std, mean, var, work = out
    tensors = (s, gamma, beta, y, centred, inv_std, mean, var, work.scale)
    if _lies_side_by_side(s):
        tensors = _as_one(*tensors)
    s, gamma, beta, y, centred, inv_std, mean, var, scale = tensors
    _norm_forward(s, gamma, beta, s.dtype.type(eps), y, centred, inv_std, mean, var, scale)
    return out


def batch_norm_relu_gradients(
    g: Array, forward: BatchNormReLU, gamma: Array, out: BatchNormGradients | None = None
) -> BatchNormGradients:
    y, centred, inv_std, _, _, norm = forward
    if not g.shape[0] == y.shape[0] == centred.shape[0] == gamma.shape[0]:
        return fast_numpy.batch_norm_relu_gradients(g, forward, gamma, out)
    out = fast_numpy.new_batch_norm_gradients(g, y) if out is None else out
    ds, dgamma, dbeta, work = out
    tensors = (g, y, centred, inv_std, norm.scale, ds, dgamma, dbeta, work.mean_g, work.mean_product)
    if _lies_side_by_side(y):
        np.copyto(ds, g)  # into the order of y
        tensors = _as_one(ds, *tensors[1:])
    _norm_backward(*tensors)
    return out


def batch_norm_relu_inference(s: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float) -> Array:
    scale = gamma / np.sqrt(var + eps)
    if s.shape[0] != scale.shape[0]:
        return fast_numpy.batch_norm_relu_inference(s, mean, var, gamma, beta, eps)
    y = np.array(s, copy=True)
    _norm_inference(y, scale, beta - mean * scale)
    return y


def softmax_cross_entropy(
    s: Array, labels: Array, scale: Array | float, out: CrossEntropy | None = None
) -> CrossEntropy:
    # In float64 a replica's figures must not depend on how many there are.
    if s.ndim != 3 or (s.size > _FEW_SCORES and s.dtype == np.float32):
        return fast_numpy.softmax_cross_entropy(s, labels, scale, out)
    out = fast_numpy.new_cross_entropy(s) if out is None else out
    R, n, _ = s.shape
    if labels.ndim == 1:
        labels = labels[None] if R == 1 else np.broadcast_to(labels, (R, n))
    if not (isinstance(scale, np.ndarray) and scale.shape == (R, 1, 1)):
        scale = np.broadcast_to(np.asarray(scale, s.dtype), (R, 1, 1))
    _cross_entropy(s, labels, scale, out.losses, out.correct, out.g)
    return out

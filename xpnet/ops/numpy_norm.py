"""Batch normalisation by NumPy in few passes, without an activation: what the operations of all activations share.

The mathematics is that of :mod:`xpnet.ops.reference`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from xpnet.backend import Array
from xpnet.ops.reference import BatchNormActivation, BatchNormGradients


@lru_cache(maxsize=64)
def _ones_row(n: int, value: float, dtype: Any) -> Array:
    row = np.full((1, n), value, dtype)
    row.setflags(write=False)
    return row


def sum_of_samples(a: Array, out: Array) -> Array:
    """Return the sum of `a` (R, n, m) over the samples in `out` (R, 1, m)."""
    return np.matmul(_ones_row(a.shape[-2], 1.0, a.dtype), a, out=out)


def mean_of_samples(a: Array, out: Array) -> Array:
    """Return the mean of `a` (R, n, m) over the samples in `out` (R, 1, m)."""
    n = a.shape[-2]
    return np.matmul(_ones_row(n, 1.0 / n, a.dtype), a, out=out)


class NormWork(NamedTuple):
    """Buffers of batch normalisation."""

    square: Array  # (R, n, m)
    scale: Array  # (R, 1, m) gamma * inv_std


def new_results(s: Array, gamma: Array) -> BatchNormActivation:
    """Return memory for the results of batch normalisation with an activation."""
    shape = np.broadcast_shapes(s.shape, gamma.shape)
    work = NormWork(np.empty_like(s), np.empty((*shape[:-2], 1, shape[-1]), s.dtype))
    inv_std, mean, var = (np.empty((*s.shape[:-2], 1, s.shape[-1]), s.dtype) for _ in range(3))
    # empty_like keeps the memory order of `s`, so that passes run along it.
    y = np.empty_like(s) if shape == s.shape else np.empty(shape, s.dtype)
    return BatchNormActivation(y, np.empty_like(s), inv_std, mean, var, work)


def normalise(s: Array, gamma: Array, beta: Array, eps: float, out: BatchNormActivation, z: Array) -> None:
    """Write gamma s_hat + beta into `z`, and everything but y into `out`."""
    centred, inv_std, mean, var, work = out[1:6]
    np.subtract(s, mean_of_samples(s, mean), out=centred)
    np.multiply(centred, centred, out=work.square)
    mean_of_samples(work.square, var)
    np.add(var, eps, out=inv_std)
    np.sqrt(inv_std, out=inv_std)
    np.reciprocal(inv_std, out=inv_std)
    np.multiply(gamma, inv_std, out=work.scale)
    np.multiply(centred, work.scale, out=z)
    np.add(z, beta, out=z)


class NormBackwardWork(NamedTuple):
    """Buffers of its backward pass."""

    product: Array  # (R, n, m)
    mean_g: Array  # (R, 1, m)
    mean_product: Array  # (R, 1, m)


def new_gradients(g: Array, y: Array) -> BatchNormGradients:
    """Return memory for the gradients of batch normalisation."""
    rows = [np.empty((*g.shape[:-2], 1, g.shape[-1]), g.dtype) for _ in range(4)]
    like = y if y.shape == g.shape else g
    work = NormBackwardWork(np.empty_like(like), rows[0], rows[1])
    return BatchNormGradients(np.empty_like(like), rows[2], rows[3], work)


def through_norm(forward: BatchNormActivation, out: BatchNormGradients) -> BatchNormGradients:
    """Return the gradients of batch normalisation in `out`, whose s is dJ/d(gamma s_hat + beta) before."""
    _, centred, inv_std, _, _, norm = forward[:6]
    ds, dgamma, dbeta, work = out
    n = ds.shape[-2]
    sum_of_samples(ds, dbeta)
    np.multiply(ds, centred, out=work.product)
    sum_of_samples(work.product, dgamma)
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


def normalised_inference(s: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float) -> Array:
    """Return gamma (s - mean) / sqrt(var + eps) + beta, in new memory."""
    scale = gamma / np.sqrt(var + eps)
    z: Array = s * scale
    z += beta - mean * scale
    return z

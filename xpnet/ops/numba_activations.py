"""The operations of :mod:`xpnet.ops.activations` in which compiled loops are faster than NumPy: those of BN.

The loops normalise, and take gradients through the normalisation.  Between them are the activations of
:mod:`xpnet.ops.numpy_activations`: NumPy's tanh is vectorised, and the tanh and exp of compiled loops are not (in
float32, 16 and 2.3 ns a number).
"""

from __future__ import annotations

import math

import numpy as np

from xpnet.backend import Array
from xpnet.ops import numba_ops, numpy_activations, numpy_norm
from xpnet.ops.activations import Activation
from xpnet.ops.numba_intrinsics import compiled
from xpnet.ops.reference import BatchNormActivation, BatchNormGradients


def batch_norm_activation(
    kind: Activation, s: Array, gamma: Array, beta: Array, eps: float, out: BatchNormActivation | None = None
) -> BatchNormActivation:
    if s.shape[0] != gamma.shape[0]:
        return numpy_activations.batch_norm_activation(kind, s, gamma, beta, eps, out)
    out = numpy_activations.new_results(s, gamma) if out is None else out
    z = numpy_activations.inputs_of(out)
    numba_ops.normalise(s, gamma, beta, eps, -math.inf, out, z)
    numpy_activations.activate(kind, z, out.y, out.slope)
    return out


def batch_norm_activation_gradients(
    kind: Activation, g: Array, forward: BatchNormActivation, gamma: Array, out: BatchNormGradients | None = None
) -> BatchNormGradients:
    slope = forward.slope
    if not g.shape[0] == slope.shape[0] == forward.centred.shape[0] == gamma.shape[0]:
        return numpy_activations.batch_norm_activation_gradients(kind, g, forward, gamma, out)
    out = numpy_norm.new_gradients(g, forward.y) if out is None else out
    ds, dgamma, dbeta, work = out
    tensors = (
        *(g, slope, forward.centred, forward.inv_std, forward.work.scale),
        *(ds, dgamma, dbeta, work.mean_g, work.mean_product),
    )
    if numba_ops.lies_side_by_side(slope):
        np.copyto(work.product, g)  # see numba_ops.batch_norm_relu_gradients
        tensors = numba_ops.as_one(work.product, *tensors[1:])
    norm_backward(*tensors)
    return out


@compiled
def norm_backward(g, slope, centred, inv_std, scale, ds, dgamma, dbeta, mean_g, mean_product):
    """Compute the gradients through BN of g times the slopes, as ``norm_backward`` of the kernels does for ReLU."""
    R, n, m = g.shape
    for r in range(R):
        gg, gb, mg, mp, k = dgamma[r, 0], dbeta[r, 0], mean_g[r, 0], mean_product[r, 0], scale[r, 0]
        gg[:] = 0
        gb[:] = 0
        for i in range(n):
            source, steep, c, d = g[r, i], slope[r, i], centred[r, i], ds[r, i]
            for j in range(m):
                d[j] = source[j] * steep[j]
            for j in range(m):
                gb[j] += d[j]
            for j in range(m):
                gg[j] += d[j] * c[j]
        for j in range(m):
            gg[j] *= inv_std[r, 0, j]
            mp[j] = gg[j] * inv_std[r, 0, j] / n
            mg[j] = gb[j] / n
        for i in range(n):
            c, d = centred[r, i], ds[r, i]
            for j in range(m):
                d[j] = (d[j] - mg[j] - c[j] * mp[j]) * k[j]

"""The operations of :mod:`xpnet.ops.activations` by compiled loops, with NumPy's tanh between them.

The loops normalise, take gradients through the normalisation, and do what comes before and after tanh in one pass each.
NumPy's tanh is vectorised, and the tanh and exp of compiled loops are not (in float32, 16 and 2.3 ns a number); so tanh
itself and identity are left to :mod:`xpnet.ops.numpy_activations`.  BN with GELU takes, in us forward and backward, 10
and 5 for 100 x 50 float32, against 29 and 15 there (ReLU: 4 and 4); 522 and 228 for 500 x 1024, against 1143 and 502
(ReLU: 170 and 218).
"""

from __future__ import annotations

import math

import numpy as np

from xpnet.backend import Array
from xpnet.ops import numba_ops, numpy_activations, numpy_norm
from xpnet.ops.activations import GELU_CUBIC, GELU_LINEAR, LEAK, Activation
from xpnet.ops.numba_intrinsics import compiled
from xpnet.ops.reference import Activated, BatchNormActivation, BatchNormGradients


def activate(kind: Activation, z: Array, y: Array, slope: Array) -> None:
    """Write the outputs and slopes for inputs `z`; see :func:`xpnet.ops.numpy_activations.activate`."""
    loops = _LOOPS.get(kind.name)
    if not z.flags.c_contiguous:  # replicas side by side
        z, y, slope = (array.swapaxes(0, 1) for array in (z, y, slope))
    if loops is None or not all(array.flags.c_contiguous for array in (z, y, slope)):
        numpy_activations.activate(kind, z, y, slope)
        return
    z, y, slope = (array.reshape(-1) for array in (z, y, slope))
    before, after = loops
    if before is not None:
        before(z, y)
        np.tanh(y, out=y)
    after(z, y, slope)


def bias_activation(kind: Activation, s: Array, b: Array, out: Activated | None = None) -> Activated:
    np.add(s, b, out=s)
    out = Activated(np.empty_like(s), np.empty_like(s)) if out is None else out
    activate(kind, s, out.y, out.slope)
    return out


def bias_activation_inference(kind: Activation, s: Array, b: Array) -> Array:
    return bias_activation(kind, s, b).y


def batch_norm_activation(
    kind: Activation, s: Array, gamma: Array, beta: Array, eps: float, out: BatchNormActivation | None = None
) -> BatchNormActivation:
    if s.shape[0] != gamma.shape[0]:
        return numpy_activations.batch_norm_activation(kind, s, gamma, beta, eps, out)
    out = numpy_activations.new_results(s, gamma) if out is None else out
    z = numpy_activations.inputs_of(out)
    numba_ops.normalise(s, gamma, beta, eps, -math.inf, out, z)
    activate(kind, z, out.y, out.slope)
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


def batch_norm_activation_inference(
    kind: Activation, s: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float
) -> Array:
    z = numpy_norm.normalised_inference(s, mean, var, gamma, beta, eps)
    y = np.empty_like(z)
    activate(kind, z, y, np.empty_like(z))
    return y


@compiled
def leaky_relu(z, y, slope):
    one, leak = z.dtype.type(1), z.dtype.type(LEAK)
    for i in range(z.size):
        below = z[i] * leak
        y[i] = below if z[i] < below else z[i]  # a NaN stays one
        slope[i] = one if z[i] > 0 else leak


@compiled
def half(z, y):
    for i in range(z.size):
        y[i] = z[i] * z.dtype.type(0.5)


@compiled
def sigmoid(z, y, slope):
    """Finish y = tanh(z / 2)."""
    one, by_2 = z.dtype.type(1), z.dtype.type(0.5)
    for i in range(z.size):
        p = by_2 + by_2 * y[i]
        y[i] = p
        slope[i] = p * (one - p)


@compiled
def silu(z, y, slope):
    """Finish y = tanh(z / 2)."""
    one, by_2 = z.dtype.type(1), z.dtype.type(0.5)
    for i in range(z.size):
        p = by_2 + by_2 * y[i]
        y[i] = z[i] * p
        slope[i] = p * (one + z[i] * (one - p))


@compiled
def gelu_argument(z, y):
    linear, cubic = z.dtype.type(GELU_LINEAR), z.dtype.type(GELU_CUBIC)
    for i in range(z.size):
        y[i] = z[i] * (linear + cubic * (z[i] * z[i]))


@compiled
def gelu(z, y, slope):
    """Finish y = tanh(argument)."""
    one, by_2 = z.dtype.type(1), z.dtype.type(0.5)
    linear, cubic = z.dtype.type(GELU_LINEAR), z.dtype.type(3 * GELU_CUBIC)
    for i in range(z.size):
        t = y[i]
        y[i] = by_2 * z[i] * (one + t)
        slope[i] = by_2 * (one + t) + by_2 * z[i] * (linear + cubic * (z[i] * z[i])) * (one - t * t)


# What comes before and after tanh; leaky ReLU has no tanh.
_LOOPS = {
    "leaky-relu": (None, leaky_relu),
    "sigmoid": (half, sigmoid),
    "silu": (half, silu),
    "gelu": (gelu_argument, gelu),
}


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

"""All of the steps of a small network as one compiled loop; the operations are those of :mod:`xpnet.ops.numba_kernels`.

Tensors lie in one-dimensional arrays, in the places that a row of `layers` has for each layer; -1 stands for none.
"""

from __future__ import annotations

import numpy as np

from xpnet.ops.numba_dropout import drop, drop_gradient
from xpnet.ops.numba_entropy import cross_entropy, smooth_labels
from xpnet.ops.numba_intrinsics import AS_IT_IS, TRANSPOSED, block, compiled, gemm
from xpnet.ops.numba_kernels import (
    momentum,
    norm_backward,
    norm_forward,
    relu_backward,
    total,
)

# Columns of `layers`: inputs, units; places of parameters, of running statistics, of the layer's work, and of the mask
# of its inputs.
D, M, W, B, GAMMA, BETA, MEAN, VAR, WORK, KEPT = range(10)
# Rows of what dropout depends on.
_INPUTS, _HIDDEN = range(2)
# A layer's work, in arrays of n m numbers each, and then in rows of m numbers.
_S, _Y, _CENTRED, _DS, _BELOW, ARRAYS = range(6)
_INV_STD, _SCALE, _MEAN_G, _MEAN_PRODUCT, ROWS = range(5)

# Only compiled code calls these functions: without an entry for Python they are compiled in less time.
_inner = compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True)


@_inner
def _array(memory, layer, number, n):
    """Return the array (1, n, m) with this number of a layer's work."""
    return block(memory, layer[WORK] + number * n * layer[M], n, layer[M])


@_inner
def _row(memory, layer, number, n):
    """Return the row (1, 1, m) with this number of a layer's work."""
    return block(memory, layer[WORK] + (ARRAYS * n + number) * layer[M], 1, layer[M])


@_inner
def _units(values, layer, place):
    """Return a tensor of the layer's units, (1, 1, m)."""
    return block(values, layer[place], 1, layer[M])


@_inner
def _kept(kept, layer, n):
    """Return which inputs of a layer are not dropped (1, n, d)."""
    return block(kept, layer[KEPT], n, layer[D])


@_inner
def _drop(x, which, keys, limits, scales, step, number, out, kept):
    """Write dropout of a layer's inputs `x` (1, n, d) to `out`, which may be `x`."""
    own = slice(which, which + 1)
    drop(x, keys[own], limits[own], block(scales, which, 1, 1), step, number, 0, 0, out, kept)


@_inner
def _forward(call, x, layers, p, eps, batch, work, keys, limits, scales, step, kept):
    """Compute the logits of `x` (n, d), and the batch's statistics in `batch`; all results are in `work`."""
    n, last = len(x), len(layers) - 1
    one, zero = p.dtype.type(1), p.dtype.type(0)
    source = x.ctypes.data
    for number in range(last + 1):
        layer = layers[number]
        d, m = layer[D], layer[M]
        s, y = _array(work, layer, _S, n), _array(work, layer, _Y, n)
        weights = p[layer[W] :].ctypes.data
        gemm(call, AS_IT_IS, AS_IT_IS, n, m, d, one, source, d, weights, m, zero, s.ctypes.data, m)
        if layer[B] >= 0:
            b = _units(p, layer, B)[0, 0]
            for i in range(n):
                row = s[0, i]
                for j in range(m):
                    row[j] += b[j]
        if number == last:
            return s
        if layer[GAMMA] >= 0:
            gamma, beta = _units(p, layer, GAMMA), _units(p, layer, BETA)
            mean, var = _units(batch, layer, MEAN), _units(batch, layer, VAR)
            centred = _array(work, layer, _CENTRED, n)
            inv_std, scale = _row(work, layer, _INV_STD, n), _row(work, layer, _SCALE, n)
            norm_forward(s, gamma, beta, eps, zero, y, centred, inv_std, mean, var, scale)
        else:
            for i in range(n):
                row, out = s[0, i], y[0, i]
                for j in range(m):
                    out[j] = zero if row[j] < zero else row[j]  # a NaN stays one
        if scales[_HIDDEN] > 0:  # in place: a dropped output gets no gradient, whatever its slope
            _drop(y, _HIDDEN, keys, limits, scales, step, number + 1, y, _kept(kept, layers[number + 1], n))
        source = y.ctypes.data
    return s


@_inner
def _backward(call, x, layers, p, g, gradient, work, scales, kept):
    """Compute the gradients of all parameters, for that of the logits `g` (1, n, c)."""
    n = len(x)
    one, zero = p.dtype.type(1), p.dtype.type(0)
    for number in range(len(layers) - 1, -1, -1):
        layer = layers[number]
        d, m = layer[D], layer[M]
        below = layers[number - 1]
        source = _array(work, below, _Y, n).ctypes.data if number > 0 else x.ctypes.data
        into = gradient[layer[W] :].ctypes.data
        gemm(call, TRANSPOSED, AS_IT_IS, d, m, n, one, source, d, g.ctypes.data, m, zero, into, m)
        if layer[B] >= 0:
            sums = _units(gradient, layer, B)[0, 0]
            sums[:] = zero
            for i in range(n):
                row = g[0, i]
                for j in range(m):
                    sums[j] += row[j]
        if number == 0:
            return
        to, y, weights = _array(work, below, _BELOW, n), _array(work, below, _Y, n), p[layer[W] :].ctypes.data
        gemm(call, AS_IT_IS, TRANSPOSED, n, d, m, one, g.ctypes.data, m, weights, m, zero, to.ctypes.data, d)
        if scales[_HIDDEN] > 0:
            drop_gradient(to, _kept(kept, layer, n), block(scales, _HIDDEN, 1, 1))
        g = _array(work, below, _DS, n)
        if below[GAMMA] >= 0:
            gamma, beta = _units(gradient, below, GAMMA), _units(gradient, below, BETA)
            centred, inv_std = _array(work, below, _CENTRED, n), _row(work, below, _INV_STD, n)
            scale, mean_g = _row(work, below, _SCALE, n), _row(work, below, _MEAN_G, n)
            mean_product = _row(work, below, _MEAN_PRODUCT, n)
            norm_backward(to, y, centred, inv_std, scale, g, gamma, beta, mean_g, mean_product)
        else:
            relu_backward(to, y, g)


@_inner
def _flat(values, start, m):
    """Return m values from `start` on, as (1, 1, m)."""
    return block(values, start, 1, m)


@_inner
def _update(p, v, gradient, weights, keep, shrink, rho, nesterov, squares):
    """Take the step of `gradient`; return nothing, and add the squares of the weights before it to `squares` (1,).

    Only the first `weights` parameters are weights, which have a penalty.  Without momentum `v` is empty.
    """
    if len(v) == 0:
        squares[0] += _scale_and_sum(p[:weights], keep)
        for j in range(len(p)):
            p[j] -= gradient[j]
        return
    none = np.zeros_like(squares)
    for start, stop, by, sums in ((0, weights, shrink, squares), (weights, len(p), 0 * shrink, none)):
        m = stop - start
        step = _flat(gradient, start, m)
        momentum(_flat(p, start, m), _flat(v, start, m), step, 0, by, rho, nesterov, sums)


@_inner
def _scale_and_sum(weights, keep):
    """Multiply weights by `keep`; return the sum of their squares before, in float64."""
    short = weights * weights
    for j in range(len(weights)):
        weights[j] *= keep
    return total(short)


@compiled
def train(
    call,
    x,
    labels,
    weights,
    layers,
    penalised,
    p,
    v,
    running,
    rates,
    rho,
    nesterov,
    smoothing,
    keys,
    limits,
    scales,
    first,
    eps,
    gradient,
    batch,
    work,
    dropped,
    kept,
    losses,
    correct,
    figures,
):
    """Take k steps with one network, in place.

    `x` are the inputs of the batches (k, n, d), `labels` (k, n) their classes, and `weights` the weights of the samples
    (k, n), or (k, 0) for 1.  The first `penalised` parameters are weights; the velocities `v` are empty without
    momentum.  `rates` (k, 4) has eta / n, 1 - 2 eta lambda, 2 eta lambda, and alpha of the running statistics for each
    step.  `keys` (2, 2), `limits` (2,) and `scales` (2,) are those of dropout of inputs and of hidden outputs, with a
    scale of 0 where there is none; `first` is the number of the first step.  `gradient`, `batch`, `work`, `dropped`
    (1, n, d), `kept`, `losses` (1, n) and `correct` (1, n) are memory of the loop.  `figures` (k, 3), all 0, receive
    the sum of the losses, the hits, and the squares of the weights before the update.
    """
    step = np.empty(1, np.int32)
    for t in range(len(x)):
        scale, alpha = rates[t, :1], rates[t, 3]
        step[0] = first + t
        inputs = x[t]
        if scales[_INPUTS] > 0:
            _drop(x[t : t + 1], _INPUTS, keys, limits, scales, step, 0, dropped, _kept(kept, layers[0], len(inputs)))
            inputs = dropped[0]
        s = _forward(call, inputs, layers, p, eps, batch, work, keys, limits, scales, step, kept)
        g = _array(work, layers[-1], _Y, len(inputs))
        cross_entropy(s, labels[t : t + 1], block(rates[t], 0, 1, 1), losses, correct, g)
        if smoothing[0] > 0:
            smooth_labels(s, labels[t : t + 1], smoothing, scale, losses, g)
        for i in range(weights.shape[1]):
            losses[0, i] *= weights[t, i]
            for j in range(g.shape[2]):
                g[0, i, j] *= weights[t, i]
        rest = p.dtype.type(1) - alpha
        for j in range(len(running)):
            running[j] = running[j] * alpha + rest * batch[j]
        _backward(call, inputs, layers, p, g, gradient, work, scales, kept)
        _update(p, v, gradient, penalised, rates[t, 1], rates[t, 2:3], rho, nesterov, figures[t, 2:])
        for i in range(losses.shape[1]):
            figures[t, 0] += losses[0, i]
            figures[t, 1] += correct[0, i]

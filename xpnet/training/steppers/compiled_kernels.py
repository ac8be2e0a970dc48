"""The parts of a step of a small network, each compiled when a training first uses it, and the loop that calls them.

A part is a function of addresses and sizes ``a``, of what changes with each block of steps (``call``), and of the
number of a step in its block, ``t``; see :func:`xpnet.ops.numba_pointers.part`.  An address of 0 stands for none.
:class:`~xpnet.training.steppers.compiled_program.Program` decides which parts a step has.  The formulas are those of
:mod:`xpnet.ops.reference`, for one network.
"""

from __future__ import annotations

import math

import numpy as np

from xpnet.ops.numba_dropout import philox_words
from xpnet.ops.numba_intrinsics import AS_IT_IS, TRANSPOSED, compiled, gemm
from xpnet.ops.numba_pointers import (
    after,
    bytes_at,
    call_part,
    doubles_at,
    integers_at,
    part,
    real,
    reals_at,
    size_of,
    words_at,
)

# What `call` has: addresses of the batches' inputs (k, n, d), labels (k, n) and weights (k, n), of the rates (k, RATES)
# and of the figures (k, 3); and the number of the first step.
X, LABELS, WEIGHTS, NUMBERS, FIGURES, FIRST, CALL = range(7)
# A step's rates: eta / n, 1 - 2 eta lambda, 2 eta lambda, alpha of the running statistics; and settings of the network.
ETA, KEEP, SHRINK, ALPHA, EPS, RHO, SMOOTHING, SCALE_INPUTS, SCALE_HIDDEN, RATES = range(10)
LOSS, HITS, SQUARES = range(3)


@compiled
def take_steps(programs, calls, steps):
    """Take `steps` steps with each network in turn.

    `programs` (R, parts, 1 + arguments) has the address of each part of a step, followed by its arguments; `calls`
    (R, CALL) what all parts of a network are given.
    """
    R, parts, width = programs.shape
    for r in range(R):
        first, call, rates = programs[r].ctypes.data, calls[r].ctypes.data, calls[r, NUMBERS]
        for t in range(steps):
            for number in range(parts):
                call_part(programs[r, number, 0], first + (number * width + 1) * 8, call, t, rates)


@part
def affine(a, call, t, like):
    """Affine map: s <- x W + b, for x (n, d) of the layer below, or of the batch where that is 0."""
    gemm_address, n, d, m, x, W, b, s = a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
    if x == 0:
        x = call[X] + t * n * d * size_of(like)
    gemm(gemm_address, AS_IT_IS, AS_IT_IS, n, m, d, real(like, 1), x, d, W, m, real(like, 0), s, m)
    if b != 0:
        bias = reals_at(b, like)
        for i in range(n):
            row = after(reals_at(s, like), i * m)
            for j in range(m):
                row[j] += bias[j]


@part
def gradients(a, call, t, like):
    """Gradients of a layer: x' g, the sum of g, and if there is a layer below, g W' of its outputs (n, d)."""
    gemm_address, n, d, m, x, g, dW, db, W, to = a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]
    if x == 0:
        x = call[X] + t * n * d * size_of(like)
    one, zero = real(like, 1), real(like, 0)
    gemm(gemm_address, TRANSPOSED, AS_IT_IS, d, m, n, one, x, d, g, m, zero, dW, m)
    if db != 0:
        sums = reals_at(db, like)
        for j in range(m):
            sums[j] = zero
        for i in range(n):
            row = after(reals_at(g, like), i * m)
            for j in range(m):
                sums[j] += row[j]
    if to != 0:
        gemm(gemm_address, AS_IT_IS, TRANSPOSED, n, d, m, one, g, m, W, m, zero, to, d)


@part
def norm_forward(a, call, t, like):
    """Batch normalisation and ReLU of s (n, m)."""
    n, m, s, y, centred = a[0], a[1], reals_at(a[2], like), reals_at(a[3], like), reals_at(a[4], like)
    gamma, beta, mu, v = reals_at(a[5], like), reals_at(a[6], like), reals_at(a[7], like), reals_at(a[8], like)
    inv_std, k = reals_at(a[9], like), reals_at(a[10], like)
    one, zero, eps = real(like, 1), real(like, 0), like[t * RATES + EPS]
    for j in range(m):
        mu[j] = zero
        v[j] = zero
    for i in range(n):
        row = after(s, i * m)
        for j in range(m):
            mu[j] += row[j]
    for j in range(m):
        mu[j] /= n
    for i in range(n):
        row, c = after(s, i * m), after(centred, i * m)
        for j in range(m):
            c[j] = row[j] - mu[j]
        for j in range(m):
            v[j] += c[j] * c[j]
    for j in range(m):
        v[j] /= n
        inv_std[j] = one / math.sqrt(v[j] + eps)
        k[j] = gamma[j] * inv_std[j]
    for i in range(n):
        c, row = after(centred, i * m), after(y, i * m)
        for j in range(m):
            z = c[j] * k[j] + beta[j]
            row[j] = zero if z < zero else z  # a NaN stays one


@part
def norm_backward(a, call, t, like):
    """Gradients of :func:`norm_forward`, for that of its results g (n, m)."""
    n, m, g, y, centred, ds = a[0], a[1], a[2], a[3], a[4], reals_at(a[5], like)
    gg, gb, mg, mp = reals_at(a[6], like), reals_at(a[7], like), reals_at(a[8], like), reals_at(a[9], like)
    inv_std, k, zero = reals_at(a[10], like), reals_at(a[11], like), real(like, 0)
    for j in range(m):
        gg[j] = zero
        gb[j] = zero
    for i in range(n):
        source, active = after(reals_at(g, like), i * m), after(reals_at(y, like), i * m)
        c, d = after(reals_at(centred, like), i * m), after(ds, i * m)
        for j in range(m):
            d[j] = source[j] if active[j] > zero else zero
        for j in range(m):
            gb[j] += d[j]
        for j in range(m):
            gg[j] += d[j] * c[j]
    for j in range(m):
        gg[j] *= inv_std[j]
        mp[j] = gg[j] * inv_std[j] / n
        mg[j] = gb[j] / n
    for i in range(n):
        c, d = after(reals_at(centred, like), i * m), after(ds, i * m)
        for j in range(m):
            d[j] = (d[j] - mg[j] - c[j] * mp[j]) * k[j]


@part
def relu_forward(a, call, t, like):
    """ReLU of so many numbers: y <- max(s, 0)."""
    s, y, zero = reals_at(a[1], like), reals_at(a[2], like), real(like, 0)
    for j in range(a[0]):
        y[j] = zero if s[j] < zero else s[j]  # a NaN stays one


@part
def relu_backward(a, call, t, like):
    """Gradient of ReLU: ds <- g where y > 0, else 0."""
    g, y, ds, zero = reals_at(a[1], like), reals_at(a[2], like), reals_at(a[3], like), real(like, 0)
    for j in range(a[0]):
        ds[j] = g[j] if y[j] > zero else zero


@part
def entropy(a, call, t, like):
    """Losses (n,) and hits (n,) of the logits s (n, c), and their gradient g, times eta / n."""
    n, c, s, g = a[0], a[1], reals_at(a[2], like), reals_at(a[3], like)
    losses, correct, labels = reals_at(a[4], like), bytes_at(a[5]), after(integers_at(call[LABELS]), t * n)
    scale = like[t * RATES + ETA]
    for i in range(n):
        row, target, label = after(s, i * c), after(g, i * c), labels[i]
        best = 0
        for j in range(1, c):
            # As argmax: the first largest logit; NaN counts as the largest.
            if row[j] > row[best] or (row[j] != row[j] and row[best] == row[best]):
                best = j
        top = row[best]
        total = real(like, 0)
        for j in range(c):
            e = math.exp(row[j] - top)
            target[j] = e
            total += e
        losses[i] = math.log(total) - (row[label] - top)
        correct[i] = best == label
        factor = scale / total
        for j in range(c):
            target[j] *= factor
        target[label] -= scale


@part
def smooth(a, call, t, like):
    """Bring label smoothing into losses and gradients."""
    n, c, s, g, losses = a[0], a[1], reals_at(a[2], like), reals_at(a[3], like), reals_at(a[4], like)
    labels, alpha = after(integers_at(call[LABELS]), t * n), like[t * RATES + SMOOTHING]
    each, factor = real(like, 1) / c, like[t * RATES + ETA] * alpha
    for i in range(n):
        row, target, label = after(s, i * c), after(g, i * c), labels[i]
        mean = real(like, 0)
        for j in range(c):
            mean += row[j]
            target[j] -= factor * each
        losses[i] += alpha * (row[label] - mean * each)
        target[label] += factor


@part
def weigh(a, call, t, like):
    """Multiply losses and gradients by the weights of the samples."""
    n, c, g, losses = a[0], a[1], reals_at(a[2], like), reals_at(a[3], like)
    weights = after(reals_at(call[WEIGHTS], like), t * n)
    for i in range(n):
        losses[i] *= weights[i]
        for j in range(c):
            g[i * c + j] *= weights[i]


@part
def tally(a, call, t, like):
    """Add up losses and hits; move the running statistics towards those of the batch."""
    losses, correct, running, batch = reals_at(a[1], like), bytes_at(a[2]), reals_at(a[4], like), reals_at(a[5], like)
    figures, alpha = doubles_at(call[FIGURES]), like[t * RATES + ALPHA]
    for i in range(a[0]):
        figures[3 * t + LOSS] += losses[i]
        figures[3 * t + HITS] += correct[i]
    rest = real(like, 1) - alpha
    for j in range(a[3]):
        running[j] = running[j] * alpha + rest * batch[j]


@part
def drop(a, call, t, like):
    """Dropout of x (n, m), or of the batch where that is 0."""
    n, m, x, y, kept, words, column = a[0], a[1], a[2], reals_at(a[3], like), a[4], words_at(a[5]), a[6]
    layer, keys = a[7], integers_at(a[8])
    limit = np.uint32(keys[2])
    if x == 0:
        x = call[X] + t * n * m * size_of(like)
    scale, zero = like[t * RATES + column], real(like, 0)
    for i in range(n):
        philox_words(0, i, layer, call[FIRST] + t, keys[0], keys[1], (m + 3) // 4, words)
        source, target, mine = after(reals_at(x, like), i * m), after(y, i * m), after(bytes_at(kept), i * m)
        for j in range(m):
            mine[j] = words[j] >= limit
        for j in range(m):
            target[j] = source[j] * scale if mine[j] else zero


@part
def drop_gradient(a, call, t, like):
    """Change the gradient g of dropped values in place."""
    g, kept, zero, scale = reals_at(a[1], like), bytes_at(a[2]), real(like, 0), like[t * RATES + SCALE_HIDDEN]
    for j in range(a[0]):
        g[j] = g[j] * scale if kept[j] else zero

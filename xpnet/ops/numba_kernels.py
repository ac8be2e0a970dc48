"""Compiled loops: gathers, and the loops of :mod:`xpnet.ops.numba_ops`, as :mod:`xpnet.ops.reference` defines."""

from __future__ import annotations

import math

import numpy as np

from xpnet.ops.numba_intrinsics import compiled, copy_bytes, prefetch

# The rows of a batch are scattered in memory.  The row after next is prefetched while one is converted: 47 us instead
# of 68 for 100 images.
_AHEAD = 2


@compiled
def gather_bytes(rows, x, first, whole, rest, factor, out):
    """Standardise the features of `rows` (n,) of x (N, d) uint8, from `first` on, into out (n, m)."""
    n, m = out.shape
    size, base = x.shape[1], x.ctypes.data + first
    whole, rest, factor = whole[first : first + m], rest[first : first + m], factor[first : first + m]
    for i in range(n):
        source, target = x[rows[i]][first : first + m], out[i]
        if i + _AHEAD < n:
            prefetch(base + rows[i + _AHEAD] * size, m)
        for j in range(m):
            target[j] = (np.float32(source[j]) - whole[j] - rest[j]) * factor[j]


@compiled
def gather_scaled(rows, x, first, whole, rest, factor, out):
    """Standardise the features of `rows` (n,) of x (N, d) floating, from `first` on, into out (n, m)."""
    n, m = out.shape
    size, base = x.shape[1] * x.itemsize, x.ctypes.data + first * x.itemsize
    whole, rest, factor = whole[first : first + m], rest[first : first + m], factor[first : first + m]
    for i in range(n):
        source, target = x[rows[i]][first : first + m], out[i]
        if i + _AHEAD < n:
            prefetch(base + rows[i + _AHEAD] * size, m * x.itemsize)
        for j in range(m):
            target[j] = (source[j] - whole[j] - rest[j]) * factor[j]


@compiled
def gather_floats(rows, x, first, out, memmove):
    """Copy the features of `rows` (n,) of x (N, d), from `first` on, into out (n, m)."""
    n, m = out.shape
    row, size = x.shape[1] * x.itemsize, m * x.itemsize
    base = x.ctypes.data + first * x.itemsize
    for i in range(n):
        copy_bytes(memmove, out.ctypes.data + i * size, base + rows[i] * row, size)


# Each loop for wide layers has only a few arrays: with more, the compiler cannot tell that they do not overlap, and
# does not vectorise.  A row stays in the first cache from one loop to the next.  For narrow layers the loops by row
# cost more than they gain: 100 x 10 numbers take half as long in the simple loops.  Up to this many units a row is
# narrow.
NARROW = 64


@compiled
def norm_forward(s, gamma, beta, eps, lowest, y, centred, inv_std, mean, var, scale):
    R, n, m = s.shape
    one = s.dtype.type(1)
    for r in range(R):
        mu, v, k, shift = mean[r, 0], var[r, 0], scale[r, 0], beta[r, 0]
        mu[:] = 0
        v[:] = 0
        for i in range(n):
            row = s[r, i]
            for j in range(m):
                mu[j] += row[j]
        for j in range(m):
            mu[j] /= n
        for i in range(n):
            row, c = s[r, i], centred[r, i]
            for j in range(m):
                c[j] = row[j] - mu[j]
            for j in range(m):
                v[j] += c[j] * c[j]
        for j in range(m):
            v[j] /= n
            inv_std[r, 0, j] = one / math.sqrt(v[j] + eps)
            k[j] = gamma[r, 0, j] * inv_std[r, 0, j]
        for i in range(n):
            c, row = centred[r, i], y[r, i]
            for j in range(m):
                z = c[j] * k[j] + shift[j]
                row[j] = lowest if z < lowest else z  # a NaN stays one


@compiled
def norm_backward(g, y, centred, inv_std, scale, ds, dgamma, dbeta, mean_g, mean_product):
    R, n, m = g.shape
    zero = g.dtype.type(0)
    for r in range(R):
        gg, gb, mg, mp, k = dgamma[r, 0], dbeta[r, 0], mean_g[r, 0], mean_product[r, 0], scale[r, 0]
        gg[:] = 0
        gb[:] = 0
        for i in range(n):
            source, active, c, d = g[r, i], y[r, i], centred[r, i], ds[r, i]
            for j in range(m):
                d[j] = source[j] if active[j] > zero else zero
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


@compiled
def norm_forward_narrow(s, gamma, beta, eps, lowest, y, centred, inv_std, mean, var, scale):
    R, n, m = s.shape
    one = s.dtype.type(1)
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
                y[r, i, j] = lowest if z < lowest else z  # a NaN stays one


@compiled
def norm_backward_narrow(g, y, centred, inv_std, scale, ds, dgamma, dbeta, mean_g, mean_product):
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
def scale_rows(rows, by_column, sums):
    """Add the columns' squares to `sums`, then scale them."""
    n, m = rows.shape
    short = np.zeros(m, rows.dtype)
    for i in range(n):
        row = rows[i]
        for j in range(m):
            short[j] += row[j] * row[j]
        for j in range(m):
            row[j] *= by_column[j]
    for j in range(m):
        sums[j] += short[j]


# A sum in order waits for every addition, which takes longer than the rest of a step; so many sums do not.
_SUMS = 64


@compiled
def total(values):
    """Return the sum of `values` (m,), in float64."""
    m = len(values)
    sums = np.zeros(_SUMS)
    for start in range(0, m, _SUMS):
        part = values[start : min(start + _SUMS, m)]
        for j in range(len(part)):
            sums[j] += part[j]
    result = 0.0
    for j in range(_SUMS):
        result += sums[j]
    return result


@compiled
def momentum(p, velocity, step, first, shrink, rho, nesterov, sums):
    """Take a step (R, d, m) with momentum on m columns of p from `first` on; add their squares before it to `sums`."""
    R, d, m = step.shape
    short = np.empty(m, p.dtype)
    for r in range(R):
        k, f = shrink[r], rho[r]
        short[:] = 0
        for i in range(d):
            row, v, g = p[r, i][first : first + m], velocity[r, i][first : first + m], step[r, i]
            for j in range(m):  # a sum by column is vectorised
                short[j] += row[j] * row[j]
            if nesterov:
                for j in range(m):
                    full = row[j] * k + g[j]
                    moved = v[j] * f - full
                    v[j] = moved
                    row[j] = row[j] - full + moved * f
            else:
                for j in range(m):
                    moved = v[j] * f - (row[j] * k + g[j])
                    v[j] = moved
                    row[j] += moved
        sums[r] += total(short)


@compiled
def norm_inference(s, scale, shift):
    R, n, m = s.shape
    zero = s.dtype.type(0)
    for r in range(R):
        for i in range(n):
            for j in range(m):
                z = s[r, i, j] * scale[r, 0, j] + shift[r, 0, j]
                s[r, i, j] = zero if z < zero else z


@compiled
def relu_backward(g, y, out):
    R, n, m = g.shape
    zero = g.dtype.type(0)
    for r in range(R):
        for i in range(n):
            source, active, target = g[r, i], y[r, i], out[r, i]
            for j in range(m):
                target[j] = source[j] if active[j] > zero else zero

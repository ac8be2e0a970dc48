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


@compiled
def gather_pictures(rows, x, shape, pool, constant, whole, rest, factor, out):
    """Write the standardised pixels, or means of squares of pixels, of `rows` (n,) of x (N, d) into out (n, d').

    :func:`xpnet.data.transformed_rows.transformed` defines them.  The pixels of a line are added up in a buffer with
    room for a moved picture's border on both sides, mirrored if the view is.
    """
    channels, height, width = shape
    n, samples, room = len(rows), x.shape[1], 32
    lines, cells = height // pool, width // pool
    line = np.zeros(width + 2 * room, out.dtype)
    inner = line[room : room + width]
    share = out.dtype.type(1 / (pool * pool))
    base, size = x.ctypes.data, samples * x.itemsize
    for i in range(n):
        row = rows[i]
        source, target = x[row & 0xFFFFFFFF], out[i]
        if i + 1 < n:
            prefetch(base + (rows[i + 1] & 0xFFFFFFFF) * size, size)
        flip = (row >> 32) & 1
        down, right = (row >> 33) & 63, (row >> 39) & 63
        down, right = down - 64 * (down >> 5), right - 64 * (right >> 5)
        start = room + right if flip else room - right
        for c in range(channels):
            for y in range(lines):
                for k in range(pool):
                    place = y * pool + k - down
                    outside = place < 0 or place >= height
                    place = abs(place)
                    if place >= height:
                        place = 2 * (height - 1) - place
                    pixels = source[(c * height + place) * width : (c * height + place + 1) * width]
                    if outside and constant:
                        if k == 0:
                            inner[:] = 0
                    elif flip:
                        if k == 0:
                            for j in range(width):
                                inner[j] = pixels[width - 1 - j]
                        else:
                            for j in range(width):
                                inner[j] += pixels[width - 1 - j]
                    elif k == 0:
                        for j in range(width):
                            inner[j] = pixels[j]
                    else:
                        for j in range(width):
                            inner[j] += pixels[j]
                for k in range(abs(right)):
                    line[room - 1 - k] = 0 if constant else line[room + 1 + k]
                    line[room + width + k] = 0 if constant else line[room + width - 2 - k]
                moved = line[start : start + width]
                at = (c * lines + y) * cells
                a, b, f, to = (
                    whole[at : at + cells],
                    rest[at : at + cells],
                    factor[at : at + cells],
                    target[at : at + cells],
                )
                if pool == 1:
                    for j in range(cells):
                        to[j] = (moved[j] - a[j] - b[j]) * f[j]
                elif pool == 2:
                    for j in range(cells):
                        to[j] = ((moved[2 * j] + moved[2 * j + 1]) * share - a[j] - b[j]) * f[j]
                else:
                    for j in range(cells):
                        total = moved[j * pool]
                        for k in range(1, pool):
                            total += moved[j * pool + k]
                        to[j] = (total * share - a[j] - b[j]) * f[j]


@compiled
def cut_out(rows, shape, pool, side, out):
    """Set the inputs (n, d') whose centres lie in the square that their rows cut out to 0."""
    channels, height, width = shape
    lines, cells = height // pool, width // pool
    for i in range(len(rows)):
        row, column = ((rows[i] >> 45) & 511) - 1, ((rows[i] >> 54) & 511) - 1
        if row < 0:
            continue
        for y in range(lines):
            if abs(2 * (y * pool - row) + pool - 1) >= side:
                continue
            for j in range(cells):
                if abs(2 * (j * pool - column) + pool - 1) < side:
                    for c in range(channels):
                        out[i, (c * lines + y) * cells + j] = 0


# Each loop for wide layers has only a few arrays: with more, the compiler cannot tell that they do not overlap, and
# does not vectorise.  A row stays in the first cache from one loop to the next.  For narrow layers the loops by row
# cost more than they gain: 100 x 10 numbers take half as long in the simple loops.


@compiled
def norm_forward(s, gamma, beta, eps, y, centred, inv_std, mean, var, scale):
    R, n, m = s.shape
    one, zero = s.dtype.type(1), s.dtype.type(0)
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
                row[j] = zero if z < zero else z  # a NaN stays one


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
def norm_forward_narrow(s, gamma, beta, eps, y, centred, inv_std, mean, var, scale):
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


@compiled
def momentum(p, velocity, step, shrink, rho, nesterov, sums):
    """Take a step with momentum on p (R, d, m), and add the squares of p before it to `sums` (R,)."""
    R, d, m = p.shape
    for r in range(R):
        k, f = shrink[r], rho[r]
        for i in range(d):
            row, v, g = p[r, i], velocity[r, i], step[r, i]
            square = p.dtype.type(0)
            for j in range(m):
                square += row[j] * row[j]
            sums[r] += square
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


@compiled
def cross_entropy(s, labels, scale, losses, correct, g):
    R, n, c = s.shape
    for r in range(R):
        for i in range(n):
            best = 0
            for j in range(1, c):
                # As argmax: the first largest logit; NaN counts as the largest.
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

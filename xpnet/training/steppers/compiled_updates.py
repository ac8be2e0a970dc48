"""The update rules as parts of a compiled step; see :mod:`xpnet.training.steppers.compiled_kernels`.

Only the first `weights` of all parameters p are weights, which have a penalty.  Each rule leaves the sum of their
squares, before the update, in the figures of the step.
"""

from __future__ import annotations

from xpnet.ops.numba_intrinsics import inlined
from xpnet.ops.numba_pointers import after, doubles_at, part, real, reals_at
from xpnet.training.steppers.compiled_kernels import FIGURES, KEEP, RATES, RHO, SHRINK, SQUARES

# A sum in order waits for every addition, which takes longer than the rest of a step; so many sums do not.
SUMS = 64


@inlined
def _squares(p, size, sums):
    """Return the sum of the squares of so many numbers; `sums` are memory for SUMS numbers."""
    for j in range(SUMS):
        sums[j] = 0
    whole = size // SUMS * SUMS
    for start in range(0, whole, SUMS):
        values = after(p, start)
        for j in range(SUMS):
            square = values[j] * values[j]
            sums[j] += square
    values = after(p, whole)
    for j in range(size - whole):
        square = values[j] * values[j]
        sums[j] += square
    total = 0.0
    for j in range(SUMS):
        total += sums[j]
    return total


@part
def descend(a, call, t, like):
    """Gradient descent: p <- p - step, of weights (1 - 2 eta lambda) p - step."""
    size, weights, p, step, sums = a[0], a[1], reals_at(a[2], like), reals_at(a[3], like), doubles_at(a[4])
    keep = like[t * RATES + KEEP]
    doubles_at(call[FIGURES])[3 * t + SQUARES] = _squares(p, weights, sums)
    for j in range(weights):
        p[j] *= keep
    for j in range(size):
        p[j] -= step[j]


@part
def momentum(a, call, t, like):
    """Gradient descent with momentum, or Nesterov's; see :func:`xpnet.ops.reference.descend_with_momentum`."""
    size, weights, p, step, sums = a[0], a[1], reals_at(a[2], like), reals_at(a[3], like), doubles_at(a[4])
    v, nesterov, f = reals_at(a[5], like), a[6], like[t * RATES + RHO]
    doubles_at(call[FIGURES])[3 * t + SQUARES] = _squares(p, weights, sums)
    for penalised in range(2):
        first, last = (0, weights) if penalised else (weights, size)
        k = like[t * RATES + SHRINK] if penalised else real(like, 0)
        if nesterov:
            for j in range(first, last):
                full = p[j] * k + step[j]
                moved = v[j] * f - full
                v[j] = moved
                p[j] = p[j] - full + moved * f
        else:
            for j in range(first, last):
                moved = v[j] * f - (p[j] * k + step[j])
                v[j] = moved
                p[j] += moved

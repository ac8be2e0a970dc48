"""The definitions of momentum, AdamW, Lion and factors of the rate, in the manner of :mod:`xpnet.ops.reference`.

AdamW and Lion keep averages of past gradients, *moments*, with the shapes of the parameters.  The numbers of one step
are an array `numbers` (9, R) with a row for each of :data:`NUMBERS`, so that a captured step can read them from memory.
"""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array
from xpnet.ops.reference import _join, penalty

# Of step t, counted from 1: `rate` is eta, for AdamW eta / (1 - beta1**t); `keep` is 1 - eta * weight_decay; `shrink`
# is 2 lambda; `new1` and `new2` are 1 - beta1 and 1 - beta2; `root` is 1 / sqrt(1 - beta2**t).
NUMBERS = ("rate", "keep", "shrink", "beta1", "new1", "beta2", "new2", "root", "eps")


def scale_gradient(xp: Any, g: Array, factor: Array) -> None:
    """Multiply `g` (R, n, m) by a number for each replica in place, g <- factor g, for `factor` (R, 1, 1)."""
    g *= factor


def descend_with_momentum(
    xp: Any,
    p: Array,
    velocity: Array,
    steps: list[Array],
    shrink: Array | None,
    rho: Array,
    nesterov: bool,
    squares: Array | None = None,
    out: Any = None,
) -> Any:
    """Take a step with momentum in place: v <- rho v - step - shrink p, p <- p + v.

    `steps` and `squares` are those of :func:`descend`; `shrink` = 2 eta lambda (R, 1, 1), None without penalty.
    Nesterov's form adds rho v - step - shrink p to p instead, with the new v (Sutskever et al., 2013).
    """
    if squares is not None:
        squares += penalty(xp, [p])
    step = _join(xp, steps).reshape(p.shape)
    full = step if shrink is None else step + shrink * p
    velocity *= rho
    velocity -= full
    p += rho * velocity - full if nesterov else velocity
    return None


def descend_adamw(
    xp: Any,
    p: Array,
    first: Array,
    second: Array,
    steps: list[Array],
    numbers: Array,
    squares: Array | None = None,
    out: Any = None,
) -> Any:
    """Take a step of AdamW in place (Loshchilov and Hutter, 2019, algorithm 2).

    `steps` are tensors that side by side make up dloss/dp.  With g = dloss/dp + shrink p:
    first <- beta1 first + new1 g, second <- beta2 second + new2 g**2, p <- keep p - rate first / (root sqrt(second) +
    eps).  Adds sum(p**2) before the step to `squares` (R,).  Returns the implementation's buffers, for `out` of the
    next call.
    """
    rate, keep, shrink, beta1, new1, beta2, new2, root, eps = (numbers[i][:, None, None] for i in range(len(NUMBERS)))
    if squares is not None:
        squares += penalty(xp, [p])
    g = _join(xp, steps).reshape(p.shape) + shrink * p
    first *= beta1
    first += new1 * g
    second *= beta2
    second += new2 * (g * g)
    p *= keep
    p -= rate * first / (root * xp.sqrt(second) + eps)
    return None


def descend_lion(
    xp: Any,
    p: Array,
    first: Array,
    steps: list[Array],
    numbers: Array,
    squares: Array | None = None,
    out: Any = None,
) -> Any:
    """Take a step of Lion in place (Chen et al., 2023, algorithm 2).

    `steps` and `squares` are those of :func:`descend_adamw`.  With g = dloss/dp + shrink p:
    p <- keep p - rate sign(beta1 first + new1 g), then first <- beta2 first + new2 g.
    """
    rate, keep, shrink, beta1, new1, beta2, new2 = (numbers[i][:, None, None] for i in range(7))
    if squares is not None:
        squares += penalty(xp, [p])
    g = _join(xp, steps).reshape(p.shape) + shrink * p
    direction = xp.sign(beta1 * first + new1 * g)
    p *= keep
    p -= rate * direction
    first *= beta2
    first += new2 * g
    return None

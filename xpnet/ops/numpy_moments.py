"""AdamW and Lion for NumPy, without temporaries; :mod:`xpnet.ops.moments` defines them."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.ops.numpy_ops import concatenated, penalty


def descend_adamw(
    p: Array,
    first: Array,
    second: Array,
    steps: list[Array],
    numbers: Array,
    squares: Array | None = None,
    out: Any = None,
) -> Any:
    joined, g, work = (None, np.empty_like(p), np.empty_like(p)) if out is None else out
    rate, keep, shrink, beta1, new1, beta2, new2, root, eps = numbers[:, :, None, None]
    step = concatenated(steps, p.shape, joined)
    _gradient(p, step, shrink, g, squares)
    np.multiply(first, beta1, out=first)
    np.multiply(g, new1, out=work)
    np.add(first, work, out=first)
    np.multiply(g, g, out=g)
    np.multiply(g, new2, out=g)
    np.multiply(second, beta2, out=second)
    np.add(second, g, out=second)
    np.sqrt(second, out=g)
    np.multiply(g, root, out=g)
    np.add(g, eps, out=g)
    np.divide(first, g, out=g)
    np.multiply(g, rate, out=g)
    np.multiply(p, keep, out=p)
    np.subtract(p, g, out=p)
    return step if len(steps) > 1 else None, g, work


def descend_lion(
    p: Array,
    first: Array,
    steps: list[Array],
    numbers: Array,
    squares: Array | None = None,
    out: Any = None,
) -> Any:
    joined, g, work = (None, np.empty_like(p), (np.empty_like(p), np.empty_like(p))) if out is None else out
    rate, keep, shrink, beta1, new1, beta2, new2 = numbers[:7, :, None, None]
    step = concatenated(steps, p.shape, joined)
    _gradient(p, step, shrink, g, squares)
    direction, more = work
    np.multiply(first, beta1, out=direction)
    np.multiply(g, new1, out=more)
    np.add(direction, more, out=direction)
    np.sign(direction, out=direction)
    np.multiply(direction, rate, out=direction)
    np.multiply(p, keep, out=p)
    np.subtract(p, direction, out=p)
    np.multiply(first, beta2, out=first)
    np.multiply(g, new2, out=g)
    np.add(first, g, out=first)
    return step if len(steps) > 1 else None, g, work


def _gradient(p: Array, step: Array, shrink: Array, g: Array, squares: Array | None) -> None:
    """Write the gradient of the cost, step + shrink p, into `g`, and add sum(p**2) to `squares`."""
    if squares is not None:
        squares += penalty([p])
    np.multiply(p, shrink, out=g)
    np.add(g, step, out=g)

"""The shares of a network's units that threads have, their dropout, and the matrices that threads share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array
from xpnet.nn.dropout import Masks
from xpnet.ops import Ops, fast_is_on
from xpnet.ops.blas import blas_threads
from xpnet.ops.masks import Mask
from xpnet.training.steppers.stepper_state import Hyperparameters

if TYPE_CHECKING:
    from xpnet.nn.network import Network

_MOST_THREADS = 16
# With fewer units of a layer per thread, or fewer multiplications of a step, synchronising costs more than it gains.
_FEWEST_UNITS, _FEWEST_PRODUCTS = 64, 20_000_000
# Batches and inputs for which it was measured to be faster.
_SMALLEST_BATCH, _MOST_INPUTS = 400, 1024


def edges_of(units: int, threads: int, multiple: int = 16) -> list[tuple[int, int]]:
    """Return the units or samples of each thread, as (first, last + 1); all but the last have a whole multiple."""
    edges = [multiple * (units * i // (multiple * threads)) for i in range(threads)] + [units]
    return list(pairwise(edges))


class Floats:
    """A matrix (n, m) that threads write in parts and then read as the left factor of products.

    :class:`xpnet.ops.bfloat16_ops.Operand` is the same in bfloat16.
    """

    def __init__(self, n: int, m: int, dtype: Any) -> None:
        self.shape = n, m
        self.values = np.empty((n, m), dtype)

    def put(self, values: Array, rows: slice = slice(None), columns: slice = slice(None)) -> None:
        """Write a part."""
        self.values[rows, columns] = values

    def times(self, W: Array, out: Array | None) -> Array:
        """Return the product (n, k) with W (m, k)."""
        return np.matmul(self.values, W, out=out)

    def times_transposed(self, W: Array, out: Array | None) -> Array:
        """Return the product (n, k) with the transpose of W (k, m)."""
        return np.matmul(self.values, W.T, out=out)

    def transposed_times(self, g: Array, out: Array | None) -> Array:
        """Return the product (m, k) of the transpose with g (n, k)."""
        return np.matmul(self.values.T, g, out=out)

    def descend(self, ops: Ops, W: Array, g: Array, keep: Array, squares: Array, out: Any) -> Any:
        """Update W (1, m, k) by the gradient that g (1, n, k) gives; see `descend_by_product`."""
        return ops.descend_by_product(W, self.values, g, keep, squares, out)


def operand_of(hyper: Hyperparameters, dtype: Any) -> Callable[..., Any]:
    """Return a function that makes an operand (n, m) of a stepper's products."""
    if not hyper.rounded:
        return lambda n, m, **_: Floats(n, m, dtype)
    from xpnet.ops.bfloat16_ops import Operand

    return Operand


class DropoutOfShare:
    """Dropout of a thread's samples of the inputs, and of its units of every hidden layer."""

    def __init__(self, ops: Ops, masks: Masks, first: int, units: Sequence[slice]) -> None:
        """Take the thread's part of `masks`: the samples from `first` on, and `units` of each hidden layer."""
        places = [{"sample": first}, *({"unit": own.start} for own in units)]
        self._ops, self._masks = ops, list(map(_part_of, masks, places))
        self._dropped: list[Any] = [None] * len(masks)

    def __call__(self, number: int, x: Array, step: int) -> Array:
        """Return dropout of this thread's inputs (1, n, m) or (n, d) of layer `number` in a step."""
        mask = self._masks[number]
        if mask is None:
            return x
        mask.step[0] = step
        dropped = self._dropped[number] = self._ops.dropout(x, mask, self._dropped[number])
        return dropped.y

    def gradient(self, number: int, g: Array) -> None:
        """Change the gradient (1, n, m) of the result for a layer to that of what was dropped, in place."""
        if self._dropped[number] is not None:
            self._ops.dropout_gradient(g, self._dropped[number])


def _part_of(mask: Mask | None, place: dict[str, int]) -> Mask | None:
    """Return the mask of a part, with a step of its own, as another thread may be a step ahead."""
    return None if mask is None else mask._replace(step=mask.step.copy(), **place)


def units_pay(network: Network, hyper: Hyperparameters, batch_size: int) -> bool:
    """Return whether sharing units is faster than one operation after another, as far as that was measured.

    Small batches make the products of a thread inefficient, as a wide first layer does; and without momentum or
    other moments an update of W is part of a product, which shares of columns slow down.
    """
    return hyper.moments > 0 and batch_size >= _SMALLEST_BATCH and network.config.inputs <= _MOST_INPUTS


def threads_for_units(network: Network, batch_size: int) -> int:
    """Return the best number of threads for splitting the units of every layer; 1 if that is not worthwhile."""
    config = network.config
    if network.replicas > 1 or network.backend.name != "cpu" or not fast_is_on() or not config.hidden:
        return 1
    sizes = (config.inputs, *config.hidden, config.classes)
    if batch_size * sum(a * b for a, b in pairwise(sizes)) < _FEWEST_PRODUCTS:
        return 1
    return max(1, min(blas_threads(), _MOST_THREADS, min(config.hidden) // _FEWEST_UNITS, batch_size))

"""The shares of a network's units that threads have, their dropout, and the matrices that threads share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
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


class Columns:
    """A thread's columns of the weights, and of their moments.

    Copies lie side by side in memory.  In the whole tensors, a thread's part of a row is followed by that of another
    one, and its processor's prefetches would take from the other processor the lines that that one is changing.
    Weights of which threads read each other's columns are not copied.
    """

    def __init__(self, own: dict[str, slice], copied: Collection[str]) -> None:
        self._own, self._copied = own, copied
        self._tensors: dict[str, list[Array]] = {}

    def take(self, tensors: Sequence[Mapping[str, Array]]) -> None:
        """Begin steps on `tensors`, the parameters and their moments."""
        for name, own in self._own.items():
            whole = [group[name] for group in tensors]
            if name not in self._copied:
                self._tensors[name] = whole
                continue
            parts = [tensor[:, :, own] for tensor in whole]
            if name not in self._tensors:
                self._tensors[name] = [np.empty(part.shape, part.dtype) for part in parts]
            for copy, part in zip(self._tensors[name], parts, strict=True):
                copy[...] = part

    def give_back(self, tensors: Sequence[Mapping[str, Array]]) -> None:
        """End steps: write the columns into `tensors`."""
        for name in self._copied:
            for copy, group in zip(self._tensors[name], tensors, strict=True):
                group[name][:, :, self._own[name]] = copy

    def of(self, name: str) -> tuple[list[Array], int]:
        """Return tensors (1, d, m) that hold the thread's columns, and the first of them."""
        return self._tensors[name], 0 if name in self._copied else self._own[name].start

    def weights(self, name: str) -> Array:
        """Return the thread's columns (d, own) of the weights."""
        W = self._tensors[name][0][0]
        return W if name in self._copied else W[:, self._own[name]]


class TransposedFloats:
    """The transpose of a matrix (d, m), a right factor of products; :class:`xpnet.ops.bfloat16_ops.Transposed`."""

    values: Array

    def __init__(self, d: int, m: int) -> None:
        self.shape = d, m

    def put(self, columns: Columns, name: str, own: slice) -> None:  # noqa: ARG002
        """Take the matrix `name`."""
        self.values = columns.of(name)[0][0][0]


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

    def times_transposed(self, W: TransposedFloats, rows: slice, out: Array) -> Array:
        """Return the product (n, k) with the transpose of k rows of W (d, m)."""
        return np.matmul(self.values, W.values[rows].T, out=out)

    def transposed_times(self, g: Array, out: Array | None) -> Array:
        """Return the product (m, k) of the transpose with g (n, k)."""
        return np.matmul(self.values.T, g, out=out)

    def descend(self, ops: Ops, W: Array, g: Array, keep: Array, squares: Array, out: Any) -> Any:
        """Update W (1, m, k) by the gradient that g (1, n, k) gives; see `descend_by_product`."""
        return ops.descend_by_product(W, self.values, g, keep, squares, out)


def factors_of(hyper: Hyperparameters, dtype: Any) -> tuple[Callable[..., Any], Callable[..., Any], int]:
    """Return functions that make the left and the transposed right factors of a stepper's products.

    The third result is of what number the first unit of every thread must be a multiple.
    """
    if not hyper.rounded:
        return lambda n, m, **_: Floats(n, m, dtype), TransposedFloats, 16
    from xpnet.ops.bfloat16_ops import Operand, Transposed
    from xpnet.ops.numba_bfloat16 import COLUMNS

    return Operand, Transposed, COLUMNS


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

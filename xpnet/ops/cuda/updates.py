"""Updates of parameters and running statistics by the kernels of ``update.cu`` and ``moments.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.ops.cuda.buffers import THREADS, Members, Sums
from xpnet.ops.cuda.launches import Launches, stride_of
from xpnet.ops.cuda.products import Products


class UpdateKernels(Launches):
    """The operations that change parameters and running statistics, as :mod:`xpnet.ops.reference` defines them."""

    _products: Products

    def scale_gradient(self, g: Array, factor: Array) -> None:
        replicas, size = g.shape[0], g.size // g.shape[0]
        self._by_number("scale_gradient", g, replicas, g, factor, stride_of(factor), np.int64(size))

    def add_squares(self, W: Array, squares: Array, out: Any = None) -> Any:
        return self._square_and_scale(W, None, squares, out)

    def _square_and_scale(self, W: Array, keep: Array | None, squares: Array, sums: Sums | None) -> Sums:
        replicas, size = W.shape[0], W.size // W.shape[0]
        sums = sums or Sums(self._xp, replicas, size)
        arguments = (W, stride_of(W), np.int64(size), keep, *sums.arrays, squares)
        self.launch("square_and_scale", W.dtype, (sums.blocks, replicas), (THREADS,), *arguments)
        return sums

    def average(self, running: Array, batch: list[Array], alpha: Array, out: Any = None) -> Any:
        members = Members.of(self._xp, batch, out)
        arguments = (running, stride_of(running), np.int32(running.shape[2]), *members.arrays, alpha)
        self._by_number("average", running, running.shape[0], *arguments)
        return members

    def descend(
        self, p: Array, steps: list[Array], keep: Array | None, squares: Array | None = None, out: Any = None
    ) -> Any:
        return self._move("descend", (p,), steps, (keep,), squares, out)

    def descend_by_product(self, W: Array, x: Array, g: Array, keep: Array, squares: Array, out: Any = None) -> Any:
        sums = self._square_and_scale(W, keep, squares, out)
        self._products(x, g, W, transpose_a=True, alpha=-1.0, beta=1.0)
        return sums

    def descend_with_momentum(
        self,
        p: Array,
        velocity: Array,
        steps: list[Array],
        shrink: Array | None,
        rho: Array,
        nesterov: bool,
        squares: Array | None = None,
        out: Any = None,
    ) -> Any:
        settings = shrink, rho, np.bool_(nesterov)
        return self._move("descend_with_momentum", (p, velocity), steps, settings, squares, out)

    def descend_adamw(
        self,
        p: Array,
        first: Array,
        second: Array,
        steps: list[Array],
        numbers: Array,
        squares: Array | None = None,
        out: Any = None,
    ) -> Any:
        return self._move("descend_adamw", (p, first, second), steps, (numbers,), squares, out)

    def descend_lion(
        self, p: Array, first: Array, steps: list[Array], numbers: Array, squares: Array | None = None, out: Any = None
    ) -> Any:
        return self._move("descend_lion", (p, first), steps, (numbers,), squares, out)

    def read_row(self, cursor: Array, table: Array, row: Array) -> None:
        """Launch the kernel ``read_row``: `row` becomes that of `table` (float64) at the cursor."""
        self._by_number("read_row", row, 1, cursor, table, row, np.int32(row.size))

    def _move(self, name: str, moved: Any, steps: list[Array], settings: Any, squares: Array | None, work: Any) -> Any:
        """Launch the update of parameters, the first of `moved`, and moments by `steps`; return its buffers."""
        moved = [tensor.reshape((tensor.shape[0], 1, -1)) for tensor in moved]
        p = moved[0]
        replicas, _, size = p.shape
        members = Members.of(self._xp, steps, None if work is None else work[0])
        sums = Sums(self._xp, replicas, size) if work is None else work[1]
        summed = (None, None, None) if squares is None else (*sums.arrays, squares)
        arguments = (*moved, stride_of(p), np.int32(size), *members.arrays, *settings, *summed)
        self.launch(name, p.dtype, (sums.blocks, replicas), (THREADS,), *arguments)
        return members, sums

"""Updates of parameters and running statistics by the kernels of ``update.cu`` and ``moments.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.ops.cuda.buffers import THREADS, Members, Sums, ceil_div
from xpnet.ops.cuda.kernels import Kernels
from xpnet.ops.cuda.products import Products

# Units of a block in kernels with a unit for each column of threads: a memory sector holds eight float32.
_COLUMNS = 8


class CudaUpdates:
    """The launches of kernels on one GPU, and those operations that change parameters."""

    def __init__(self, backend: Backend) -> None:
        self._xp = backend.xp
        self._products = Products(backend.xp, backend.tf32)
        self._kernels: dict[Any, Kernels] = {}

    def launch(
        self, name: str, dtype: Any, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any, shared: int = 0
    ) -> None:
        """Launch a kernel for numbers of `dtype`; see :class:`xpnet.ops.cuda.kernels.Kernels`."""
        kernels = self._kernels.get(dtype)
        if kernels is None:
            kernels = self._kernels[dtype] = Kernels(self._xp, dtype)
        kernels(name, grid, block, *arguments, shared=shared)

    def _by_number(self, name: str, like: Array, replicas: int, *arguments: Any) -> None:
        """Launch a kernel with a thread for each number of a replica of `like`."""
        self.launch(name, like.dtype, (ceil_div(like.size // replicas, THREADS), replicas), (THREADS,), *arguments)

    def _by_unit(self, name: str, like: Array, *arguments: Any) -> None:
        """Launch a kernel that sums over the samples of each unit of `like` (R, n, m)."""
        replicas, n, m = like.shape
        rows = 32 if n <= 256 else 128
        grid, shared = (ceil_div(m, _COLUMNS), replicas), _COLUMNS * rows * like.dtype.itemsize
        self.launch(name, like.dtype, grid, (_COLUMNS, rows), *arguments, np.int32(n), np.int32(m), shared=shared)

    def _by_replica(self, name: str, like: Array, *arguments: Any) -> None:
        """Launch a kernel with a block for each replica of `like`."""
        self.launch(name, like.dtype, (like.shape[0],), (THREADS,), *arguments)

    def _empty(self, like: Array, *shape: int) -> Array:
        """Return a new array of the type of `like`, and of its shape if no other is given."""
        return self._xp.empty(shape or like.shape, dtype=like.dtype)

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


def stride_of(tensor: Array) -> np.int64:
    """Return the stride between replicas, counted in numbers; 0 for a single replica, which all share."""
    return np.int64(0 if tensor.shape[0] == 1 else tensor.strides[0] // tensor.dtype.itemsize)

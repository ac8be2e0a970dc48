"""Launches of kernels, and the grids that they have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.ops.cuda.buffers import THREADS, ceil_div
from xpnet.ops.cuda.kernels import Kernels, Macros

# Units of a block in kernels with a unit for each column of threads: a memory sector holds eight float32.
_COLUMNS = 8


class Launches:
    """The kernels of one array module, compiled when they are first launched."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self._kernels: dict[Any, Kernels] = {}

    def launch(
        self,
        name: str,
        dtype: Any,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        *arguments: Any,
        shared: int = 0,
        macros: Macros = (),
    ) -> None:
        """Launch a kernel for numbers of `dtype`; see :class:`xpnet.ops.cuda.kernels.Kernels`."""
        self._of(dtype)(name, grid, block, *arguments, shared=shared, macros=macros)

    def function(self, name: str, dtype: Any, shared: int, macros: Macros = ()) -> Any:
        """Return a compiled kernel; see :meth:`xpnet.ops.cuda.kernels.Kernels.function`."""
        return self._of(dtype).function(name, shared, macros)

    def _of(self, dtype: Any) -> Kernels:
        if dtype not in self._kernels:
            self._kernels[dtype] = Kernels(self._xp, dtype)
        return self._kernels[dtype]

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


def stride_of(tensor: Array) -> np.int64:
    """Return the stride between replicas, counted in numbers; 0 for a single replica, which all share."""
    return np.int64(0 if tensor.shape[0] == 1 else tensor.strides[0] // tensor.dtype.itemsize)

"""Tables in memory that grow and are reordered in place, without a second copy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.feature_table import CHUNK_BYTES


class GrowingTable:
    """One array of rows that arrive in chunks, in unknown number, without a second copy.

    Args:
        rows: Number of rows, if it is known.
        width: Number of columns, if the number of rows is given.
    """

    def __init__(self, rows: int = 0, width: int = 0) -> None:
        # An array of bytes can grow in place, and be viewed as another type.
        self._bytes = np.zeros(rows * width, np.uint8)
        self._array: NDArray[Any] = self._bytes.reshape(rows, width)
        self.rows = rows

    def add(self, chunk: NDArray[Any]) -> None:
        """Append rows (k, d); the array changes to a type that holds all values."""
        rows = self.rows + len(chunk)
        if rows > len(self._array):
            self._resize(rows + len(self._array) // 20, chunk.shape[1], self._array.dtype)
        self.rows = rows
        self.put(chunk, rows - len(chunk), 0)

    def put(self, chunk: NDArray[Any], row: int, column: int) -> None:
        """Write values (k, m) at a row and a column."""
        dtype = np.promote_types(self._array.dtype, chunk.dtype)
        if dtype != self._array.dtype:
            self._widen(dtype)
        self._array[row : row + len(chunk), column : column + chunk.shape[1]] = chunk

    def column(self, number: int) -> NDArray[Any]:
        """Return the values of a column that have been written, not a copy."""
        return self._array[: self.rows, number]

    def _resize(self, rows: int, width: int, dtype: np.dtype[Any]) -> None:
        self._array = np.empty((0, 0))
        # Large arrays grow in place: the system moves pages, not values.
        self._bytes.resize(rows * width * dtype.itemsize, refcheck=False)
        self._array = self._bytes.view(dtype).reshape(rows, width)

    def _widen(self, dtype: np.dtype[Any]) -> None:
        """Convert all values to a larger type, in place, from the last to the first."""
        rows, width = self._array.shape
        old, size = self._array.dtype, rows * width
        self._resize(rows, width, dtype)
        narrow, wide = self._bytes[: size * old.itemsize].view(old), self._array.reshape(-1)
        for stop in range(size, 0, -CHUNK_BYTES):
            start = max(0, stop - CHUNK_BYTES)
            wide[start:stop] = narrow[start:stop].copy()

    @property
    def nbytes(self) -> int:
        """Bytes that the rows take."""
        return self._array[: self.rows].nbytes

    def finish(self) -> NDArray[Any]:
        """Return all rows; nothing may be added after that."""
        self._resize(self.rows, self._array.shape[1], self._array.dtype)
        return self._array


def reorder(array: NDArray[Any], order: NDArray[np.int64]) -> None:
    """Reorder the rows of an array in place, some columns at a time."""
    if (order[1:] > order[:-1]).all():
        return
    columns = max(1, CHUNK_BYTES // (len(array) * array.itemsize))
    for start in range(0, array.shape[1], columns):
        block = array[:, start : start + columns]
        block[...] = block[order]

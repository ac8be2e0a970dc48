"""Features that are read or standardised when they are indexed: rows on the disk, and raw values in memory."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xpnet.utils.file_system import open_regular


class FileRows:
    """The rows of a table in a file, read by position, for address spaces too small to map the file.

    Attributes:
        shape: Numbers of rows and columns.
        dtype: Type of the values in the file.
    """

    def __init__(self, path: Path, offset: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype
        self._path = path.absolute()
        self._offset, self._row = offset, shape[1] * dtype.itemsize
        self._file = open_regular(path, links=True)
        weakref.finalize(self, self._file.close)

    def __reduce__(self) -> tuple[Any, ...]:
        return rows_in, (self._path, self._offset, self.shape, self.dtype)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return the rows of a slice, or of indices of any shape, as a new array."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.shape[0])
            if step == 1:
                out = np.empty((max(0, stop - start), self.shape[1]), self.dtype)
                self._read(start, out)
                return out
            rows = np.arange(start, stop, step)
        rows = np.asarray(rows)
        out = np.empty((rows.size, self.shape[1]), self.dtype)
        for into, row in enumerate(rows.reshape(-1).tolist()):
            self._read(row, out[into : into + 1])
        return out.reshape(*rows.shape, self.shape[1])

    def _read(self, row: int, out: NDArray[Any]) -> None:
        left, at = out.reshape(-1).view(np.uint8), self._offset + row * self._row
        while len(left):
            # By position, so that several threads may read at once.
            part = os.pread(self._file.fileno(), min(len(left), 2**26), at)
            if not part:
                raise OSError(5, "has become shorter while it was read", self._file.name)
            left[: len(part)] = np.frombuffer(part, np.uint8)
            left, at = left[len(part) :], at + len(part)


def rows_in(path: Path, offset: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any] | FileRows:
    """Return the rows of a table in a file, mapped into memory, or read by position if mapping is not possible."""
    try:
        with open_regular(path, links=True) as file:
            return np.asarray(np.memmap(file, dtype, "r", offset, shape))
    except (OSError, ValueError, MemoryError):  # the address space is smaller than the file
        return FileRows(path, offset, shape, dtype)


class Rows:
    """Rows (n, d) of a table on the disk, in any order; indexing reads them.

    Attributes:
        table: The table, mapped into memory or a :class:`FileRows`.
        order: Numbers of the table's rows (n,).
        dtype: Type to which values are converted when they are read.
    """

    def __init__(self, table: NDArray[Any] | FileRows, order: NDArray[np.int64], dtype: Any) -> None:
        self.table, self.order, self.dtype = table, order, np.dtype(dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle the name of the file: the rows of a mapped table may be larger than memory.
        table, file = self.table, cast(Any, getattr(self.table, "base", None))
        if getattr(file, "filename", None) is not None:
            location = Path(file.filename), file.offset, table.shape, table.dtype
            return _open_rows, (location, self.order, self.dtype)
        return Rows, (table, self.order, self.dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.order), int(self.table.shape[1])

    @property
    def ndim(self) -> int:
        """Number of axes: 2."""
        return 2

    @property
    def size(self) -> int:
        """Number of values."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return the values of `rows`, a slice or indices of any shape, as a new array."""
        return self.table[self.order[rows]].astype(self.dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("rows on the disk cannot be had without a copy")
        return np.asarray(self[:], dtype)


def _open_rows(location: tuple[Any, ...], order: NDArray[np.int64], dtype: Any) -> Rows:
    return Rows(rows_in(*location), order, dtype)


Features = NDArray[Any] | Rows
"""Features (n, d) in memory or on the disk."""


def slice_rows(x: Features, rows: slice) -> Features:
    """Return rows of `x` without reading their values."""
    return Rows(x.table, x.order[rows], x.dtype) if isinstance(x, Rows) else x[rows]


def on_host(x: Any) -> bool:
    """Return whether features, an array or rows that are computed on reading, are on the host, or on its disk."""
    return isinstance(getattr(x, "x", x), (np.ndarray, Rows))


def kept_as_bytes(x: Any) -> bool:
    """Return whether features are :class:`StandardisedRows` of uint8, which GPU kernels standardise."""
    return isinstance(x, StandardisedRows) and x.x.dtype == np.uint8


@dataclass(frozen=True, eq=False)
class StandardisedRows:
    """Raw features whose standardised values are computed on reading; uint8 takes a quarter of float32's memory.

    A value is (x - whole - rest) * factor in the floating type, in this order. For uint8 that is exactly what
    :class:`~xpnet.data.Standardiser` stores, bit for bit; for floating features up to rounding.

    Attributes:
        x: The raw features (N, d): uint8 or floating, in memory or on the disk.
        whole: The part of the mean that is subtracted first (d,): for uint8 its integer part, which causes no error.
        rest: The rest of the mean (d,).
        factor: 1 / standard deviation (d,).
    """

    x: Features
    whole: NDArray[Any]
    rest: NDArray[Any]
    factor: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Samples and features."""
        return self.x.shape

    @property
    def ndim(self) -> int:
        """Number of axes: 2."""
        return 2

    @property
    def dtype(self) -> Any:
        """The floating type of the values."""
        return self.factor.dtype

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return the standardised values of `rows`, a slice or indices, as a new array."""
        return self.take(rows)

    def take(self, rows: Any, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the standardised values of `rows`, in `out` if it is given (on the CPU)."""
        x = self.x[rows]
        if out is None and x.dtype.kind == "f" and x.dtype != self.dtype:
            out = np.empty(x.shape, self.dtype)
        out = x - self.whole if out is None else np.subtract(x, self.whole, out=out)
        out -= self.rest
        out *= self.factor
        return out

    def located(self) -> tuple[NDArray[Any], NDArray[np.int64] | None] | None:
        """Return an array that compiled code can read, and the numbers of its rows to use (None: all); or None."""
        if not isinstance(self.x, Rows):
            return self.x, None
        table = self.x.table
        plain = isinstance(table, np.ndarray) and table.flags.c_contiguous and table.dtype.isnative
        readable = plain and table.dtype == self.x.dtype and table.dtype.kind in "uf"
        return (np.asarray(table), self.x.order) if readable else None

    def to(self, asarray: Callable[[Any], Any], *, move_x: bool = True) -> StandardisedRows:
        """Return the same features on the device for which `asarray` makes arrays; without `move_x`, x is not moved."""
        scale = (asarray(part) for part in (self.whole, self.rest, self.factor))
        x = self.x[:] if move_x and isinstance(self.x, Rows) else self.x
        return StandardisedRows(asarray(x) if move_x else x, *scale)

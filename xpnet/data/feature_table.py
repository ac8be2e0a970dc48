"""Features on their way from a file or an array into memory: chunk by chunk, checked, in their final type."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import DataError
from xpnet.utils.lazy_arrays import FileRows
from xpnet.utils.memory import check_room

# Squares of what is larger overflow when a variance is taken.
LARGEST = 1e150
CHUNK_BYTES = 4 * 2**20


@dataclass(frozen=True, eq=False)
class Table:
    """Features of n samples that have not been read yet.

    Attributes:
        rows: n.
        width: Features d.
        dtype: uint8, float32 or float64.
        chunks: Yields the rows in order, as arrays (k, d) of `dtype`; may be called once.
        owned: All the rows, where they had to be read into memory as they came; they may be moved about in it.
        image_shape: (channels, height, width) where a row is an image in channel planes.
        disk: The rows in a file, where they shall stay there.
        feature_names: Names of the columns; empty if they have none.
    """

    rows: int
    width: int
    dtype: np.dtype[Any]
    chunks: Callable[[], Iterable[NDArray[Any]]]
    image_shape: tuple[int, int, int] | None = None
    disk: NDArray[Any] | FileRows | None = None
    feature_names: tuple[str, ...] = ()
    owned: NDArray[Any] | None = None


class GrowingTable:
    """Rows that come one chunk after the other, nobody knows how many, in one array without a second copy.

    Args:
        rows: How many rows there are, where that is known.
        width: How many columns these have.
    """

    def __init__(self, rows: int = 0, width: int = 0) -> None:
        # Of bytes: it can be made larger where it is, and read as another type.
        self._bytes = np.zeros(rows * width, np.uint8)
        self._array: NDArray[Any] = self._bytes.reshape(rows, width)
        self._rows = rows

    def add(self, chunk: NDArray[Any]) -> None:
        """Take some more rows (k, d); the array takes the type that holds all of them."""
        rows = self._rows + len(chunk)
        if rows > len(self._array):
            self._resize(rows + len(self._array) // 20, chunk.shape[1], self._array.dtype)
        self._rows = rows
        self.put(chunk, rows - len(chunk), 0)

    def put(self, chunk: NDArray[Any], row: int, column: int) -> None:
        """Put some values (k, m) where their rows and columns are."""
        dtype = np.promote_types(self._array.dtype, chunk.dtype)
        if dtype != self._array.dtype:
            self._widen(dtype)
        self._array[row : row + len(chunk), column : column + chunk.shape[1]] = chunk

    def _resize(self, rows: int, width: int, dtype: np.dtype[Any]) -> None:
        self._array = np.empty((0, 0))
        # Large arrays grow where they are: the system moves pages, not values.
        self._bytes.resize(rows * width * dtype.itemsize, refcheck=False)
        self._array = self._bytes.view(dtype).reshape(rows, width)

    def _widen(self, dtype: np.dtype[Any]) -> None:
        """Make a larger type of all values, in their own memory, from the last to the first."""
        rows, width = self._array.shape
        old, size = self._array.dtype, rows * width
        self._resize(rows, width, dtype)
        narrow, wide = self._bytes[: size * old.itemsize].view(old), self._array.reshape(-1)
        for stop in range(size, 0, -CHUNK_BYTES):
            start = max(0, stop - CHUNK_BYTES)
            wide[start:stop] = narrow[start:stop].copy()

    @property
    def size(self) -> int:
        """Bytes that the rows take."""
        return self._array[: self._rows].nbytes

    def finish(self) -> NDArray[Any]:
        """Return all rows; nothing may be added after that."""
        self._resize(self._rows, self._array.shape[1], self._array.dtype)
        return self._array


def table_in_memory(
    array: NDArray[Any], image_shape: tuple[int, int, int] | None = None, feature_names: tuple[str, ...] = ()
) -> Table:
    """Return rows (n, d), which are given away, as a table."""
    return Table(
        len(array), array.shape[1], array.dtype, lambda: [array], image_shape, None, feature_names, owned=array
    )


@dataclass(frozen=True, eq=False)
class Pieces:
    """An array that comes in pieces.

    Attributes:
        shape: Its shape.
        dtype: Its type.
        read: Yields it along the first axis; in Fortran's order flat, whole columns or parts of one at a time.
        fortran: Whether it is in Fortran's order.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Iterable[NDArray[Any]]]
    fortran: bool = False


_RAGGED = "rows of different lengths; they must all have as many features"


def plain_array(values: Any, called: str, ragged: str = _RAGGED) -> NDArray[Any]:
    """Return values as an array of NumPy's own; `ragged` says what lists of different lengths have.

    Raises:
        DataError: They are masked, which the array would not be, or rows are of different lengths.
    """
    for part in values if isinstance(values, (list, tuple)) else [values]:
        # NumPy's module of masked arrays is only loaded where there can be one.
        if isinstance(part, np.ndarray) and type(part) is not np.ndarray and np.ma.is_masked(part):
            masked = int(np.ma.getmaskarray(part).sum())
            raise DataError(
                f"{called} is a masked array with {masked:,} masked values; fill them in, or leave these rows out"
            )
    try:
        return np.asarray(values)
    except ValueError:
        raise DataError(f"{called} has {ragged}") from None


def pieces_of(array: NDArray[Any]) -> Pieces:
    """Return an array in memory in pieces of a few MB."""
    rows = rows_at_a_time(array.shape, array.itemsize)

    def read() -> Iterator[NDArray[Any]]:
        return (array[start : start + rows] for start in range(0, len(array), rows))

    return Pieces(array.shape, array.dtype, read)


def whole(pieces: Pieces, called: str) -> NDArray[Any]:
    """Return an array that comes in pieces, such as labels, in memory.

    Raises:
        DataError: There is no room for it.
    """
    check_room(math.prod(pieces.shape) * pieces.dtype.itemsize, called)
    whole, start = np.empty(pieces.shape, pieces.dtype, order="F" if pieces.fortran else "C"), 0
    out = whole.reshape(-1, order="F") if pieces.fortran else whole
    for piece in pieces.read():
        if not pieces.shape:
            return piece
        out[start : start + len(piece)] = piece
        start += len(piece)
    return whole


def rows_at_a_time(shape: tuple[int, ...], itemsize: int) -> int:
    """Return how many rows of an array are a chunk of a few MB."""
    return max(1, CHUNK_BYTES // max(1, math.prod(shape[1:]) * itemsize))


def table_of(values: Any, called: str) -> Table:
    """Return features of an array, of nested lists, or of :class:`Pieces`.

    uint8, float32 and float64 are kept, booleans become uint8, and other integers float32 if that holds
    them exactly, float64 otherwise.  Images become channel planes (n, channels, height, width), as CIFAR-10 has them.

    Raises:
        DataError: There are no numbers, or no rows.  Values that are not finite are found as they are read.
    """
    if not isinstance(values, Pieces):
        values = pieces_of(plain_array(values, called))
    shape, dtype = values.shape, values.dtype
    if dtype.kind not in "biuf":
        raise DataError(f"{called} is an array of {dtype}; it must be one of real numbers")
    if len(shape) < 2:
        raise DataError(f"{called} has the shape {shape}; it must be (n, features) or that of n images")
    if math.prod(shape) == 0:
        raise DataError(f"{called} has the shape {shape} and thus no values; it needs rows to learn from")
    image_shape, interleaved = _image_shape(shape)
    final = np.dtype(_final_dtype(values))
    if values.fortran:
        return table_in_memory(_rows_of_columns(values, final, interleaved, called), image_shape)

    def chunks() -> Iterator[NDArray[Any]]:
        finite = _FiniteCheck(called)
        for piece in values.read():
            if interleaved:
                piece = piece.transpose(0, 3, 1, 2)
            flat = np.ascontiguousarray(piece).reshape(len(piece), -1)
            with np.errstate(over="ignore"):  # of a larger type; what is infinite then is refused
                chunk = flat.view(np.uint8) if flat.dtype == np.bool_ else flat.astype(final, copy=False)
            finite.look(chunk)
            yield chunk
        finite.finish()

    return Table(shape[0], math.prod(shape[1:]), final, chunks, image_shape)


def _rows_of_columns(pieces: Pieces, dtype: np.dtype[Any], interleaved: bool, called: str) -> NDArray[Any]:
    """Return the rows of an array in Fortran's order, put where they belong column by column."""
    rows, width = pieces.shape[0], math.prod(pieces.shape[1:])
    check_room(rows * width * dtype.itemsize, called)
    x = np.empty((rows, width), dtype)
    place: NDArray[Any] = np.arange(width).reshape(pieces.shape[1:])
    if interleaved:
        height, across, channels = pieces.shape[1:]
        place = np.arange(width).reshape(channels, height, across).transpose(1, 2, 0)
    place = place.reshape(-1, order="F")
    at = 0
    for piece in pieces.read():
        column, row = divmod(at, rows)
        if len(piece) < rows:
            x[row : row + len(piece), place[column]] = piece
        else:
            block = piece.reshape(-1, rows).T
            to: Any = place[column : column + block.shape[1]]
            x[:, slice(to[0], to[-1] + 1) if len(pieces.shape) == 2 else to] = block
        at += len(piece)
    finite = _FiniteCheck(called)
    for chunk in pieces_of(x).read():
        finite.look(chunk)
    finite.finish()
    return x


def _final_dtype(values: Pieces) -> Any:
    dtype = values.dtype
    if dtype == np.bool_ or dtype == np.uint8:
        return np.uint8
    if dtype.kind == "f":
        return np.float32 if dtype.itemsize <= 4 else np.float64
    if dtype.itemsize > 2:
        bounds = [(int(piece.min()), int(piece.max())) for piece in values.read()]
        if min(low for low, _ in bounds) < -(2**24) or max(high for _, high in bounds) > 2**24:
            return np.float64
    return np.float32


def _image_shape(shape: tuple[int, ...]) -> tuple[tuple[int, int, int] | None, bool]:
    """Return (channels, height, width) of the images that an array holds, and whether channels come last."""
    if len(shape) == 3:
        return (1, *shape[1:]), False
    if len(shape) == 4 and shape[-1] in (1, 3):
        return (shape[3], shape[1], shape[2]), True
    if len(shape) == 4 and shape[1] in (1, 3):
        return shape[1:], False
    return None, False


class _FiniteCheck:
    """Looks for values that are not finite, or too large, through all chunks of a table."""

    def __init__(self, called: str) -> None:
        self._called, self._rows, self._bad, self._first = called, 0, 0, (0, 0)

    def look(self, chunk: NDArray[Any]) -> None:
        if chunk.dtype.kind == "f":
            finite = np.isfinite(chunk)
            if not finite.all():
                if not self._bad:
                    row, column = np.argwhere(~finite)[0]
                    self._first = (self._rows + int(row), int(column))
                self._bad += int(np.count_nonzero(~finite))
            elif max(-float(chunk.min()), float(chunk.max())) > LARGEST:
                row, column = np.argwhere(np.abs(chunk) > LARGEST)[0]
                raise DataError(
                    f"{self._called} has values beyond {LARGEST:g}, which cannot be squared, the first in row "
                    f"{self._rows + row}, column {column} (from 0); rescale it"
                )
        self._rows += len(chunk)

    def finish(self) -> None:
        if self._bad:
            row, column = self._first
            raise DataError(
                f"{self._called} has {self._bad:,} values that are not finite, the first in row {row}, column {column} "
                "(from 0); remove those rows or fill them in"
            )

"""Features on their way from a file or an array into memory: chunk by chunk, checked, in their final type.

Every problem with features raises :class:`~xpnet.errors.DataError`; values that are not finite are found when they are
read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from xpnet.data.column import LARGEST, Column
from xpnet.data.tensors import array_of, is_tensor
from xpnet.errors import DataError
from xpnet.utils.lazy_arrays import FileRows
from xpnet.utils.memory import check_room

CHUNK_BYTES = 4 * 2**20


@dataclass(frozen=True, eq=False)
class Table:
    """Features of n samples that have not been read yet.

    Attributes:
        rows: Number of samples n.
        width: Number of features d.
        dtype: uint8, float32 or float64.
        chunks: Yields the rows in order, as arrays (k, d) of `dtype`; may be called once.
        image_shape: (channels, height, width) if a row is an image in channel planes.
        disk: The rows in a file, if they stay on the disk.
        feature_names: Names of the columns; empty if they have none.
        owned: All rows, if the reader had to hold them in memory; they may be reordered in place.
        columns: What the values of each column mean; empty for numbers.
        gaps: Place of the first missing value of each column that has any, known once the chunks have been read.
        lines_of: Returns the lines of rows, by number, in their file; None if it has no lines.
    """

    rows: int
    width: int
    dtype: np.dtype[Any]
    chunks: Callable[[], Iterable[NDArray[Any]]]
    image_shape: tuple[int, int, int] | None = None
    disk: NDArray[Any] | FileRows | None = None
    feature_names: tuple[str, ...] = ()
    owned: NDArray[Any] | None = None
    columns: tuple[Column, ...] = ()
    gaps: dict[int, str] = field(default_factory=dict)
    lines_of: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None

    def described(self, other: Table | None = None) -> tuple[Column, ...]:
        """Return what the values of each column mean, after they have been read, with the gaps of another table too."""
        gaps = {**self.gaps, **({} if other is None else other.gaps)}
        columns = self.columns or ((Column(),) * self.width if gaps else ())
        return tuple(replace(c, gap=gaps[j]) if j in gaps else c for j, c in enumerate(columns)) if gaps else columns


def table_in_memory(
    array: NDArray[Any],
    image_shape: tuple[int, int, int] | None = None,
    feature_names: tuple[str, ...] = (),
    columns: tuple[Column, ...] = (),
) -> Table:
    """Return a table of rows (n, d) in memory, which may be reordered in place."""
    rows, width = array.shape
    gaps = {j: column.gap for j, column in enumerate(columns) if column.gap}
    return Table(rows, width, array.dtype, lambda: [array], image_shape, None, feature_names, array, columns, gaps)


@dataclass(frozen=True, eq=False)
class ChunkedArray:
    """An array that is read chunk by chunk.

    Attributes:
        shape: Its shape.
        dtype: Its type.
        read: Yields the array in chunks of rows; in Fortran order, flat chunks of complete columns or of part of one.
        fortran: Whether the array is in Fortran order.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Iterable[NDArray[Any]]]
    fortran: bool = False

    @classmethod
    def of(cls, array: NDArray[Any]) -> ChunkedArray:
        """Return an array in memory in chunks of a few MB."""
        rows = rows_at_a_time(array.shape, array.itemsize)
        return cls(array.shape, array.dtype, lambda: (array[i : i + rows] for i in range(0, len(array), rows)))

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read_all(self, name: str) -> NDArray[Any]:
        """Return the array in memory."""
        check_room(self.nbytes, name)
        array, start = np.empty(self.shape, self.dtype, order="F" if self.fortran else "C"), 0
        out = array.reshape(-1, order="F") if self.fortran else array
        for chunk in self.read():
            if not self.shape:
                return chunk
            out[start : start + len(chunk)] = chunk
            start += len(chunk)
        return array


def rows_at_a_time(shape: tuple[int, ...], itemsize: int) -> int:
    """Return how many rows of an array make a chunk of a few MB."""
    return max(1, CHUNK_BYTES // max(1, math.prod(shape[1:]) * itemsize))


def read_chunks(stream: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Iterator[NDArray[Any]]:
    """Yield the rows of an array in C order from a stream."""
    rows = rows_at_a_time(shape, dtype.itemsize)
    for start in range(0, shape[0] if shape else 1, rows):
        block = (min(rows, shape[0] - start), *shape[1:]) if shape else ()
        yield read_values(stream, math.prod(block), dtype, name).reshape(block)


def read_values(stream: BinaryIO, count: int, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """Return the next values of a stream."""
    content = stream.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise DataError(f"{name} is cut off: {len(content):,} of {count * dtype.itemsize:,} bytes are there")
    return np.frombuffer(content, dtype)


_RAGGED = "rows of different lengths; they must all have as many features"


def plain_array(values: Any, name: str, ragged: str = _RAGGED) -> NDArray[Any]:
    """Return values, such as tensors of other libraries, as a plain NumPy array.

    `ragged` is the message for lists of different lengths.
    """
    if is_tensor(values):
        return array_of(values, name)
    for part in values if isinstance(values, (list, tuple)) else [values]:
        # NumPy's module of masked arrays is loaded only if an array may be masked.
        if isinstance(part, np.ndarray) and type(part) is not np.ndarray and np.ma.is_masked(part):
            masked = int(np.ma.getmaskarray(part).sum())
            raise DataError(
                f"{name} is a masked array with {masked:,} masked values; fill them in, or leave these rows out"
            )
    try:
        return np.asarray(values)
    except ValueError:
        raise DataError(f"{name} has {ragged}") from None


def table_of(values: Any, name: str, *, missing: bool = False) -> Table:
    """Return a table of the features in an array, nested lists, or a :class:`ChunkedArray`.

    With `missing`, features other than images may have NaN where a value is missing.

    uint8, float32 and float64 are kept, booleans become uint8, and other integers float32 if that holds
    them exactly, float64 otherwise.  Images become channel planes (n, channels, height, width), as CIFAR-10 has them.
    """
    array = values if isinstance(values, ChunkedArray) else ChunkedArray.of(plain_array(values, name))
    shape, dtype = array.shape, array.dtype
    if dtype.kind not in "biuf":
        raise DataError(f"{name} is an array of {dtype}; it must be one of real numbers")
    if len(shape) < 2:
        raise DataError(f"{name} has the shape {shape}; it must be (n, features) or that of n images")
    if math.prod(shape) == 0:
        raise DataError(f"{name} has the shape {shape} and thus no values; it needs rows to learn from")
    image_shape, channels_last = _image_shape(shape)
    final = np.dtype(_final_dtype(array))
    gaps: dict[int, str] = {}
    allowed = gaps if missing and image_shape is None else None
    if array.fortran:
        x = _rows_of_columns(array, final, channels_last, name, allowed)
        return replace(table_in_memory(x, image_shape), gaps=gaps)

    def converted() -> Iterator[NDArray[Any]]:
        for chunk in array.read():
            if channels_last:
                chunk = chunk.transpose(0, 3, 1, 2)
            flat = np.ascontiguousarray(chunk).reshape(len(chunk), -1)
            with np.errstate(over="ignore"):  # a value of a larger type becomes infinite, and is refused
                chunk = flat.view(np.uint8) if flat.dtype == np.bool_ else flat.astype(final, copy=False)
            yield chunk  # outside of the block, whose setting would reach the caller

    chunks = lambda: _finite(converted(), name, allowed)  # noqa: E731
    return Table(shape[0], math.prod(shape[1:]), final, chunks, image_shape, gaps=gaps)


def _rows_of_columns(
    array: ChunkedArray, dtype: np.dtype[Any], channels_last: bool, name: str, gaps: dict[int, str] | None
) -> NDArray[Any]:
    """Return the rows of an array in Fortran order, filled column by column."""
    rows, width = array.shape[0], math.prod(array.shape[1:])
    check_room(rows * width * dtype.itemsize, name)
    x = np.empty((rows, width), dtype)
    place: NDArray[Any] = np.arange(width).reshape(array.shape[1:])
    if channels_last:
        height, across, channels = array.shape[1:]
        place = np.arange(width).reshape(channels, height, across).transpose(1, 2, 0)
    place = place.reshape(-1, order="F")
    done = 0
    for chunk in array.read():
        column, row = divmod(done, rows)
        if len(chunk) < rows:
            x[row : row + len(chunk), place[column]] = chunk
        else:
            block = chunk.reshape(-1, rows).T
            to: Any = place[column : column + block.shape[1]]
            x[:, slice(to[0], to[-1] + 1) if len(array.shape) == 2 else to] = block
        done += len(chunk)
    for _ in _finite(ChunkedArray.of(x).read(), name, gaps):
        pass
    return x


def _final_dtype(array: ChunkedArray) -> Any:
    dtype = array.dtype
    if dtype == np.bool_ or dtype == np.uint8:
        return np.uint8
    if dtype.kind == "f":
        return np.float32 if dtype.itemsize <= 4 else np.float64
    if dtype.itemsize > 2:
        bounds = [(int(chunk.min()), int(chunk.max())) for chunk in array.read()]
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


def _finite(chunks: Iterable[NDArray[Any]], name: str, gaps: dict[int, str] | None = None) -> Iterator[NDArray[Any]]:
    """Yield chunks of rows; count values that are not finite, and refuse them after the last chunk.

    With `gaps`, missing values may be NaN; it gets the place of the first one of each column.
    """
    rows = count = 0
    first = 0, 0
    for chunk in chunks:
        wrong = ~np.isfinite(chunk) if chunk.dtype.kind == "f" else np.False_
        if wrong.any() and gaps is not None:
            missing = np.isnan(chunk)
            wrong &= ~missing
            for column in np.flatnonzero(missing.any(axis=0)).tolist():
                gaps.setdefault(column, f"{name}: row {rows + int(np.argmax(missing[:, column]))}, column {column}")
        if wrong.any():
            if not count:
                row, column = np.argwhere(wrong)[0]
                first = rows + int(row), int(column)
            count += int(np.count_nonzero(wrong))
        elif chunk.dtype == np.float64 and not in_range(chunk) and (beyond := np.abs(chunk) > LARGEST).any():
            row, column = np.argwhere(beyond)[0]
            raise DataError(
                f"{name} has values beyond {LARGEST:g}, which cannot be squared, the first in row {rows + row}, "
                f"column {column} (from 0); rescale it"
            )
        rows += len(chunk)
        yield chunk
    if count:
        raise DataError(
            f"{name} has {count:,} values that are not finite, the first in row {first[0]}, column {first[1]} "
            "(from 0); remove those rows or fill them in"
        )


def in_range(values: NDArray[Any]) -> bool:
    """Return whether all values are finite and can be squared without overflow."""
    return max(-float(values.min(initial=0)), float(values.max(initial=0))) <= LARGEST

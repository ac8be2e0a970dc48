"""Tables in memory, as a mapping from the names of columns to their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.column import LARGEST, Column, adapted, check_numbers
from xpnet.data.column_coder import ColumnCoder
from xpnet.data.feature_table import Table, table_in_memory
from xpnet.data.readers.columns import places_of, smallest
from xpnet.data.readers.safe_pickle import printable
from xpnet.errors import DataError
from xpnet.utils.memory import check_room


@dataclass(frozen=True, eq=False)
class NamedColumns:
    """A table in memory.

    Attributes:
        names: Names of the columns (d,).
        x: Codes of their cells (n, d), uint8 or floating; see :mod:`xpnet.data.column`.
        columns: What the codes mean (d,).
    """

    names: tuple[str, ...]
    x: NDArray[Any]
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, values: Mapping[str, Any], name: str = "columns") -> NamedColumns:
        """Return the table of columns, each an array or a list of one value for every row.

        Values are numbers, booleans or texts; NaN, None, masked and empty values are missing.  Columns whose array has
        a type of texts, and others that hold a text, are of categories.

        Args:
            values: The values of each column, by name.
            name: Name of the table in messages.

        Raises:
            DataError: The columns differ in length, or one holds something else; the message names it.
        """
        names = tuple(_name(key, name) for key in values)
        rows, columns, codes = None, [], []
        for key, value in zip(names, values.values(), strict=True):
            column, code = _coded(value, f"{name}: column {printable(key)}", key)
            if rows is not None and len(code) != rows:
                raise DataError(
                    f"{name}: column {printable(key)} has {len(code):,} values, and {printable(names[0])} has {rows:,}"
                )
            rows = len(code)
            columns.append(column)
            codes.append(code)
        if not rows:
            raise DataError(f"{name} has no values; it must map names to columns of at least one value")
        dtype = np.result_type(*(code.dtype for code in codes))
        check_room(rows * len(codes) * dtype.itemsize, name)
        x = np.empty((rows, len(codes)), dtype)
        for j, code in enumerate(codes):
            x[:, j] = code
        return cls(names, x, tuple(columns))

    def table(self, like: Table | None = None, name: str = "columns") -> Table:
        """Return the features as a table, with the columns and the codes of another table if it is given."""
        if like is None:
            return table_in_memory(self.x, feature_names=self.names, columns=self.columns)
        x = self.like(like.feature_names, like.columns, name)
        order = places_of(like.feature_names, self.names, name)
        gaps = {j: self.columns[i].gap for j, i in enumerate(order) if self.columns[i].gap}
        return replace(table_in_memory(x, feature_names=like.feature_names, columns=like.columns), gaps=gaps)

    def like(self, names: Sequence[str], columns: Sequence[Column], name: str = "columns") -> NDArray[Any]:
        """Return the codes (n, d) that the cells have in another table: its columns, by name, and its categories.

        Args:
            names: Names of the columns of that table.
            columns: What they mean; empty if all are numbers of which none is missing.
            name: Name of this table in messages.

        Raises:
            DataError: A column is missing, or of another kind.
        """
        order = places_of(names, self.names, name)
        if unknown := [key for i, key in enumerate(self.names) if i not in order]:
            raise DataError(f"{name}: has the column {printable(unknown[0])}, which is none of the training data")
        own = [self.columns[i] for i in order]
        titles = [f"{name}: column {printable(self.names[i])}" for i in order]
        x = self.x[:, order]
        if not columns:
            check_numbers(own, titles)
            return x
        return adapted(x, own, columns, titles)


def _name(key: Any, name: str) -> str:
    text = str(key).strip()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{name}: the name {text!r} cannot be written: half of a character") from None
    return text


def _coded(values: Any, title: str, name: str) -> tuple[Column, NDArray[Any]]:
    """Return what a column is, and the codes of its values."""
    # NumPy's module of masked arrays is loaded only if an array may be masked.
    may_be_masked = isinstance(values, np.ndarray) and type(values) is not np.ndarray
    mask = np.ma.getmaskarray(values) if may_be_masked and np.ma.isMaskedArray(values) else None
    try:
        array = np.asarray(values)
        if array.dtype.kind == "U" and isinstance(values, (list, tuple)):
            array = np.asarray(values, object)  # numbers beside texts stay numbers
    except ValueError:
        raise DataError(f"{title}: has values of different lengths; it must be one value for each row") from None
    if array.ndim != 1:
        raise DataError(f"{title}: has the shape {array.shape}; it must be one value for each row")
    if array.dtype.kind in "biuf":
        return _numbers(array, mask, title)
    if array.dtype.kind == "M" or array.dtype.kind == "m":
        raise DataError(f"{title}: holds dates or times; make numbers of them, such as days, or leave it out")
    if array.dtype.kind not in "OUT":
        raise DataError(f"{title}: is an array of {array.dtype}; it must be numbers, booleans or texts")
    cells = [None if _missing(value) else value for value in array.tolist()]
    if mask is not None:
        cells = [None if gone else cell for cell, gone in zip(cells, mask.tolist(), strict=True)]
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds and all(issubclass(kind, (bool, np.bool_)) for kind in kinds):
        return _numbers(np.array([np.nan if c is None else float(c) for c in cells]), None, title, "boolean")
    if kinds and all(issubclass(kind, (int, float, np.integer, np.floating)) for kind in kinds):
        return _numbers(np.array([np.nan if c is None else float(c) for c in cells]), None, title)
    texts = ["" if cell is None else _text(cell, title) for cell in cells]
    coder = ColumnCoder(title, name, lambda row: f"{title}: row {row}", is_text=True)
    column, codes = coder.finish(coder.add(texts, range(len(texts))))
    return column, smallest(codes[:, None])[:, 0]


def _numbers(array: NDArray[Any], mask: Any, title: str, kind: str = "number") -> tuple[Column, NDArray[Any]]:
    kind = "boolean" if array.dtype.kind == "b" else kind
    values = array.astype(np.float64)
    if mask is not None:
        values[mask] = np.nan
    beyond = np.abs(values) > LARGEST
    if beyond.any():
        row = int(np.argmax(beyond))
        raise DataError(f"{title}: row {row}: {array[row]} is not a finite number below {LARGEST:g}")
    gaps = np.isnan(values)
    gap = f"{title}: row {int(np.argmax(gaps))}" if gaps.any() else ""
    return Column(kind, ("false", "true") if kind == "boolean" else (), gap=gap), smallest(values[:, None])[:, 0]


def _missing(value: Any) -> bool:
    """Return whether a value stands for a missing one: None, NaN, or a mark of another package such as pandas."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA is neither equal to itself nor not
        return True
    except ValueError:  # an array, which :func:`_text` refuses
        return False


def _text(cell: Any, title: str) -> str:
    if isinstance(cell, (bool, np.bool_)):
        return str(bool(cell)).lower()
    if not isinstance(cell, (str, int, float, np.number)):
        raise DataError(f"{title}: holds a {type(cell).__name__}; it must be numbers, booleans or texts")
    try:
        str(cell).encode()
    except UnicodeEncodeError:
        raise DataError(f"{title}: holds a text with half of a character, which cannot be written") from None
    return str(cell)

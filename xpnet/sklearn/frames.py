"""Frames and tensors of other libraries as arrays, and what the columns of frames mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
from numpy.typing import NDArray

from xpnet.data.column import Column, adapted, check_numbers
from xpnet.data.named_columns import NamedColumns
from xpnet.data.tensors import array_of, is_tensor


def labels_of(y: Any) -> Any:
    """Return a column, or a frame of labels, as an array; other values as they are."""
    frame = nw.from_native(y, pass_through=True, allow_series=True)
    return frame.to_numpy() if isinstance(frame, nw.DataFrame | nw.Series) else plain(y)


def frame_of(values: Any, names: Any = None) -> nw.DataFrame[Any] | None:
    """Return a data frame, with its columns in the order of `names` if these are theirs; None for other values."""
    if isinstance(values, np.ndarray):
        return None
    frame = nw.from_native(values, pass_through=True, allow_series=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, nw.DataFrame):
        return None
    if names is not None and list(names) != frame.columns and sorted(names) == sorted(frame.columns):
        return frame.select(*names)
    return frame


def plain(values: Any) -> Any:
    """Return a series or a tensor as an array, and other values as they are."""
    if isinstance(values, np.ndarray):
        return values
    series = nw.from_native(values, pass_through=True, allow_series=True)
    if isinstance(series, nw.Series):
        return series.to_numpy()
    return array_of(values) if is_tensor(values) else values


class Coded(NamedTuple):
    """Features: codes of cells (n, d), and what they mean (d,), as :mod:`xpnet.data.column` defines them."""

    x: NDArray[Any]
    columns: tuple[Column, ...]

    def like(self, columns: Sequence[Column], names: Sequence[str]) -> NDArray[Any]:
        """Return the codes that the cells have in columns on which an estimator was fitted.

        Args:
            columns: Those columns; empty if all were numbers of which none was missing.
            names: Names of the columns for messages; empty if they have none.

        Raises:
            ValueError: A column is of another kind.
        """
        titles = _titles(len(self.columns), names)
        if columns:
            return adapted(self.x, self.columns, columns, titles)
        check_numbers(self.columns, titles)
        return self.x


def coded_array(x: NDArray[Any]) -> Coded:
    """Return numbers (n, d), of which NaN are missing."""
    if x.dtype.kind != "f" or not np.isnan(x.min(initial=0)):
        return Coded(x, (Column(),) * x.shape[1])
    gaps = np.isnan(x)
    titles, missing = _titles(x.shape[1], ()), gaps.any(axis=0)
    return Coded(x, tuple(Column(gap=_place(gaps[:, j], titles[j]) if missing[j] else "") for j in range(x.shape[1])))


def coded_frame(frame: nw.DataFrame[Any]) -> Coded:
    """Return the cells of a frame: of numbers, booleans, texts and categories.

    Raises:
        ValueError: A column holds something else.
    """
    x, columns = np.empty(frame.shape, order="F"), []
    for j, ((name, dtype), series) in enumerate(zip(frame.schema.items(), frame.iter_columns(), strict=True)):
        title = f"X: column {name}"
        if series.null_count() == len(series):
            x[:, j], kind = np.nan, Column()
        elif dtype.is_numeric() or dtype == nw.Boolean:
            x[:, j] = series.cast(nw.Float64).to_numpy()
            kind = Column("boolean", ("false", "true")) if dtype == nw.Boolean else Column()
        elif dtype in (nw.String, nw.Categorical, nw.Enum, nw.Object):
            kind, x[:, j] = _cells(series, str(name), texts=dtype != nw.Object)
        else:
            raise ValueError(
                f"X has the column {name!r} of type {dtype}, which holds neither numbers nor categories; make numbers "
                "of it, such as days of dates, or leave it out"
            )
        gaps = np.isnan(x[:, j])
        columns.append(replace(kind, gap=_place(gaps, title)) if gaps.any() else kind)
    return Coded(x, tuple(columns))


def _cells(series: nw.Series[Any], name: str, *, texts: bool) -> tuple[Column, NDArray[Any]]:
    """Return what a column of `texts`, or of any objects of Python, is, and the codes of its cells."""
    missing = series.is_null().to_numpy()
    cells = [
        None if gone else str(value) if texts else value
        for value, gone in zip(series.to_numpy().tolist(), missing, strict=True)
    ]
    values = np.empty(len(cells), object)
    values[:] = cells
    coded = NamedColumns.of({name: values}, "X")
    if coded.columns[0].kind == "number":  # in float64, whatever the other numbers of the column are
        return coded.columns[0], np.array([np.nan if cell is None else float(cell) for cell in cells])
    return coded.columns[0], coded.x[:, 0]


def _titles(count: int, names: Sequence[str]) -> list[str]:
    return [f"X: column {name}" for name in (names if len(names) else range(count))]


def _place(gaps: NDArray[np.bool_], title: str) -> str:
    return f"{title}: row {int(np.argmax(gaps))}"

"""Columns of tables: numbers, booleans and categories, and the numbers (*codes*) by which a table stores their cells.

A number is its own code, NaN where it is missing; booleans are 1, 0 and NaN.  The code of a category is its position
in the sorted names of the column; missing cells are a category, with an empty name.  The code after the last is that of
all categories without a name, which the training table does not have.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.readers.safe_pickle import printable
from xpnet.errors import DataError

# Squares of larger values overflow when a variance is taken.
LARGEST = 1e150
KINDS = ("number", "boolean", "category")
# Cells that are missing, in lower case.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SHOWN = 3


@dataclass(frozen=True)
class Column:
    """What the codes of a column mean.

    Attributes:
        kind: ``"number"``, ``"boolean"`` or ``"category"``.
        categories: Names of the categories, sorted; of a boolean, as the file writes false and true.
        problem: A sentence on why nothing can be learned from the column; empty where it can be used.
        gap: Place of the first missing cell, such as ``pets.csv: line 4, column 1 (age)``; empty if none is missing.
    """

    kind: str = "number"
    categories: tuple[str, ...] = ()
    problem: str = ""
    gap: str = ""

    @property
    def words(self) -> str:
        """The kind in words, with some categories."""
        if self.kind != "category":
            return f"{self.kind}s"
        shown = [printable(name) for name in self.categories if name]
        return f"categories such as {', '.join(shown[:_SHOWN])}" if shown else "missing cells alone"


NUMBER = Column()


def is_number(cell: str) -> bool:
    """Return whether a cell is written as a number."""
    return _NUMBER.fullmatch(cell.strip()) is not None


def number_of(cell: str) -> float | None:
    """Return the number that a cell holds: NaN where it is missing, None where it holds something else."""
    text = cell.strip()
    if text.lower() in MISSING:
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= LARGEST else None


def name_of_number(value: float) -> str:
    """Return the category that a number is in a column of categories: one for all ways of writing it."""
    if value == int(value):
        return str(int(value))
    # Tables hold such numbers as float32, and the name must not depend on the table.
    return str(np.float32(value) if abs(value) <= 2**24 else value)


def missing_value(place: str) -> DataError:
    """Return the error for a value that is missing; `place` is file, row and column."""
    return DataError(f"{place}: the value is missing; fill it in, or remove the row")


def bad_value(place: str, text: str, value: float | None) -> DataError:
    """Return the error for a cell whose `value` is not a number, is not finite, or cannot be squared."""
    if value is not None and np.isfinite(value):
        return DataError(f"{place}: {text} is beyond {LARGEST:g}, which cannot be squared; rescale the column")
    hint = "; decimals need a point" if re.fullmatch(r"[+-]?\d+,\d+", text) else ""
    return DataError(f"{place}: {text!r} is not a finite number{hint}")


def check_usable(columns: Sequence[Column]) -> None:
    """Refuse columns from which nothing can be learned.

    Raises:
        DataError: A column has a problem.
    """
    problems = [column.problem for column in columns if column.problem]
    if problems:
        more = f" (xpnet data info names {len(problems) - 1:,} more columns of the kind)" if len(problems) > 1 else ""
        raise DataError(problems[0] + more)


def check_numbers(columns: Sequence[Column], titles: Sequence[str]) -> None:
    """Refuse what a network that was trained on numbers alone does not take: categories, and missing cells.

    Raises:
        DataError: A column is of categories, or has missing cells.
    """
    for column, title in zip(columns, titles, strict=True):
        if column.kind == "category":
            raise _other_kind(column, NUMBER, title)
        if column.gap:
            raise missing_value(column.gap)


def adapted(x: NDArray[Any], own: Sequence[Column], wanted: Sequence[Column], titles: Sequence[str]) -> NDArray[Any]:
    """Return the codes `x` (n, d) of some columns as the codes that other columns have for the same cells.

    Args:
        x: Codes under the columns `own`.
        own: The columns of `x`.
        wanted: The columns of the result, which categories that they do not know get the code after the last of.
        titles: File, number and name of each column, for messages.

    Raises:
        DataError: A column is of another kind.
    """
    if all((a.kind, a.categories) == (b.kind, b.categories) for a, b in zip(own, wanted, strict=True)):
        return x
    out = np.empty(x.shape, np.promote_types(x.dtype, np.float32))
    for j, (column, other, title) in enumerate(zip(own, wanted, titles, strict=True)):
        out[:, j] = _adapted(x[:, j], column, other, title)
    return out


def _adapted(values: NDArray[Any], own: Column, wanted: Column, title: str) -> NDArray[Any]:
    if own.kind == "category" and own.categories in ((), ("",)) and wanted.kind != "category":
        return np.full(len(values), np.nan)
    if wanted.kind == "category":
        return _as_category(values, own, wanted, title)
    if own.kind == "category":
        raise _other_kind(own, wanted, title)
    if wanted.kind == "boolean" and not np.isin(values[~np.isnan(values)], (0, 1)).all():
        raise _other_kind(own, wanted, title)
    return values


def _as_category(values: NDArray[Any], own: Column, wanted: Column, title: str) -> NDArray[Any]:
    places = {name: i for i, name in enumerate(wanted.categories)}
    unknown = len(wanted.categories)
    if own.kind == "category":
        return np.array([*(places.get(name, unknown) for name in own.categories), unknown])[values.astype(np.int64)]
    distinct, codes = np.unique(values.astype(np.float64), return_inverse=True)
    if own.kind == "boolean":
        places = {name.lower(): i for i, name in enumerate(wanted.categories)}
        names = ["" if np.isnan(value) else str(bool(value)).lower() for value in distinct]
    else:
        names = ["" if np.isnan(value) else name_of_number(float(value)) for value in distinct]
    if any(names) and not any(name in places for name in names if name):
        raise _other_kind(own, wanted, title)
    return np.array([places.get(name, unknown) for name in names], np.int64)[codes]


def _other_kind(own: Column, wanted: Column, title: str) -> DataError:
    if own.problem:
        return DataError(own.problem)
    return DataError(f"{title}: holds {own.words}, where the training data has {wanted.words}")

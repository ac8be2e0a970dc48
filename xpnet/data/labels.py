"""Labels of people's own data: checked and brought to int64."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.feature_table import plain_array
from xpnet.errors import DataError

_WANTED = "labels must be whole numbers"
_LARGEST = 2**31
MOST_CLASSES = 10_000
_LISTED = 4
_ARE = " are the classes "


def as_labels(values: Any, called: str, rows: int, x_called: str) -> NDArray[np.int64]:
    """Return labels as int64 (n,), the numbers that they are; (n, 1) and floating numbers that are whole will do.

    Args:
        values: The labels.
        called: What they are called in messages.
        rows: Rows of the features that they belong to.
        x_called: What the features are called in messages.

    Raises:
        DataError: They are not whole numbers, or not one for each row.
    """
    y = plain_array(values, called, f"entries of different lengths; {_WANTED}, one a row")
    if y.dtype.kind not in "biuf":
        raise DataError(f"{called} is an array of {y.dtype}; {_WANTED}")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        hint = "; if it is one-hot, take its argmax(axis=1)" if y.ndim == 2 else ""
        raise DataError(f"{called} has the shape {y.shape}; labels must be one whole number a row, (n,){hint}")
    if len(y) != rows:
        raise DataError(f"{called} has {len(y):,} labels for {rows:,} rows of {x_called}; there must be one for each")
    good = np.ones(len(y), bool)
    if y.dtype.kind == "f":
        good = y == np.rint(y)  # False for NaN
    if y.dtype.kind != "b":
        good &= (y <= _LARGEST) & (y >= -_LARGEST)
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(f"{called} has the label {y[row]} in row {row}; {_WANTED} of at most {_LARGEST:,}")
    return y.astype(np.int64)


def classes_of_numbers(labels: NDArray[np.int64], called: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return classes from 0, one for each label that occurs, by size, and their names: the labels.

    Raises:
        DataError: There is one class alone, or there are so many that they are something else.
    """
    values = np.unique(labels)
    names = tuple(map(str, values.tolist()))
    # Numbered from 0 without gaps, they are meant to be classes, however many there are.
    if len(values) > 1 and values[0] == 0 and values[-1] == len(values) - 1:
        return labels, names
    check_count(len(values), len(labels), names[0], called)
    return np.searchsorted(values, labels), names


def as_classes(labels: NDArray[np.int64], names: Sequence[str], called: str, hint: str) -> NDArray[np.int64]:
    """Return labels as the classes that :func:`classes_of_numbers` has named.

    Raises:
        DataError: There is another label.
    """
    values = np.array([int(name) for name in names])
    classes = np.searchsorted(values, labels).clip(max=len(values) - 1)
    other = values[classes] != labels
    if other.any():
        raise DataError(f"{called} has the label {labels[np.argmax(other)]}, {hint}")
    return classes


def check_count(classes: int, rows: int, first: str, called: str) -> None:
    """Refuse labels that are no classes.

    Raises:
        DataError: There is one class alone, or there are so many that they are something else.
    """
    if classes < 2:
        raise DataError(f"{called} has the label {first} alone; there must be at least 2 classes")
    if classes > MOST_CLASSES or (classes > 20 and classes > rows / 2):
        raise DataError(f"{called} has {classes:,} different labels in {rows:,} rows; they are probably not classes")


def value_of(label: str) -> Decimal | str:
    """Return a label as what it is compared by: the number that it is, or its text."""
    try:
        value = Decimal(label)
    except ArithmeticError:
        return label
    return value if value.is_finite() and "_" not in label else label


def numbering(names: Sequence[str], called: str) -> tuple[str, ...]:
    """Return a sentence that says how numbers that are labels are numbered as classes, where these differ."""
    numbers = tuple(map(str, range(len(names))))
    if tuple(names) == numbers or any(isinstance(value_of(name), str) for name in names):
        return ()
    return (f"{called}: the labels {_listed(names)}{_ARE}{_listed(numbers)}",)


def without_numbering(notes: Sequence[str]) -> tuple[str, ...]:
    """Return notes without the sentence of :func:`numbering`."""
    return tuple(note for note in notes if _ARE not in note)


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts if len(texts) <= _LISTED else (*texts[:2], "...", texts[-1]))

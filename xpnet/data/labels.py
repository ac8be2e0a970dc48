"""Labels of people's own data: checked and brought to int64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import DataError

_WANTED = "labels must be whole numbers from 0"


def as_labels(values: Any, called: str, rows: int, x_called: str) -> NDArray[np.int64]:
    """Return labels as int64 (n,); (n, 1) and floating numbers that are whole will do.

    Args:
        values: The labels.
        called: What they are called in messages.
        rows: Rows of the features that they belong to.
        x_called: What the features are called in messages.

    Raises:
        DataError: They are not whole numbers from 0, or not one for each row.
    """
    try:
        y = np.asarray(values)
    except ValueError:
        raise DataError(f"{called} has entries of different lengths; {_WANTED}, one a row") from None
    if y.dtype.kind not in "biuf":
        raise DataError(f"{called} is an array of {y.dtype}; {_WANTED}")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        hint = "; if it is one-hot, take its argmax(axis=1)" if y.ndim == 2 else ""
        raise DataError(f"{called} has the shape {y.shape}; labels must be one whole number a row, (n,){hint}")
    if len(y) != rows:
        raise DataError(f"{called} has {len(y):,} labels for {rows:,} rows of {x_called}; there must be one for each")
    good = y >= 0  # False for NaN
    if y.dtype.kind == "f":
        good &= y == np.rint(y)
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(f"{called} has the label {y[row]} in row {row}; {_WANTED}")
    if y.max() > 2**31:  # infinity, too
        raise DataError(f"{called} has the label {y.max()}; {_WANTED}, numbered without gaps")
    return y.astype(np.int64)


def class_count(labels: NDArray[np.int64], called: str) -> int:
    """Return the number of classes, one more than the largest label.

    Raises:
        DataError: There is one class, or the labels are so sparse that they are something else.
    """
    classes, present = int(labels.max()) + 1, len(np.unique(labels))
    if present < 2:
        raise DataError(f"{called} has the label {int(labels[0])} alone; there must be at least 2 classes")
    if classes > 2 * present + 10 or classes > len(labels):
        raise DataError(
            f"{called} has labels up to {classes - 1} but only {present} different ones in {len(labels):,} rows; "
            "they are probably not classes, which are numbered from 0"
        )
    return classes

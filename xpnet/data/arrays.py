"""People's own arrays: checked, brought to rows, and split off a test set where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.source import Source
from xpnet.errors import DataError
from xpnet.randomness import Purpose, generator

TEST_FRACTION = 0.1
VALIDATION_FRACTION = 0.1


def source_from_arrays(
    arrays: Mapping[str, NDArray[Any]],
    *,
    name: str,
    location: str,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Source:
    """Return a data set from ``x, y`` or ``x_train, y_train`` and, if there are, ``x_test, y_test``.

    Files are often sorted by class, so the rows that training and validation are taken from are
    shuffled once, by `seed`.  Without a test set, the last tenth of the shuffled rows becomes it.

    Raises:
        DataError: Something about the arrays is wrong; the message names the array.
    """
    x_name, y_name = ("x_train", "y_train") if "x_train" in arrays else ("x", "y")
    missing = [key for key in (x_name, y_name) if key not in arrays]
    if missing or ("x_test" in arrays) != ("y_test" in arrays):
        raise DataError(
            f"{location}: has the arrays {', '.join(sorted(arrays)) or 'none'}; "
            "it must have x and y, or x_train, y_train, x_test and y_test"
        )
    x, image_shape = _features(arrays[x_name], f"{location}: {x_name}")
    labels = _labels(arrays[y_name], f"{location}: {y_name}", len(x), x_name)
    x, labels = _shuffled(x, labels, seed)
    if "x_test" in arrays:
        x_test, _ = _features(arrays["x_test"], f"{location}: x_test")
        labels_test = _labels(arrays["y_test"], f"{location}: y_test", len(x_test), "x_test")
        if x_test.shape[1] != x.shape[1]:
            raise DataError(f"{location}: x_test has {x_test.shape[1]} features and {x_name} has {x.shape[1]}")
        if x_test.dtype != x.dtype:
            common = np.result_type(x_test, x)
            x, x_test = x.astype(common), x_test.astype(common)
    else:
        rest = len(x) - max(1, round(TEST_FRACTION * len(x)))
        x, x_test, labels, labels_test = x[:rest], x[rest:], labels[:rest], labels[rest:]
    classes = _class_count(np.concatenate([labels, labels_test]), f"{location}: {y_name}")
    names = tuple(class_names) if class_names is not None else tuple(str(c) for c in range(classes))
    if len(names) < classes:
        raise DataError(f"{location}: class_names has {len(names)} names for labels up to {classes - 1}")
    validation = max(1, round(VALIDATION_FRACTION * len(x)))
    if len(x) < 2:
        raise DataError(f"{location}: {len(x)} samples are too few to train and to validate; it needs at least 3")
    return Source(
        name=name,
        location=location,
        x=x,
        labels=labels,
        x_test=x_test,
        labels_test=labels_test,
        class_names=names,
        image_shape=image_shape,
        default_split=f"{len(x) - validation}/{validation}",
    )


def _features(x: NDArray[Any], where: str) -> tuple[NDArray[Any], tuple[int, int, int] | None]:
    """Return features as rows (n, d), uint8 or floating, and the shape of an image where rows are images."""
    x = np.asarray(x)
    if x.dtype.hasobject or x.dtype.kind not in "biuf":
        raise DataError(f"{where} is an array of {x.dtype}; it must be one of numbers")
    if x.ndim < 2 or x.size == 0:
        raise DataError(f"{where} has the shape {x.shape}; it must be (n, features) or (n, height, width, channels)")
    image_shape = None
    if x.ndim == 4 and x.shape[-1] in (1, 3):
        x = x.transpose(0, 3, 1, 2)  # channel planes, as CIFAR-10 has them
        image_shape = (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
    elif x.ndim == 4 and x.shape[1] in (1, 3):
        image_shape = (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
    elif x.ndim == 3:
        image_shape = (1, int(x.shape[1]), int(x.shape[2]))
    x = np.ascontiguousarray(x).reshape(len(x), -1)
    if x.dtype == np.bool_:
        return x.view(np.uint8), image_shape
    if x.dtype == np.uint8:
        return x, image_shape
    if x.dtype.kind in "iu":
        exact = x.min() >= -(2**24) and x.max() <= 2**24
        return x.astype(np.float32 if exact else np.float64), image_shape
    if x.dtype.itemsize not in (4, 8) or not x.dtype.isnative:
        x = x.astype(np.float32 if x.dtype.itemsize <= 4 else np.float64)
    finite = np.isfinite(x)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise DataError(
            f"{where} has {int((~finite).sum()):,} values that are not finite, the first in row {row}, "
            f"column {column}; remove those rows or fill them in"
        )
    return x, image_shape


def _labels(y: NDArray[Any], where: str, rows: int, x_name: str) -> NDArray[np.int64]:
    """Return labels as whole numbers (n,) from 0."""
    y = np.asarray(y)
    if y.dtype.hasobject or y.dtype.kind not in "biuf":
        raise DataError(f"{where} is an array of {y.dtype}; labels must be whole numbers from 0")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        hint = "; if it is one-hot, pass y.argmax(axis=1)" if y.ndim == 2 else ""
        raise DataError(f"{where} has the shape {y.shape}; labels must be one whole number a sample, (n,){hint}")
    if len(y) != rows:
        raise DataError(f"{where} has {len(y):,} labels for {rows:,} rows of {x_name}; there must be one for each")
    if y.dtype.kind == "f":
        whole = np.isfinite(y) & (y == np.rint(y))
        if not whole.all():
            row = int(np.argmin(whole))
            raise DataError(f"{where} has the label {y[row]} in row {row}; labels must be whole numbers from 0")
    if y.min() < 0 or y.max() > 2**31:
        raise DataError(f"{where} has labels from {y.min()} to {y.max()}; labels must be whole numbers from 0")
    return y.astype(np.int64)


def _class_count(labels: NDArray[np.int64], where: str) -> int:
    classes, present = int(labels.max()) + 1, len(np.unique(labels))
    if present < 2:
        raise DataError(f"{where} has the label {int(labels[0])} alone; there must be at least 2 classes")
    if classes > 2 * present + 10:
        raise DataError(
            f"{where} has labels up to {classes - 1} but only {present} different ones; number the classes from 0"
        )
    return classes


def _shuffled(x: NDArray[Any], labels: NDArray[np.int64], seed: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    order = generator(seed, Purpose.ROWS).permutation(len(x))
    return x[order], labels[order]

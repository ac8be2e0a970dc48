"""People's own arrays: checked, brought to rows, and split off a test set where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.labels import as_labels, class_count
from xpnet.data.source import Source
from xpnet.data.splits import nine_tenths
from xpnet.errors import DataError
from xpnet.randomness import Purpose, generator

# Squares of what is larger overflow when a variance is taken.
_LARGEST = 1e150
_CHUNK = 2**20  # values that are checked at a time


class Arrays(NamedTuple):
    """Training and test arrays, or what each of them is called in messages."""

    x: Any
    y: Any
    x_test: Any = None
    y_test: Any = None


def source_from_arrays(
    arrays: Arrays,
    called: Arrays,
    *,
    name: str,
    location: str,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Source:
    """Return a data set of arrays: features and labels and, if there are, those of a test set.

    Files are often sorted by class, so the rows that training and validation are taken from are
    shuffled once, by `seed`.  Without a test set, the last tenth of the shuffled rows (at least one)
    becomes it; one that is given keeps its order.

    Args:
        arrays: Features (n, d) or images (n, height, width[, channels]) or (n, channels, height, width),
            and whole numbers from 0.
        called: What the arrays are called in messages.
        name: The data set's name.
        location: What it is found by.
        class_names: Name of each class; None takes their numbers.
        seed: Seed of the shuffle.

    Raises:
        DataError: Something about the arrays is wrong; the message names the array.
    """
    x, image_shape = as_features(arrays.x, called.x)
    labels = as_labels(arrays.y, called.y, len(x), called.x)
    # Counted before test rows are split off: they may hold the only rows of a class.
    classes = class_count(labels, called.y)
    order = generator(seed, Purpose.ROWS).permutation(len(x))
    x, labels = x[order], labels[order]
    if (arrays.x_test is None) != (arrays.y_test is None):
        has, lacks = (called.x_test, called.y_test)[:: 1 if arrays.y_test is None else -1]
        raise DataError(f"{has} is given without {lacks}; a test set needs both")
    if arrays.x_test is None:
        rest = len(x) - max(1, round(len(x) / 10))
        x, x_test, labels, labels_test = x[:rest], x[rest:], labels[:rest], labels[rest:]
    else:
        x_test, _ = as_features(arrays.x_test, called.x_test)
        labels_test = as_labels(arrays.y_test, called.y_test, len(x_test), called.x_test)
        if x_test.shape[1] != x.shape[1]:
            raise DataError(f"{called.x_test} has {x_test.shape[1]} features and {called.x} has {x.shape[1]}")
        if labels_test.max() >= classes:
            raise DataError(
                f"{called.y_test} has labels up to {labels_test.max()}, but those of {called.y} end at {classes - 1}"
            )
    if len(x) < 2:
        raise DataError(f"{called.x} has {len(order)} rows; it must leave at least 2, to train and to validate")
    names = tuple(str(c) for c in (range(classes) if class_names is None else class_names))
    if len(names) < classes:
        raise DataError(f"class_names has {len(names)} names for {classes} classes; give one for each")
    return Source(
        name=name,
        location=location,
        x=x,
        labels=labels,
        x_test=x_test,
        labels_test=labels_test,
        class_names=names,
        image_shape=image_shape,
        default_split=nine_tenths(len(x)),
    )


def as_features(values: Any, called: str) -> tuple[NDArray[Any], tuple[int, int, int] | None]:
    """Return features as rows (n, d), uint8 or floating, and the shape of an image where rows are images.

    uint8, float32 and float64 are kept, booleans become uint8, and other integers float32 if that holds
    them exactly, float64 otherwise.

    Raises:
        DataError: There are no numbers, no rows, or values that are not finite.
    """
    try:
        x = np.asarray(values)
    except ValueError:
        raise DataError(f"{called} has rows of different lengths; they must all have as many features") from None
    if x.dtype.kind not in "biuf":
        raise DataError(f"{called} is an array of {x.dtype}; it must be one of real numbers")
    if x.ndim < 2:
        raise DataError(f"{called} has the shape {x.shape}; it must be (n, features) or that of n images")
    if x.size == 0:
        raise DataError(f"{called} has the shape {x.shape} and thus no values; it needs rows to learn from")
    x, image_shape = _planes(x)
    x = np.ascontiguousarray(x).reshape(len(x), -1)
    if x.dtype == np.bool_:
        return x.view(np.uint8), image_shape
    if x.dtype == np.uint8:
        return x, image_shape
    if x.dtype.kind in "iu":
        exact = int(x.min()) >= -(2**24) and int(x.max()) <= 2**24
        return x.astype(np.float32 if exact else np.float64), image_shape
    x = x.astype(np.float32 if x.dtype.itemsize <= 4 else np.float64, copy=False)
    _check_finite(x, called)
    return x, image_shape


def _planes(x: NDArray[Any]) -> tuple[NDArray[Any], tuple[int, int, int] | None]:
    """Bring images to channel planes (n, channels, height, width), as CIFAR-10 has them."""
    if x.ndim == 4 and x.shape[-1] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    elif not (x.ndim == 4 and x.shape[1] in (1, 3)) and x.ndim != 3:
        return x, None
    height, width = x.shape[-2:]
    return x, (x.shape[1] if x.ndim == 4 else 1, height, width)


def _check_finite(x: NDArray[Any], called: str) -> None:
    bad, first = 0, (0, 0)
    rows = max(1, _CHUNK // x.shape[1])
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        finite = np.isfinite(part)
        if not finite.all():
            if not bad:
                row, column = np.argwhere(~finite)[0]
                first = (start + int(row), int(column))
            bad += int(np.count_nonzero(~finite))
        elif float(np.abs(part).max()) > _LARGEST:
            raise DataError(f"{called} has values beyond {_LARGEST:g}, which cannot be squared; rescale it")
    if bad:
        raise DataError(
            f"{called} has {bad:,} values that are not finite, the first in row {first[0]}, column {first[1]} "
            "(from 0); remove those rows or fill them in"
        )

"""From features and labels to a data set: shuffled, and a test set split off where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import RawDataset
from xpnet.data.feature_table import CHUNK_BYTES, Table, pieces_of, table_of
from xpnet.data.labels import as_classes, as_labels, check_count, classes_of_numbers, numbering
from xpnet.data.splits import nine_tenths
from xpnet.errors import DataError, printable
from xpnet.utils.lazy_arrays import Features, Rows
from xpnet.utils.memory import check_room
from xpnet.utils.rng import Purpose, generator


class Arrays(NamedTuple):
    """Training and test arrays, or what each of them is called in messages."""

    x: Any
    y: Any
    x_test: Any = None
    y_test: Any = None


@dataclass(frozen=True)
class SplitPolicy:
    """How the samples are ordered and the test set is split off.

    Attributes:
        seed: Of the order and of the choice.
        fraction: Share of every class that becomes the test set; None takes the last tenth of the shuffled rows.
        shuffled: Whether rows are shuffled at all; data with an order of its own is not.
    """

    seed: int = 0
    fraction: float | None = None
    shuffled: bool = True


@dataclass(frozen=True)
class About:
    """What a source is called, and what else is known of it; see :class:`~xpnet.data.RawDataset`."""

    name: str
    location: str
    class_names: Sequence[str] | None = None
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


def source_from_arrays(arrays: Arrays, called: Arrays, about: About, division: SplitPolicy | None = None) -> RawDataset:
    """Return a data set of arrays: features and labels and, if there are, those of a test set.

    Args:
        arrays: Features (n, d) or images (n, height, width[, channels]) or (n, channels, height, width),
            and whole numbers: with class names those of the names, from 0, else any, of which those that occur
            become the classes; arrays, or features as :class:`~xpnet.data.feature_table.Pieces` or
            :class:`~xpnet.data.feature_table.Table`.
        called: What the arrays are called in messages.
        about: Names.
        division: How test rows are split off; see :func:`build_source`.

    Raises:
        DataError: Something about the arrays is wrong; the message names the array.
    """
    if (arrays.x_test is None) != (arrays.y_test is None):
        has, lacks = (called.x_test, called.y_test)[:: 1 if arrays.y_test is None else -1]
        raise DataError(f"{has} is given without {lacks}; a test set needs both")
    table, labels = _samples(arrays.x, arrays.y, called.x, called.y)
    # Before test rows are split off: they may hold the only rows of a class.
    if about.class_names is None:
        labels, names = classes_of_numbers(labels, called.y)
        about = replace(about, notes=(*about.notes, *numbering(names, called.y)))
    else:
        names = _names(about.class_names)
        _check_named(labels, names, called.y)
    test = None
    if arrays.x_test is not None:
        test = _samples(arrays.x_test, arrays.y_test, called.x_test, called.y_test)
        if test[0].width != table.width:
            raise DataError(f"{called.x_test} has {test[0].width} features and {called.x} has {table.width}")
        if about.class_names is None:
            hint = f"which {called.y} has not, so nothing can be learned of it"
            test = test[0], as_classes(test[1], names, called.y_test, hint)
        else:
            _check_named(test[1], names, called.y_test)
    return build_source(table, labels, test, names, about, called.x, division)


def _check_named(labels: NDArray[np.int64], names: Sequence[str], called: str) -> None:
    """Refuse labels that are not numbers of names."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(names):
        raise DataError(
            f"class_names has {len(names)} names for the labels {low} to {high} of {called}; give one for each label, "
            "from 0"
        )
    if low == high:
        check_count(1, len(labels), str(low), called)


def _names(given: Any) -> tuple[str, ...]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        raise DataError(f"class_names is a {type(given).__name__}; it must be a sequence of names, one for each class")
    names = tuple(str(name) for name in given)
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"class_names has {name!r}, which cannot be written: half of a character") from None
    return names


def _samples(x: Any, y: Any, x_called: str, y_called: str) -> tuple[Table, NDArray[np.int64]]:
    table = x if isinstance(x, Table) else table_of(x, x_called)
    return table, as_labels(y, y_called, table.rows, x_called)


def build_source(
    table: Table,
    labels: NDArray[np.int64],
    test: tuple[Table, NDArray[np.int64]] | None,
    names: tuple[str, ...],
    about: About,
    called: str,
    division: SplitPolicy | None = None,
) -> RawDataset:
    """Read features into a data set.

    Files are often sorted by class, so the rows that training and validation are taken from are
    shuffled once.  Without a test set a part of them becomes it; one that is given keeps its order.

    Args:
        table: Features.
        labels: Their classes, from 0.
        test: Features and classes of the test set, if there is one.
        names: Name of each class.
        about: What else is known.
        called: What the features are called in messages.
        division: Seed, and which share becomes the test set.

    Raises:
        DataError: Features turn out to be broken as they are read, or too few remain.
    """
    division = division or SplitPolicy()
    if test is not None and division.fraction is not None:
        raise DataError(
            f"test_fraction = {division.fraction:g}: {called} has a test set of its own; leave test_fraction out"
        )
    order = np.arange(table.rows)
    if division.shuffled:
        order = generator(division.seed, Purpose.ROWS).permutation(table.rows)
    rest = table.rows if test is not None else _split_off(order, labels, division.fraction)
    if rest < 2:
        raise DataError(f"{called} has {table.rows} rows; it must leave at least 2, to train and to validate")
    x, x_test = _read(table, called, order, rest)
    labels_test = labels[order[rest:]]
    if test is not None:
        x_test, _ = _read(test[0], called, np.arange(test[0].rows), test[0].rows)
        labels_test = test[1]
    return RawDataset(
        name=printable(about.name),
        location=about.location,
        x=x,
        labels=labels[order[:rest]],
        x_test=x_test,
        labels_test=labels_test,
        class_names=names,
        image_shape=table.image_shape,
        default_split=nine_tenths(rest),
        feature_names=table.feature_names,
        notes=about.notes,
        about={**about.about, "test_set": "split off" if test is None else "its own"},
    )


def _split_off(order: NDArray[np.int64], labels: NDArray[np.int64], fraction: float | None) -> int:
    """Bring the rows of the test set behind the others, both in the order of `order`; return how many others are."""
    if fraction is None:
        return len(order) - max(1, round(len(order) / 10))
    of_order = labels.astype(np.min_scalar_type(int(labels.max())))[order]
    chosen = np.zeros(len(order), bool)
    for c in np.unique(labels):
        mine = np.flatnonzero(of_order == c)
        # Of a class with several samples, each part has at least one.
        count = min(max(1, round(fraction * len(mine))), len(mine) - 1)
        chosen[mine[len(mine) - count :]] = True
    of_test = order[chosen]
    rest = len(order) - len(of_test)
    order[:rest] = order[~chosen]
    order[rest:] = of_test
    return rest


def _reorder(array: NDArray[Any], order: NDArray[np.int64]) -> None:
    """Bring the rows of an array into another order, in its own memory, some columns at a time."""
    if (order[1:] > order[:-1]).all():
        return
    columns = max(1, CHUNK_BYTES // (len(array) * array.itemsize))
    for start in range(0, array.shape[1], columns):
        part = array[:, start : start + columns]
        part[...] = part[order]


def _read(table: Table, called: str, order: NDArray[np.int64], rest: int) -> tuple[Features, Features]:
    """Read a table's rows in an order, without a second copy of it; return the first `rest` of them and the others."""
    parts = order[:rest], order[rest:]
    if table.disk is not None:
        for _ in table.chunks() if table.dtype.kind == "f" else ():
            pass  # what is not finite is found
        return Rows(table.disk, parts[0], table.dtype), Rows(table.disk, parts[1], table.dtype)
    if table.owned is not None:
        _reorder(table.owned, order)
        return table.owned[:rest], table.owned[rest:]
    check_room(table.rows * table.width * table.dtype.itemsize, called)
    x, x_test = (np.empty((len(rows), table.width), table.dtype) for rows in parts)
    place = np.empty(table.rows, np.int64)
    place[order] = np.arange(table.rows)
    start = 0
    for chunk in table.chunks():
        for piece in pieces_of(chunk).read():
            to = place[start : start + len(piece)]
            here = to < rest
            x[to[here]] = piece if here.all() else piece[here]
            x_test[to[~here] - rest] = piece[~here]
            start += len(piece)
    return x, x_test

"""Data sets made from features and labels: shuffled, with a test set split off if none is given.

Every problem with an array raises a :class:`~xpnet.errors.DataError` that names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.config.definitions import DataConfig
from xpnet.data.dataset import RawDataset
from xpnet.data.feature_table import ChunkedArray, Table, table_of
from xpnet.data.growing_table import reorder
from xpnet.data.labels import (
    TextLabels,
    as_labels,
    check_count,
    classes_of_numbers,
    classes_of_texts,
    numbering,
    same_classes,
)
from xpnet.data.named_columns import NamedColumns
from xpnet.data.splits import nine_tenths
from xpnet.data.weights import as_weights
from xpnet.errors import DataError, printable
from xpnet.utils.lazy_arrays import Features, Rows
from xpnet.utils.memory import check_room
from xpnet.utils.rng import Purpose, generator


class Arrays(NamedTuple):
    """Training and test arrays, or their names in messages; `weights` are those of the training samples."""

    x: Any
    y: Any
    x_test: Any = None
    y_test: Any = None
    weights: Any = None


@dataclass(frozen=True)
class SplitPolicy:
    """How the samples are ordered and the test set is split off.

    Attributes:
        seed: Seed of the order and of the choice of the test set.
        fraction: Share of every class that becomes the test set; None takes the last tenth of the shuffled rows.
        shuffled: Whether rows are shuffled; data with an order of its own is not.
    """

    seed: int = 0
    fraction: float | None = None
    shuffled: bool = True

    @classmethod
    def of(cls, config: DataConfig, fraction: float | None = None) -> SplitPolicy:
        """Return the policy of the settings, with `fraction` if they have no `test_fraction`."""
        return cls(config.data_seed or 0, fraction if config.test_fraction is None else config.test_fraction)


@dataclass(frozen=True)
class DatasetMetadata:
    """Names and other facts of a data set; see :class:`~xpnet.data.RawDataset`."""

    name: str
    location: str
    class_names: Sequence[str] | None = None
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


def raw_from_arrays(
    arrays: Arrays, names: Arrays, metadata: DatasetMetadata, policy: SplitPolicy | None = None
) -> RawDataset:
    """Return a data set made from arrays: features and labels, and those of a test set if there is one.

    Args:
        arrays: Features (n, d) or images (n, height, width[, channels]) or (n, channels, height, width), as arrays,
            :class:`~xpnet.data.feature_table.ChunkedArray` or :class:`~xpnet.data.feature_table.Table`, or columns by
            name; and labels, whole numbers or texts. With class names, a label is the position of its name, from 0, or
            its name; without, the values that occur become the classes.
        names: Names of the arrays in messages.
        metadata: Names and other facts.
        policy: How test rows are split off; see :func:`raw_from_table`.
    """
    if (arrays.x_test is None) != (arrays.y_test is None):
        has, lacks = (names.x_test, names.y_test)[:: 1 if arrays.y_test is None else -1]
        raise DataError(f"{has} is given without {lacks}; a test set needs both")
    table, labels = _samples(arrays.x, arrays.y, names.x, names.y)
    weights = None if arrays.weights is None else as_weights(arrays.weights, names.weights, table.rows, names.x)
    texts = isinstance(labels, TextLabels)
    # Before the split, since test rows may be the only rows of a class.
    if isinstance(labels, TextLabels):
        labels, classes = _classes_of(labels, metadata.class_names, names.y)
    elif metadata.class_names is None:
        labels, classes = classes_of_numbers(labels, names.y)
        metadata = replace(metadata, notes=(*metadata.notes, *numbering(classes, names.y)))
    else:
        classes = _class_names(metadata.class_names)
        _check_named(labels, classes, names.y)
    test = None
    if arrays.x_test is not None:
        x_test, y_test = _samples(arrays.x_test, arrays.y_test, names.x_test, names.y_test, table)
        if x_test.width != table.width:
            raise DataError(f"{names.x_test} has {x_test.width} features and {names.x} has {table.width}")
        if isinstance(y_test, TextLabels) != texts:
            raise DataError(f"{names.y_test} and {names.y}: one has texts as labels, and the other numbers")
        if isinstance(y_test, TextLabels):
            y_test = same_classes(y_test.codes(), y_test.names, classes, names.y_test)
        elif metadata.class_names is None:
            values, codes = np.unique(y_test, return_inverse=True)
            y_test = same_classes(codes, list(map(str, values.tolist())), classes, names.y_test)
        else:
            _check_named(y_test, classes, names.y_test)
        test = x_test, y_test
    return raw_from_table(table, labels, test, classes, metadata, names.x, policy, weights)


def _check_named(labels: NDArray[np.int64], classes: Sequence[str], name: str) -> None:
    """Refuse labels that are not positions of class names."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise DataError(
            f"class_names has {len(classes)} names for the labels {low} to {high} of {name}; give one for each label, "
            "from 0"
        )
    if low == high:
        check_count(1, len(labels), str(low), name)


def _class_names(given: Any) -> tuple[str, ...]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        raise DataError(f"class_names is a {type(given).__name__}; it must be a sequence of names, one for each class")
    names = tuple(str(name) for name in given)
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"class_names has {name!r}, which cannot be written: half of a character") from None
    return names


def _samples(
    x: Any, y: Any, x_name: str, y_name: str, like: Table | None = None
) -> tuple[Table, NDArray[np.int64] | TextLabels]:
    """Return features and labels; the features in the columns of the table `like`, if it has names."""
    if isinstance(x, Mapping):
        if like is not None and not like.columns:
            raise DataError(f"{x_name} is a mapping of columns, and the training features are not; give both alike")
        table = NamedColumns.of(x, x_name).table(like, x_name)
    else:
        if like is not None and like.columns:
            raise DataError(f"{x_name} has no names of columns, which the training features have; give both alike")
        table = x if isinstance(x, Table) else table_of(x, x_name, missing=True)
    return table, as_labels(y, y_name, table.rows, x_name)


def _classes_of(labels: TextLabels, known: Any, name: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return classes of texts, and the names of all classes: those that are known, or those that occur."""
    if known is None:
        return classes_of_texts(labels, name)
    classes = _class_names(known)
    return same_classes(labels.codes(), labels.names, classes, name), classes


def raw_from_table(
    table: Table,
    labels: NDArray[np.int64],
    test: tuple[Table, NDArray[np.int64]] | None,
    classes: tuple[str, ...],
    metadata: DatasetMetadata,
    name: str,
    policy: SplitPolicy | None = None,
    weights: NDArray[np.float64] | None = None,
) -> RawDataset:
    """Read features into a data set.

    Files are often sorted by class, so the rows for training and validation are shuffled once.  Without a test set,
    some of these rows become the test set; a given test set keeps its order.

    Args:
        table: Features.
        labels: Their classes, from 0.
        test: Features and classes of the test set, if there is one.
        classes: Name of each class.
        metadata: Other facts.
        name: Name of the features in messages.
        policy: Seed, and the share that becomes the test set.
        weights: Weight of each row in the loss.
    """
    policy = policy or SplitPolicy()
    if test is not None and policy.fraction is not None:
        raise DataError(
            f"test_fraction = {policy.fraction:g}: {name} has a test set of its own; leave test_fraction out"
        )
    order = np.arange(table.rows)
    if policy.shuffled:
        order = generator(policy.seed, Purpose.ROWS).permutation(table.rows)
    rest = table.rows if test is not None else _split_off(order, labels, policy.fraction)
    if rest < 2:
        raise DataError(f"{name} has {table.rows} rows; it must leave at least 2, to train and to validate")
    x, x_test = _read(table, name, order, rest)
    labels_test, tested, rows = labels[order[rest:]], table, order[rest:]
    if test is not None:
        x_test, _ = _read(test[0], name, np.arange(test[0].rows), test[0].rows)
        labels_test, tested, rows = test[1], test[0], np.arange(test[0].rows)
    return RawDataset(
        name=printable(metadata.name),
        location=metadata.location,
        x=x,
        labels=labels[order[:rest]],
        x_test=x_test,
        labels_test=labels_test,
        class_names=classes,
        image_shape=table.image_shape,
        default_split=nine_tenths(rest),
        feature_names=table.feature_names,
        notes=metadata.notes,
        about={**metadata.about, "test_set": "split off" if test is None else "its own"},
        weights=None if weights is None else weights[order[:rest]],
        columns=table.described(None if test is None else test[0]),
        lines_test=None if tested.lines_of is None else tested.lines_of(rows),
    )


def _split_off(order: NDArray[np.int64], labels: NDArray[np.int64], fraction: float | None) -> int:
    """Move the test rows to the end of `order`, in place, without other changes; return the number of other rows."""
    if fraction is None:
        return len(order) - max(1, round(len(order) / 10))
    ordered = labels.astype(np.min_scalar_type(int(labels.max())))[order]
    in_test = np.zeros(len(order), bool)
    for c in np.unique(labels):
        places = np.flatnonzero(ordered == c)
        # If a class has several samples, each part gets at least one.
        count = min(max(1, round(fraction * len(places))), len(places) - 1)
        in_test[places[len(places) - count :]] = True
    test_rows = order[in_test]
    rest = len(order) - len(test_rows)
    order[:rest] = order[~in_test]
    order[rest:] = test_rows
    return rest


def _read(table: Table, name: str, order: NDArray[np.int64], rest: int) -> tuple[Features, Features]:
    """Return the first `rest` rows of a table in a given order, and the others, without a second copy."""
    parts = order[:rest], order[rest:]
    if table.disk is not None:
        for _ in table.chunks() if table.dtype.kind == "f" else ():
            pass  # finds values that are not finite
        return Rows(table.disk, parts[0], table.dtype), Rows(table.disk, parts[1], table.dtype)
    if table.owned is not None:
        reorder(table.owned, order)
        return table.owned[:rest], table.owned[rest:]
    check_room(table.rows * table.width * table.dtype.itemsize, name)
    x, x_test = (np.empty((len(rows), table.width), table.dtype) for rows in parts)
    place = np.empty(table.rows, np.int64)
    place[order] = np.arange(table.rows)
    start = 0
    for chunk in table.chunks():
        for rows in ChunkedArray.of(chunk).read():
            to = place[start : start + len(rows)]
            trains = to < rest
            x[to[trains]] = rows if trains.all() else rows[trains]
            x_test[to[~trains] - rest] = rows[~trains]
            start += len(rows)
    return x, x_test

"""Folds of a training set for cross-validation: each fold is held out once, and the others train."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.config.definitions import DataConfig
from xpnet.data.dataset import Dataset, LabelledSet
from xpnet.errors import DataError
from xpnet.utils.lazy_arrays import Features, Rows
from xpnet.utils.rng import Purpose, generator

RowNumbers = NDArray[np.int64]


class Fold(NamedTuple):
    """A fold, as numbers of rows of the training set, in ascending order.

    Attributes:
        train: Rows that train.
        held_out: Rows of the fold itself, on which the network is evaluated.
    """

    train: RowNumbers
    held_out: RowNumbers


def make_folds(
    labels: NDArray[np.int64],
    count: int,
    *,
    seed: int = 0,
    stratified: bool = True,
    class_names: Sequence[str] = (),
) -> list[Fold]:
    """Return folds of a training set; every row is held out by one of them, and their sizes differ by at most one.

    Args:
        labels: Classes of the rows (n,), from 0.
        count: Number of folds.
        seed: Seed of the order in which rows are dealt to the folds.
        stratified: Whether the folds have equally many rows of each class, give or take one.
        class_names: Names of the classes, for messages.

    Raises:
        DataError: There are fewer rows, or fewer rows of a class if `stratified`, than folds.
    """
    n = len(labels)
    if n < count:
        raise DataError(
            f"cv = {count}: the training set has {n} rows, which are fewer than the folds; take a smaller cv"
        )
    dealt = generator(seed, Purpose.FOLDS).permutation(n)
    if stratified:
        rows = np.bincount(labels)
        for label in np.flatnonzero((rows > 0) & (rows < count))[:1].tolist():
            name = class_names[label] if label < len(class_names) else label
            few = f"{rows[label]} row" + ("s" if rows[label] > 1 else "")
            raise DataError(
                f"cv = {count}: the class {name} has {few} in the training set, which are fewer than the folds; take a "
                "smaller cv, or no stratify"
            )
        # One class after another: neighbours go to different folds, so that each class is spread evenly.
        dealt = dealt[np.argsort(labels[dealt], kind="stable")]
    fold_of = np.empty(n, np.int64)
    fold_of[dealt] = np.arange(n) % count
    return [Fold(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(count)]


def rows_of(samples: LabelledSet, rows: RowNumbers | slice) -> LabelledSet:
    """Return some rows of a set; those on the disk stay there."""
    arrays = {field.name: getattr(samples, field.name) for field in dataclasses.fields(LabelledSet)}
    taken: dict[str, Any] = {name: None if v is None else _taken(v, rows) for name, v in arrays.items()}
    return LabelledSet(**taken)


def with_training_rows(
    data: Dataset, rows: RowNumbers, config: DataConfig, *, validation: LabelledSet, test: LabelledSet
) -> Dataset:
    """Return `data` with some of its training rows, and other sets beside them.

    Its transform is of the same kind as before, with the other settings of `config`, and fitted on these rows.
    """
    before = data.transform
    components = None if before.projection is None else before.inputs
    config = dataclasses.replace(config, pool=before.pool, pca=components, in_memory="auto")
    fold = dataclasses.replace(data, train=rows_of(data.train, rows), validation=validation, test=test)
    return fold.refitted(config)


def _taken(values: Features | Any, rows: Any) -> Any:
    return Rows(values.table, values.order[rows], values.dtype) if isinstance(values, Rows) else values[rows]

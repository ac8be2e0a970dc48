"""Training and validation sets: the first rows train, the next ones validate."""

from __future__ import annotations

import re

from xpnet.config.definitions import DataConfig
from xpnet.data.dataset import Dataset, LabelledSet, RawDataset
from xpnet.data.encoder import Encoder
from xpnet.data.transform import Transform
from xpnet.errors import DataError, printable
from xpnet.utils.lazy_arrays import Features, slice_rows
from xpnet.utils.plural import counted

# b1b2: CIFAR-10's first batch trains, its second validates.
NAMED = {"45k": (45_000, 5_000), "49k": (49_000, 1_000), "b1b2": (10_000, 10_000), "9k": (9_000, 1_000)}

_LISTED = 10


def parse_split(split: str) -> tuple[int, int]:
    """Return how many rows train and how many validate.

    Raises:
        DataError: `split` is neither a name nor N/M with both at least 1.
    """
    if isinstance(split, str) and split in NAMED:
        return NAMED[split]
    match = re.fullmatch(r"([0-9]{1,12})/([0-9]{1,12})", split) if isinstance(split, str) else None
    if match is None or not int(match[1]) or not int(match[2]):
        raise DataError(
            f"split = {split!r}: must be {', '.join(NAMED)}, or N/M with both at least 1, such as 9000/1000"
        )
    return int(match[1]), int(match[2])


def nine_tenths(rows: int) -> str:
    """Return the split that trains on nine tenths of `rows`, at least 2, and validates with the rest."""
    validation = max(1, round(rows / 10))
    return f"{rows - validation}/{validation}"


def split_raw(raw: RawDataset, config: DataConfig | None = None, transform: Transform | None = None) -> Dataset:
    """Split a data set and fit the transform on its training set; other settings are of no concern here.

    A `transform` that is given is not fitted.

    Raises:
        DataError: The split is malformed or larger than the data, or it cannot be transformed as asked for.
    """
    config = config or DataConfig()
    split = raw.default_split if config.split is None else config.split
    training, validation = parse_split(split)
    rows = len(raw.labels)
    if training + validation > rows:
        raise DataError(
            f"split = {split}: asks for {training + validation:,} samples, but {raw.name} has {rows:,}; "
            f"take a smaller N/M, or leave it out for {raw.default_split}"
        )
    stop = training + validation

    def part(rows: slice) -> LabelledSet:
        weights = None if raw.weights is None else raw.weights[rows]
        return LabelledSet(slice_rows(raw.x, rows), raw.labels[rows], weights)

    train, notes = part(slice(training)), raw.notes
    if transform is None:
        transform = _fit(raw, train.x, config)
        notes += _encoded(raw, transform.encoder)
    return Dataset(
        name=raw.name,
        location=raw.location,
        split=split,
        train=train,
        validation=part(slice(training, stop)),
        test=LabelledSet(raw.x_test, raw.labels_test, lines=raw.lines_test),
        class_names=raw.class_names,
        image_shape=raw.image_shape,
        transform=transform,
        feature_names=raw.feature_names,
        notes=notes,
        in_memory=config.in_memory,
        columns=raw.columns,
        unused=rows - stop,
    )


def _fit(raw: RawDataset, x: Features, config: DataConfig) -> Transform:
    """Return the transform of the training rows `x`, with the settings, of which none may be without an effect."""
    default, most = DataConfig().max_categories, config.max_categories
    if most != default and all(column.kind != "category" for column in raw.columns):
        raise DataError(f"max_categories = {most}: has no effect on {raw.name}, which has no columns of categories")
    transform = Transform.fit(
        x,
        raw.image_shape,
        config.pool,
        config.pca,
        config.pca_eps,
        columns=raw.columns,
        numeric=config.numeric,
        max_categories=most,
    )
    if config.in_memory == "raw" and transform.encoder is not None:
        raise DataError("in_memory = raw: has no effect on columns that are encoded in a float copy; leave it out")
    return transform


def _encoded(raw: RawDataset, encoder: Encoder | None) -> tuple[str, ...]:
    """Return notes on what an encoder makes of a table."""
    if encoder is None:
        return ()
    kinds = [column.kind for column in encoder.columns]
    gaps = sum(bool(column.gap) for column in raw.columns)
    words = [f"{kinds.count(kind):,} of {kind}s" for kind in ("number", "boolean") if kind in kinds]
    words += [f"{kinds.count('category'):,} of categories"] if "category" in kinds else []
    missing = f", {gaps:,} with missing cells" if gaps else ""
    notes = [
        f"{counted(len(kinds), 'column')} ({', '.join(words)}{missing}) become {counted(encoder.outputs, 'input')}"
    ]
    names = [printable(raw.feature_names[j]) if raw.feature_names else str(j) for j in encoder.unused()]
    if names:
        shown = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
        notes.append(f"left out {counted(len(names), 'column')} with one value in all training rows: {shown}")
    return tuple(notes)

"""Training and validation sets: the first rows train, the next ones validate."""

from __future__ import annotations

import re

from xpnet.config.definitions import DataConfig
from xpnet.data.dataset import Dataset, LabelledSet, RawDataset
from xpnet.data.transform import Transform
from xpnet.errors import DataError
from xpnet.utils.lazy_arrays import slice_rows

# b1b2: CIFAR-10's first batch trains, its second validates.
NAMED = {"45k": (45_000, 5_000), "49k": (49_000, 1_000), "b1b2": (10_000, 10_000), "9k": (9_000, 1_000)}


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


def split_raw(raw: RawDataset, config: DataConfig | None = None) -> Dataset:
    """Split a data set and fit the transform on its training set; other settings are of no concern here.

    Raises:
        DataError: The split is malformed or larger than the data, or it cannot be pooled or projected as asked for.
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

    train = part(slice(training))
    return Dataset(
        name=raw.name,
        location=raw.location,
        split=split,
        train=train,
        validation=part(slice(training, stop)),
        test=LabelledSet(raw.x_test, raw.labels_test),
        class_names=raw.class_names,
        image_shape=raw.image_shape,
        transform=Transform.fit(train.x, raw.image_shape, config.pool, config.pca, config.pca_eps),
        feature_names=raw.feature_names,
        notes=raw.notes,
        in_memory=config.in_memory,
    )

"""Data sets by name or path, or from arrays in memory."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xpnet.config.definitions import DataConfig
from xpnet.data.arrays import Arrays, DatasetMetadata, SplitPolicy, raw_from_arrays
from xpnet.data.column import check_usable
from xpnet.data.dataset import Dataset, RawDataset
from xpnet.data.find import CIFAR10_HINT, NAMES, find, places
from xpnet.data.formats import check_used, read_path
from xpnet.data.patterns import patterns
from xpnet.data.splits import parse_split, split_raw
from xpnet.errors import ConfigError, DataError

_HINT = "put its files into a folder called {} there, or pass their path as --data"

# Location of a data set that was made from arrays.
IN_MEMORY = "arrays in memory"


def load_data(source: str | Path | DataConfig | None = None, split: str | None = None, **settings: Any) -> Dataset:
    """Return a data set, read and split.

    Args:
        source: ``"cifar10"``, ``"cifar100"``, ``"mnist"``, ``"fashion-mnist"``, ``"patterns"``, ``"patterns:N"``,
            ``"patterns:N/M"`` or a path; None takes CIFAR-10 if it is on this machine and ``patterns`` otherwise.
            Nothing is downloaded.  Or all settings together, as :class:`xpnet.DataConfig`.  ``data=`` names it, too.
        split: ``"45k"``, ``"49k"``, ``"b1b2"``, ``"9k"`` or ``"N/M"``: the first N rows train, the next M
            validate; None takes the data's own default.
        **settings: Other settings of :class:`xpnet.DataConfig`, such as ``target="species"`` or ``image_size="32"``.

    Returns:
        The data set, split, with a transform that was fitted on its training set.

    Raises:
        DataError: The data is missing or broken, too small for the split, or a setting has no meaning for it.
        ConfigError: There is no such setting, or its value is out of range.
    """
    config = data_config(source, split, **settings)
    if config.split is not None:
        parse_split(config.split)  # before anything that takes long
    return split_raw(read_raw(config), config)


def data_config(source: str | Path | DataConfig | None = None, split: str | None = None, **settings: Any) -> DataConfig:
    """Return the arguments of :func:`load_data` as one object.

    Raises:
        ConfigError: There is no such setting, or its value is out of range.
    """
    if isinstance(source, DataConfig):
        if split is not None or settings:
            raise ConfigError("source: is a DataConfig, which holds all settings; give no others beside it")
        return source
    if source is None:
        source = settings.pop("data", None)  # its name on the command line and in files
    known = [field.name for field in dataclasses.fields(DataConfig)][2:]
    for name in settings:
        if name not in known:
            raise ConfigError(f"{name}: there is no such setting of data; known are {', '.join(known)}")
    return DataConfig(data=None if source is None else str(source), split=split, **settings)


def data_from_arrays(
    x_train: Any,
    labels_train: Any,
    x_test: Any = None,
    labels_test: Any = None,
    *,
    sample_weight: Any = None,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    test_fraction: float | None = None,
    in_memory: str = "auto",
    pool: int = 1,
    pca: int | None = None,
    pca_eps: float = 1.0,
    numeric: str = "standard",
    max_categories: int = 32,
    data_seed: int | None = None,
) -> Dataset:
    """Return data from arrays in memory, checked, shuffled and split.

    The rows of `x_train` are shuffled once, by `seed`, because such data is often sorted by class; a
    test set that is given keeps its order.

    Args:
        x_train: Features (n, d), or images (n, height, width), (n, height, width, channels) or
            (n, channels, height, width), of NumPy or, like labels and weights, of another library with DLPack, such as
            PyTorch; uint8 is kept, other numbers become floating.  Or the columns of a table: a
            mapping of names to arrays (n,) of numbers, booleans or texts; see :class:`xpnet.data.NamedColumns`.  NaN
            stands for a missing value in both.
        labels_train: Labels (n,), whole numbers or texts. The values that occur become the classes 0, 1, ..., in
            ascending order, and the ``class_names`` of the data set. With `class_names`, numbers are the classes, from
            0.
        x_test: Features of the test set; without them, the last tenth of the shuffled rows becomes the test set.
        labels_test: Labels of the test set.
        sample_weight: Weight of each row of `x_train` in the loss of a training (n,), numbers of at least 0; None for
            equal weights.
        split: ``"N/M"``; None takes a tenth for validation.
        class_names: Names of all classes, even of classes without samples; None takes the labels that occur.
        seed: Seed of the shuffle.
        test_fraction: Share of every class that becomes the test set.
        in_memory: ``"auto"``, ``"raw"`` or ``"float"``; see :class:`xpnet.DataConfig`, also for all that follow.
        pool: Side of the squares of pixels that are averaged.
        pca: Number of principal components that become the inputs of a network.
        pca_eps: Added to their variances.
        numeric: Scale of numbers in a table: ``"standard"``, ``"robust"``, ``"quantile"`` or ``"ple"``.
        max_categories: Most inputs of a column of categories.
        data_seed: The name of `seed` among the settings; it goes before it.

    Returns:
        The data set, split, with a transform that was fitted on its training set.

    Raises:
        DataError: Something about the arrays is wrong; the message names the argument.
        ConfigError: `seed`, `test_fraction` or one of the arguments after it is out of its range.
    """
    config = DataConfig(
        split=split,
        test_fraction=test_fraction,
        data_seed=seed if data_seed is None else data_seed,
        in_memory=in_memory,
        pool=pool,
        pca=pca,
        pca_eps=pca_eps,
        numeric=numeric,
        max_categories=max_categories,
    )
    raw = raw_from_arrays(
        Arrays(x_train, labels_train, x_test, labels_test, sample_weight),
        Arrays("x_train", "labels_train", "x_test", "labels_test", "sample_weight"),
        DatasetMetadata("arrays", IN_MEMORY, class_names),
        SplitPolicy.of(config),
    )
    check_usable(raw.columns)
    return split_raw(raw, config)


def read_raw(source: str | Path | DataConfig | None = None, **settings: Any) -> RawDataset:
    """Read a data set without splitting it; see :func:`load_data`.

    Raises:
        DataError: The data is missing or broken, a setting has no meaning for it, or nothing can be learned from a
            column of a table.
        ConfigError: There is no such setting, or its value is out of range.
    """
    raw = read_any(data_config(source, **settings))
    check_usable(raw.columns)
    return raw


def read_any(config: DataConfig) -> RawDataset:
    """Read a data set as :func:`read_raw` does, with columns from which nothing can be learned."""
    data = config.data
    if data is None or data in NAMES:
        path = find(data or "cifar10")
        if path is not None:
            raw = read_path(path, config)
            # XPNET_DATA may name a file with another data set.
            if data is not None and raw.name != data and raw.name in NAMES:
                raise DataError(f"data = {data}: {path} holds {raw.name}")
            return raw
        if data is not None:
            folders = ", ".join(str(place.absolute()) for place in places())
            hint = CIFAR10_HINT if data == "cifar10" else _HINT.format(data)
            raise DataError(f"data = {data}: is not in {folders}; {hint}")
        data = "patterns"
    if data != "patterns" and not data.startswith("patterns:"):
        return read_path(Path(data).expanduser(), config)
    check_used((), config, data)
    match = re.fullmatch(r"patterns(?::([0-9]{1,9})(?:/([0-9]{1,9}))?)?", data)
    if match is None:
        raise DataError(
            f"data = {data}: must be patterns, patterns:N with N images to train and validate with, "
            "or patterns:N/M with M more to test"
        )
    return patterns(int(match[1] or 10_000), int(match[2] or 2_000))

"""Predictions, and evaluation on data sets whose classes and columns are matched with those of the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.definitions import DataConfig
from xpnet.config.training import TrainConfig
from xpnet.data import Dataset, Encoder, LabelledSet, parse_split, split_raw
from xpnet.data.column import NUMBER, adapted, check_numbers
from xpnet.data.formats import uses
from xpnet.data.labels import same_classes, value_of, without_numbering
from xpnet.data.load import read_any
from xpnet.data.readers.columns import places_of
from xpnet.data.readers.tabular import names_columns, unknown_columns
from xpnet.errors import DataError, RunError, printable
from xpnet.nn.network import Network
from xpnet.training.device_data import check_views, raw_set, set_to_device
from xpnet.training.evaluation import confusion_matrix, evaluate, evaluate_views
from xpnet.training.history import Metrics


def predict(network: Network, x: NDArray[Any], views: int = 1) -> NDArray[np.float64]:
    """Return the class probabilities (n, classes) of raw features, averaged over views of pictures and the networks.

    Networks that have diverged are left out.

    Raises:
        DataError: See :meth:`xpnet.Network.predict_proba`.
        RunError: The network does not know how its data was standardised, or all networks have diverged.
    """
    if network.transform is None:
        raise RunError("the network does not say how its data was standardised; train it with xpnet train")
    probabilities = network.backend.to_numpy(network.predict_proba(x, views=views)).astype(np.float64)
    good = np.isfinite(probabilities).all(axis=(1, 2))
    if not good.any():
        raise RunError("the network has diverged in training; it predicts nothing")
    return np.asarray(probabilities[good].mean(axis=0))


def evaluate_sets(
    network: Network, data: Dataset, sets: Sequence[str], lam: NDArray[Any]
) -> tuple[Metrics, NDArray[np.int64], int]:
    """Evaluate networks on sets of a data set that :func:`as_trained` returned.

    Returns:
        The figures over all the samples, the confusion matrices (R, classes, classes), and the number of samples.
    """
    figures, matrices, counts = [], [], []
    for name in sets:
        part = set_to_device(data, name, network.backend, network.dtype)
        figures.append(evaluate(network, part.x, part.labels, lam))
        matrices.append(confusion_matrix(network, part.x, part.labels))
        counts.append(len(getattr(data, name)))
    return _weighted(figures, counts), np.sum(matrices, axis=0), sum(counts)


def evaluate_sets_in_views(network: Network, data: Dataset, sets: Sequence[str], views: int) -> Metrics:
    """Return the figures over all samples of some sets, with probabilities averaged over views of each picture.

    Raises:
        DataError: The data has no pictures.
    """
    check_views(data, TrainConfig(views=views))
    figures, counts = [], []
    for name in sets:
        part = raw_set(data, name, network.backend, network.dtype)
        figures.append(evaluate_views(network, part.x, part.labels, views))
        counts.append(len(getattr(data, name)))
    return _weighted(figures, counts)


def _weighted(figures: Sequence[Metrics], counts: Sequence[int]) -> Metrics:
    """Return the figures of several sets together, which have `counts` samples."""
    if len(figures) == 1:
        return figures[0]
    weights = np.array(counts) / sum(counts)
    return Metrics(*(weights @ np.stack(values) for values in zip(*(one.arrays() for one in figures), strict=True)))


def load_for(network: Network, config: DataConfig) -> Dataset:
    """Return a data set, read and split for :func:`as_trained`: the transform is the network's, and none is fitted.

    Raises:
        DataError: The data is missing or broken, or too small for the split.
    """
    config = dataclasses.replace(config, pool=1, pca=None, numeric="standard", max_categories=32)
    if config.split is not None:
        parse_split(config.split)  # before anything that takes long
    return split_raw(read_any(config), config, network.transform)


def as_trained(network: Network, data: Dataset) -> Dataset:
    """Return data in the form that a network takes: with its transform, its columns and its class numbers.

    Raises:
        DataError: The data does not fit the network, has a class that the network does not know, or lacks a column.
    """
    place = f"data = {data.location}"
    transform = network.transform or data.transform
    if network.feature_names and data.feature_names and network.feature_names != data.feature_names:
        order = places_of(network.feature_names, data.feature_names, place)
        data = _with_sets(data, lambda part: dataclasses.replace(part, x=part.x[:, order]))
        columns = tuple(data.columns[i] for i in order) if data.columns else ()
        data = dataclasses.replace(data, feature_names=network.feature_names, columns=columns)
    names = _names_for(network, data)
    more = names != network.class_names and data.classes > network.config.classes
    features = network.features
    if data.features != features or more:
        raise DataError(
            f"{place}: has {data.features} features and {data.classes} classes, but the network "
            f"takes {features} and tells {network.config.classes} apart"
        )
    data = dataclasses.replace(_with_codes(data, transform.encoder, place), transform=transform)
    if names is None or names[: data.classes] == data.class_names:
        return data
    theirs = data.class_names

    def renamed(part: LabelledSet) -> LabelledSet:
        return dataclasses.replace(part, labels=same_classes(part.labels, theirs, names, place))

    data = _with_sets(data, renamed)
    notes = without_numbering(data.notes)
    return dataclasses.replace(data, class_names=network.class_names or names, notes=notes)


def _with_codes(data: Dataset, encoder: Encoder | None, place: str) -> Dataset:
    """Return data whose features are the codes that an encoder, of a network, takes."""
    names = data.feature_names or tuple(map(str, range(data.features)))
    titles = [f"{place}: column {printable(name)}" for name in names]
    if encoder is None:
        check_numbers(data.columns, titles[: len(data.columns)])
        return data
    own = data.columns or (NUMBER,) * data.features
    if [(c.kind, c.categories) for c in own] == [(c.kind, c.categories) for c in encoder.columns]:
        return data
    data = _with_sets(data, lambda part: LabelledSet(adapted(part.x[:], own, encoder.columns, titles), part.labels))
    return dataclasses.replace(data, columns=encoder.columns)


def _with_sets(data: Dataset, change: Callable[[LabelledSet], LabelledSet]) -> Dataset:
    """Return data with every set changed."""
    sets = {name: change(getattr(data, name)) for name in data.counts}
    return dataclasses.replace(data, **sets)  # type: ignore[arg-type]


def _names_for(network: Network, data: Dataset) -> tuple[str, ...] | None:
    """Return the names of a network's classes in `data`; None if equal class numbers mean equal classes."""
    numbers = tuple(map(str, range(network.config.classes)))
    mine, theirs = ({value_of(name) for name in of} for of in (network.class_names, data.class_names))
    labels_are_numbers = all(isinstance(value, Decimal) for value in theirs)
    if not mine:
        return numbers if labels_are_numbers and data.classes != network.config.classes else None
    if mine & theirs or labels_are_numbers == all(isinstance(value, Decimal) for value in mine):
        return network.class_names
    # If only one side has names, the numbers of the other side are positions of the named classes.
    return numbers if labels_are_numbers else None


def names_of_classes(network: Network, others: Sequence[str] = ()) -> tuple[str, ...]:
    """Return a name for each of a network's classes: its own, those of `others` where it has none, or the number."""
    known = network.class_names or tuple(others)
    return tuple(known[c] if c < len(known) else str(c) for c in range(network.config.classes))


def read_like(network: Network, own: DataConfig, other: DataConfig) -> DataConfig:
    """Return settings for reading other data: image form and label column default to those of the network's data.

    `own` are the settings of the network's training data, as far as they are known.
    """
    path = Path(other.data or "").expanduser()
    used = uses(path) if other.data else ()
    guess: dict[str, Any] = {"target": own.target, "header": own.header}
    if "drop_columns" in used:
        guess["drop_columns"] = unknown_columns(path, network.feature_names, other.target or own.target) or None
    if own.header is None and "header" in used and names_columns(path, network.feature_names):
        guess["header"] = True
    if network.image_shape is not None:
        channels, height, width = network.image_shape
        guess |= {"image_size": f"{height}x{width}", "image_mode": "gray" if channels == 1 else "rgb"}
    new = {name: value for name, value in guess.items() if name in used and getattr(other, name) is None}
    # The labels of a .npy file lie beside it, not where the labels of the training data are.
    if other.data is not None and other.data.endswith(".npy"):
        new.pop("target", None)
    return dataclasses.replace(other, **new)

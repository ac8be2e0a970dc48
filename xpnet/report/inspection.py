"""Evaluation of a run's networks on the test set: confusion matrix and worst mistakes; first-layer weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.analysis.prediction import as_trained, load_for, read_like
from xpnet.analysis.scores import Importance, permutation_importance
from xpnet.config.definitions import DataConfig
from xpnet.data import Dataset
from xpnet.errors import DataError, XpnetError
from xpnet.nn.network import Network
from xpnet.report.format import class_label
from xpnet.report.records import RunRecord
from xpnet.report.render import data_uri
from xpnet.training.history import evenly

# Shapes (channels, height, width) by the number of features, for data without a known shape.
IMAGE_SHAPES = {3072: (3, 32, 32), 784: (1, 28, 28)}
_BATCH = 500
# Most networks to evaluate: more would take much memory and add little.
MOST_NETWORKS = 100
# Most features whose importance is measured: a longer list tells nothing.
MOST_FEATURES = 40
# Accuracies that differ by more than this cannot be from the same samples.
_SAME = 2e-3
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Mistake:
    """A misclassified sample.

    Attributes:
        index: Its row in the test set, from 0.
        line: Its line in the file of a table, from 1; None if there is none.
        true: The true class.
        predicted: The predicted class.
        confidence: Probability of the predicted class.
        probability: Probability of the true class.
        picture: Its image as a data URI; None if samples are not images.
        features: The features farthest from the training set's mean, as (number, value, distance in standard
            deviations).
    """

    index: int
    true: int
    predicted: int
    confidence: float
    probability: float
    picture: str | None
    features: list[tuple[int | str, float, float]]
    line: int | None = None


@dataclass(frozen=True)
class Inspection:
    """The results of a run's networks on its test set.

    Attributes:
        names: Names of the classes.
        members: The evaluated replicas: those of the best combination that have not diverged.
        confusion: (classes, classes), rows are true classes, summed over the networks.
        mistakes: The worst mistakes, sorted by the probability of the true class (mean over the networks), lowest
            first.
        wrong: Number of samples that the mean of the networks misclassifies.
        samples: Number of samples in the test set.
        correct: Whether each of the `members` is correct on each sample (R, samples).
        note: A warning about the data; empty if there is none.
        probabilities: Probabilities of the classes, means over the networks (samples, classes).
        labels: The true classes (samples,).
        features: Names of the features; empty for pictures and for data without names.
        importance: How much accuracy is lost without each feature; None for pictures, and if there are many.
    """

    names: tuple[str, ...]
    members: list[int]
    confusion: NDArray[np.int64]
    mistakes: list[Mistake]
    wrong: int
    samples: int
    correct: NDArray[np.bool_]
    note: str = ""
    probabilities: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    labels: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    features: tuple[str, ...] = ()
    importance: Importance | None = None


def inspect(record: RunRecord, data: str | None, most: int) -> Inspection | str:
    """Return the results of a run's networks on its test set, or a sentence on why they cannot be tested.

    Args:
        record: The run.
        data: The present location of its data; None takes the location in the run's settings.
        most: Largest number of mistakes to keep.
    """
    if record.inputs is None:
        return "There is no model in the folder, so nothing can be said about single samples."
    try:
        network = Network.load(record.path)
        # The split belongs to the run's own data; the test set does not depend on it.
        own = record.settings.data
        dataset = load_for(network, own if data is None else read_like(network, own, DataConfig(data=data)))
    except XpnetError as error:
        return f"Confusion matrix and mistakes need the data, which cannot be read: {error}."
    if network.transform is None:
        return "The model does not say how its data was standardised, so nothing can be said about single samples."
    if dataset.features != network.features or dataset.classes > network.config.classes:
        return (
            f"The data at {dataset.location} has {dataset.features} features and {dataset.classes} classes, but the "
            f"network takes {network.features} and tells {network.config.classes} apart, so it is left out here."
        )
    try:
        dataset = as_trained(network, dataset)
    except XpnetError as error:
        return f"Confusion matrix and mistakes need the run's own classes and columns: {error}."
    best = record.best()[1]
    members = [r for r in best if np.isfinite(record.figures("test", "loss")[r])]
    if not members and record.metrics is not None:
        return "All networks of the run diverged, so nothing can be said about single samples."
    members = members or best
    some = [members[at] for at in evenly(len(members), MOST_NETWORKS).tolist()]
    try:
        inspection = _inspect(record, network.select(some), dataset, some, most)
    except DataError as error:
        return f"Confusion matrix and mistakes cannot be had of the data as it is now: {error}."
    if len(some) == len(members):
        return inspection
    words = f"These are {len(some)} of the {len(members):,} best networks, evenly spaced. {inspection.note}"
    return replace(inspection, note=words.strip())


def _inspect(record: RunRecord, network: Network, data: Dataset, members: list[int], most: int) -> Inspection:
    """Inspect the networks `members` of a run, which `network` holds."""
    test, classes = data.test, network.config.classes
    n = len(test)
    confusion = np.zeros((classes, classes), np.int64)
    correct = np.zeros((len(members), n), bool)
    mean = np.empty((n, classes))
    for start in range(0, n, _BATCH):
        rows = slice(start, min(start + _BATCH, n))
        p = network.predict_proba(test.x[rows])
        predicted = p.argmax(axis=-1)
        correct[:, rows] = predicted == test.labels[rows]
        np.add.at(confusion, (np.broadcast_to(test.labels[rows], predicted.shape), predicted), 1)
        mean[rows] = p.mean(axis=0, dtype=np.float64)
    wrong = np.flatnonzero(mean.argmax(axis=1) != test.labels)
    worst = wrong[np.argsort(mean[wrong, test.labels[wrong]], kind="stable")][:most]
    names = network.class_names or data.class_names
    names = tuple(class_label(names[c], c) if c < len(names) else str(c) for c in range(classes))
    mistakes = [_mistake(network, data, index, mean[index]) for index in map(int, worst)]
    warnings = [f"{words[9:]}." for words in data.notes if words.startswith("warning: ")]
    note = " ".join([*warnings, _other_data(record, correct.mean(axis=1), members)]).strip()
    labels = np.asarray(test.labels, np.int64)
    table = image_shape(data) is None
    few = table and bool(most) and data.features <= MOST_FEATURES
    importance = permutation_importance(network, test.x, labels) if few else None
    features = (network.feature_names or data.feature_names) if table else ()
    found = Inspection(names, members, confusion, mistakes, len(wrong), n, correct, note)
    return replace(found, probabilities=mean, labels=labels, features=features, importance=importance)


def _mistake(network: Network, data: Dataset, index: int, p: NDArray[np.float64]) -> Mistake:
    """Return a misclassified sample of the test set, for the networks' probabilities `p` (classes,)."""
    x, true, shape = data.test.x[index], int(data.test.labels[index]), image_shape(data)
    assert network.transform is not None
    standardiser, encoder = network.transform.plain_standardiser(), network.transform.encoder
    own = network.feature_names or data.feature_names
    values = np.asarray(x, float) if encoder is None else encoder(x[None])[0]
    z = (values - standardiser.mean) / standardiser.std
    far = np.argsort(-np.abs(z), kind="stable")[:4]
    picture = None if shape is None else picture_of(to_bytes(x, data), shape)
    names = encoder.output_names(network.feature_names) if encoder is not None else own if len(own) == len(z) else None
    features: list[tuple[int | str, float, float]] = [
        (int(i) if not names else names[i], float(values[i]), float(z[i])) for i in far
    ]
    line = None if data.test.lines is None else int(data.test.lines[index])
    return Mistake(index, true, int(p.argmax()), float(p.max()), float(p[true]), picture, features, line)


def _other_data(record: RunRecord, accuracies: NDArray[Any], members: list[int]) -> str:
    """Return a warning if the networks' accuracies differ from those at the end of their training, else nothing."""
    known = record.figures("test", "accuracy")[members]
    apart = np.abs(accuracies - known)
    if not np.isfinite(apart).any() or float(np.nanmax(apart)) <= _SAME:
        return ""
    worst = int(np.nanargmax(apart))
    return (
        f"The data is not what the run was tested on: its accuracy was {100 * known[worst]:.2f} % then and is "
        f"{100 * accuracies[worst]:.2f} % on the data as it is now."
    )


def image_shape(data: Dataset) -> Shape | None:
    """Return (channels, height, width) if samples are images, as the data says or by its number of features."""
    return data.image_shape or IMAGE_SHAPES.get(data.features)


def to_bytes(x: NDArray[Any], data: Dataset) -> NDArray[np.uint8]:
    """Return one sample's features as bytes for a picture; floats are scaled from [0, 1] or the test set's range."""
    some = data.test.x[:1000]
    if x.dtype == np.uint8:
        # An image of 0 and 1 would be all black.
        return x if int(some.max()) > 1 else x * np.uint8(255)
    low, high = float(some.min()), float(some.max())
    if low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    scaled = (np.asarray(x, float) - low) / (high - low or 1.0)
    return np.asarray(np.clip(np.rint(255 * scaled), 0, 255), np.uint8)


def picture_of(values: NDArray[np.uint8], shape: Shape) -> str:
    """Return channel planes as a PNG in a data URI."""
    return data_uri(values.reshape(shape))


def weight_pictures(W: NDArray[Any], shape: Shape) -> list[str]:
    """Return each unit's weights (d, m) as a picture: grey is zero, the unit's largest weight sets the scale."""
    W = np.asarray(W, float)
    largest = np.abs(W).max(axis=0)
    scaled = np.rint(127.5 + 127.5 * W / np.where(largest > 0, largest, 1.0)).astype(np.uint8)
    return [picture_of(np.ascontiguousarray(weights), shape) for weights in scaled.T]


@dataclass(frozen=True)
class FirstLayer:
    """The weights of the features in the first layer of a network.

    Attributes:
        weights: By feature and unit (d, m).
        replica: The number of the network.
        names: Names of the features; empty if they have none.
        shape: (channels, height, width) if a row is a picture; else None.
    """

    weights: NDArray[Any]
    replica: int
    names: tuple[str, ...]
    shape: Shape | None


def first_layer(record: RunRecord, members: list[int]) -> FirstLayer | None:
    """Return the first layer of the first of `members`; None if there is no model.

    If features are pooled or projected, these are the weights of :meth:`xpnet.Network.folded`.
    """
    if record.inputs is None:
        return None
    which = members[0] if members else 0
    network = Network.load(record.path).select([which])
    if network.transform is not None and not network.transform.plain:
        network = network.folded()
    encoder = None if network.transform is None else network.transform.encoder
    names = network.feature_names if encoder is None else encoder.output_names(network.feature_names)
    W = np.asarray(network.parameters["W1"])[0]
    shape = network.image_shape or IMAGE_SHAPES.get(len(W))
    return FirstLayer(W, which, names if len(names) == len(W) else (), shape)

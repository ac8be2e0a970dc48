"""Networks on other data than they were trained on: classes are the same where their labels are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.analysis.prediction import as_trained, evaluate_sets, names_of_classes
from xpnet.errors import DataError

ROWS = 120


def samples(labels: tuple, *, seed: int = 0, **options) -> xpnet.Dataset:
    """Return data of which the first feature is the place of a row's label among `labels`."""
    places = np.arange(ROWS) % len(labels)
    x = np.random.default_rng(seed).standard_normal((ROWS, 3))
    x[:, 0] = places
    return xpnet.data_from_arrays(x, np.array(labels)[places], split="80/20", **options)


def table(path: str, labels: tuple[str, ...]) -> xpnet.Dataset:
    """Return the samples of :func:`samples` from a table with labels as they are written."""
    places = np.arange(ROWS) % len(labels)
    rows = "".join(f"{i},0.5,0.25,{labels[i]}\n" for i in places)
    Path(path).write_text("a,b,c,label\n" + rows)
    return xpnet.load_data(path, split="80/20")


def network(class_names: tuple[str, ...], classes: int | None = None) -> xpnet.Network:
    net = xpnet.Network(xpnet.NetworkConfig(inputs=3, hidden=(), classes=classes or len(class_names)))
    net.class_names = class_names
    return net


def classes_by_place(net: xpnet.Network, data: xpnet.Dataset, count: int) -> list[int]:
    """Return the network's class of each label, in the order in which `samples` was given them."""
    found = as_trained(net, data)
    # What is said of the numbers of classes is said of the network's.
    assert found.notes == (data.notes if found.class_names == data.class_names else ())
    for part in (found.train, found.validation, found.test):
        assert set(part.labels) <= set(range(net.config.classes))
    return [int(found.train.labels[found.train.x[:, 0] == place][0]) for place in range(count)]


@pytest.mark.parametrize(
    ("known", "labels", "expected"),
    [
        (("1", "2", "3"), (1, 2, 3), [0, 1, 2]),
        (("1", "2", "3"), (3, 1), [2, 0]),
        (("1", "2", "3"), (3.0, 2.0), [2, 1]),
        (("0", "1", "2", "3"), (1, 2, 3), [1, 2, 3]),  # of an earlier version: an empty class 0
        (("-1.0", "1.0"), (-1, 1), [0, 1]),
        (("ash", "birch", "cedar"), (0, 2), [0, 2]),  # numbers count classes that have names
        ((), (0, 2), [0, 2]),
        ((), (5, 6, 7), [0, 1, 2]),
    ],
)
def test_labels_of_arrays_are_the_networks(known, labels, expected):
    assert classes_by_place(network(known, 3 if not known else None), samples(labels), len(labels)) == expected


@pytest.mark.parametrize(
    ("known", "labels", "expected"),
    [
        (("1", "2", "3"), ("2.0", "3.0", "1.0"), [1, 2, 0]),
        (("-1", "1"), ("1.0", "-1.0"), [1, 0]),
        (("-1.0", "1.0"), ("1", "-1"), [1, 0]),
        (("ash", "birch"), ("birch", "ash"), [1, 0]),
        (("1", "2"), ("b", "a"), [1, 0]),  # numbers and names have nothing in common but their order
    ],
)
def test_labels_of_tables_are_the_networks(known, labels, expected):
    assert classes_by_place(network(known), table("t.csv", labels), len(labels)) == expected


@pytest.mark.parametrize(
    ("known", "labels", "message"),
    [
        (("1", "2", "3"), (0, 1), "has the class 0, which is none of those known: 1, 2, 3"),
        (("ash", "birch"), (1, 2), "has the class 2, which is none of those known: 0, 1"),
        ((), (0, 1, 2, 3), "has 3 features and 4 classes, but the network takes 3 and tells 3 apart"),
        ((), (0, 3), "has the class 3, which is none of those known: 0, 1, 2"),
    ],
)
def test_labels_that_the_network_does_not_know_are_refused(known, labels, message):
    with pytest.raises(DataError, match=message):
        as_trained(network(known, 3 if not known else None), samples(labels))


def test_a_network_of_labels_from_one_is_evaluated_on_any_of_them():
    data = samples((1, 2, 3))
    net = xpnet.Network(xpnet.NetworkConfig(inputs=3, hidden=(6,), classes=data.classes))
    result = xpnet.train(net, data, xpnet.TrainConfig(epochs=30, batch_size=10))
    assert (net.config.classes, net.class_names, names_of_classes(net)) == (3, ("1", "2", "3"), ("1", "2", "3"))
    assert result.test.accuracy == 1
    for other in (samples((1, 2, 3), seed=1), samples((1, 2, 3), class_names=("0", "1", "2", "3"))):
        metrics, confusion, _ = evaluate_sets(net, as_trained(net, other), ["test"], np.array(0.0))
        assert metrics.accuracies.tolist() == [1]
        assert confusion.shape == (1, 3, 3)

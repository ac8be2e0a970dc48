"""Full passes over a set of samples, with the running statistics."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Array
from xpnet.data import StandardisedBytes
from xpnet.history import Metrics
from xpnet.network import Network
from xpnet.ops.blas import on_all_cores

# Rows of a full pass are taken in chunks whose widest activation is about this large.
_CHUNK_BYTES = 16 * 2**20


def evaluate(network: Network, x: Array, labels: Array, lam: Any = 0.0) -> Metrics:
    """Evaluate R networks on standardised samples with the running statistics, in one full pass.

    Args:
        network: The networks.
        x: Features (n, d) on the network's device.
        labels: Classes (n,).
        lam: Strength of the penalty in the cost, a number or one for each replica.
    """
    xp, n = network.backend.xp, int(x.shape[0])

    def chunk(rows: slice) -> tuple[Array, Array]:
        entropy = network.ops.softmax_cross_entropy(network.scores(_features(network, x, rows)), labels[rows], 1.0)
        return entropy.losses.sum(axis=-1, dtype="float64"), entropy.correct.sum(axis=-1)

    jobs = [partial(chunk, rows) for rows in _chunks(network, n)]
    results = on_all_cores(jobs) if network.backend.name == "cpu" else [job() for job in jobs]
    losses = xp.zeros((network.replicas,), dtype="float64")
    hits = xp.zeros((network.replicas,), dtype="int64")
    for loss, hit in results:
        losses += loss
        hits += hit
    squares = sum(xp.sum(network.parameters[layer.W].astype("float64") ** 2, axis=(-2, -1)) for layer in network.layers)
    to_numpy = network.backend.to_numpy
    mean = to_numpy(losses) / n
    return Metrics(to_numpy(hits) / n, mean, mean + np.asarray(lam) * to_numpy(squares))


def confusion_matrix(network: Network, x: Array, labels: Array) -> NDArray[np.int64]:
    """Count samples by class and by prediction: (R, classes, classes), rows are true classes."""
    xp, c = network.backend.xp, network.config.classes
    counts = np.zeros((network.replicas, c, c), np.int64)
    for rows in _chunks(network, int(x.shape[0])):
        predicted = network.backend.to_numpy(xp.argmax(network.scores(_features(network, x, rows)), axis=-1))
        true = network.backend.to_numpy(labels[rows])
        for r in range(network.replicas):
            np.add.at(counts[r], (true, predicted[r]), 1)
    return counts


def _features(network: Network, x: Any, rows: slice) -> Array:
    if isinstance(x, StandardisedBytes):
        return network.ops.gather(np.arange(rows.start, rows.stop), x)
    return x[rows]


def _chunks(network: Network, n: int) -> list[slice]:
    widest = max(*network.config.hidden, network.config.classes, 1) * network.replicas * network.dtype.itemsize
    size = max(64, min(1000, _CHUNK_BYTES // widest))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
